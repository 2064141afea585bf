package ctmpl

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"dario.cat/mergo"
)

// in reports whether a list has an element, or a text a part: in list element.
func in(list, element any) bool {
	l, e := reflect.ValueOf(list), reflect.ValueOf(element)
	switch {
	case l.Kind() == reflect.String:
		return e.IsValid() && e.Type() == l.Type() && strings.Contains(l.String(), e.String())
	case l.Kind() != reflect.Array && l.Kind() != reflect.Slice:
		return false
	}
	for i := range l.Len() {
		if equal(l.Index(i), e) {
			return true
		}
	}
	return false
}

// equal compares whole numbers, floats and texts as consul-template does: whatever their sizes.
func equal(a, b reflect.Value) bool {
	if a.Kind() == reflect.Interface {
		a = a.Elem()
	}
	switch {
	case !a.IsValid() || !b.IsValid():
		return false
	case a.CanInt():
		return b.CanInt() && a.Int() == b.Int()
	case a.CanFloat():
		return b.CanFloat() && a.Float() == b.Float()
	case a.Kind() == reflect.String:
		return a.Type() == b.Type() && a.String() == b.String()
	}
	return false
}

// containsSome returns a function that compares how many of some elements a list has.
func containsSome(all, without bool) func(elements []any, list any) bool {
	return func(elements []any, list any) bool {
		for _, e := range elements {
			if in(list, e) != without {
				return !all
			}
		}
		return all
	}
}

// explode makes a tree of maps of keys with slashes.
func explode(pairs []*KeyPair) (map[string]any, error) {
	m := make(map[string]any)
	for _, p := range pairs {
		if err := plant(m, p.Key, p.Value); err != nil {
			return nil, fmt.Errorf("explode: %w", err)
		}
	}
	return m, nil
}

func explodeMap(flat map[string]any) (map[string]any, error) {
	m := make(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(flat)) {
		if err := plant(m, key, flat[key]); err != nil {
			return nil, fmt.Errorf("explodeMap: %w", err)
		}
	}
	return m, nil
}

func plant(m map[string]any, key string, value any) error {
	whole := key
	for {
		top, rest, deeper := strings.Cut(key, "/")
		if !deeper {
			if key != "" {
				m[key] = value
			}
			return nil
		}
		if _, taken := m[top]; !taken {
			m[top] = make(map[string]any)
		}
		below, ok := m[top].(map[string]any)
		if !ok {
			return fmt.Errorf("%q: %q has the value %q already", whole, top, m[top])
		}
		m, key = below, rest
	}
}

func mergeMap(into, from map[string]any) (map[string]any, error) {
	err := mergo.Map(&into, from)
	return into, err
}

func mergeMapWithOverride(into, from map[string]any) (map[string]any, error) {
	err := mergo.Map(&into, from, mergo.WithOverride)
	return into, err
}

// maxLoop bounds a loop: a label's number is no reason to print for ever.
const maxLoop = 1 << 20

// loop returns the numbers from start, or 0, up to and without stop.
func loop(limits ...any) ([]int64, error) {
	if len(limits) == 1 {
		limits = []any{0, limits[0]}
	}
	if len(limits) != 2 {
		return nil, fmt.Errorf("loop: want 1 or 2 numbers, not %d", len(limits))
	}
	from, err := whole(limits[0])
	if err != nil {
		return nil, err
	}
	to, err := whole(limits[1])
	if err != nil {
		return nil, err
	}
	if to-from > maxLoop {
		return nil, fmt.Errorf("loop: from %d to %d is more than %d times", from, to, maxLoop)
	}
	var list []int64
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list, nil
}

// whole reads a whole number, also from a text.
func whole(v any) (int64, error) {
	if r := reflect.ValueOf(v); r.Kind() == reflect.String {
		return parseInt(r.String())
	}
	n, err := numberOf("loop", v)
	if err == nil && n.kind == 'f' {
		err = fmt.Errorf("loop: want a whole number, not %v", v)
	}
	return n.signed(), err
}
