package ctmpl

import (
	"fmt"
	"reflect"
)

// number is a value of any numeric type; exactly one of its kinds is meant.
type number struct {
	kind byte // 'i', 'u' or 'f'
	i    int64
	u    uint64
	f    float64
}

func numberOf(name string, v any) (number, error) {
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return number{kind: 'i', i: r.Int()}, nil
	case r.CanUint() && r.Kind() != reflect.Uintptr:
		return number{kind: 'u', u: r.Uint()}, nil
	case r.CanFloat():
		return number{kind: 'f', f: r.Float()}, nil
	}
	return number{}, fmt.Errorf("%s: want numbers, not %v (%T)", name, v, v)
}

func (n number) value() any {
	switch n.kind {
	case 'i':
		return n.i
	case 'u':
		return n.u
	}
	return n.f
}

func (n number) float() float64 {
	switch n.kind {
	case 'i':
		return float64(n.i)
	case 'u':
		return float64(n.u)
	}
	return n.f
}

// arithmetic is a function of two numbers, the second of which comes first, so that it can be
// piped: {{5 | subtract 2}} is 3. Both unsigned: unsigned; one a float: float; else signed.
type arithmetic struct {
	name string
	i    func(a, b int64) int64
	u    func(a, b uint64) uint64
	f    func(a, b float64) float64 // nil for none
}

func (o arithmetic) apply(b, a any) (any, error) {
	x, err := numberOf(o.name, a)
	if err != nil {
		return nil, err
	}
	y, err := numberOf(o.name, b)
	if err != nil {
		return nil, err
	}
	switch {
	case x.kind == 'f' || y.kind == 'f':
		if o.f == nil {
			return nil, fmt.Errorf("%s: want whole numbers, not %v and %v", o.name, a, b)
		}
		return o.f(x.float(), y.float()), nil
	case x.kind == 'u' && y.kind == 'u':
		if divides(o.name) && y.u == 0 {
			return nil, fmt.Errorf("%s: by zero", o.name)
		}
		return o.u(x.u, y.u), nil
	}
	i, j := x.signed(), y.signed()
	if divides(o.name) && j == 0 {
		return nil, fmt.Errorf("%s: by zero", o.name)
	}
	return o.i(i, j), nil
}

func divides(name string) bool { return name == "divide" || name == "modulo" }

func (n number) signed() int64 {
	if n.kind == 'u' {
		return int64(n.u)
	}
	return n.i
}

var arithmetics = []arithmetic{
	{"add", func(a, b int64) int64 { return a + b }, func(a, b uint64) uint64 { return a + b }, func(a, b float64) float64 { return a + b }},
	{"subtract", func(a, b int64) int64 { return a - b }, func(a, b uint64) uint64 { return a - b }, func(a, b float64) float64 { return a - b }},
	{"multiply", func(a, b int64) int64 { return a * b }, func(a, b uint64) uint64 { return a * b }, func(a, b float64) float64 { return a * b }},
	{"divide", func(a, b int64) int64 { return a / b }, func(a, b uint64) uint64 { return a / b }, func(a, b float64) float64 { return a / b }},
	{"modulo", func(a, b int64) int64 { return a % b }, func(a, b uint64) uint64 { return a % b }, nil},
}

// extreme returns the smaller or the greater of two numbers, in its own type.
func extreme(name string, greater bool) func(b, a any) (any, error) {
	return func(b, a any) (any, error) {
		x, err := numberOf(name, a)
		if err != nil {
			return nil, err
		}
		y, err := numberOf(name, b)
		if err != nil {
			return nil, err
		}
		less := x.less(y)
		if greater {
			less = y.less(x)
		}
		if less {
			return x.value(), nil
		}
		return y.value(), nil
	}
}

func (n number) less(m number) bool {
	switch {
	case n.kind == 'f' || m.kind == 'f':
		return n.float() < m.float()
	case n.kind == 'u' && m.kind == 'u':
		return n.u < m.u
	}
	return n.signed() < m.signed()
}
