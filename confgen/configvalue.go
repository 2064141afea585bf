package main

import (
	"math/big"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// value evaluates an attribute that is to be of the same type as example.
func (d *decoder) value(a *hclsyntax.Attribute, example any) (any, bool) {
	v, diags := a.Expr.Value(d.eval)
	if diags.HasErrors() {
		d.diags = append(d.diags, diags...)
		return nil, false
	}
	at := a.Expr.Range()
	if v.IsNull() || !v.IsWhollyKnown() {
		d.say(at, "%s: want a value; leave the line out for the default", a.Name)
		return nil, false
	}
	got, want := convert(v, example)
	if want != "" {
		d.say(at, "%s: want %s", a.Name, want)
		return nil, false
	}
	return got, true
}

// convert returns a value as Go knows it, or says what was wanted instead. There is no guessing:
// "80" is no number and 80 no text.
func convert(v cty.Value, example any) (got any, want string) {
	switch example.(type) {
	case bool:
		if v.Type() == cty.Bool {
			return v.True(), ""
		}
		return nil, "true or false"
	case int:
		if v.Type() == cty.Number {
			if n, accuracy := v.AsBigFloat().Int64(); accuracy == big.Exact {
				return int(n), ""
			}
		}
		return nil, "a whole number, without quotes"
	case time.Duration:
		if v.Type() == cty.String {
			if length, err := time.ParseDuration(v.AsString()); err == nil {
				return length, ""
			}
		}
		return nil, `a time, such as "500ms", "10s" or "1h30m"`
	case []string:
		return convertList(v)
	}
	if v.Type() == cty.String {
		return v.AsString(), ""
	}
	return nil, "a text in quotes"
}

func convertList(v cty.Value) (any, string) {
	const want = `a list of texts, such as ["a", "b"]`
	if !v.Type().IsTupleType() && !v.Type().IsListType() {
		return nil, want
	}
	list := []string{}
	for _, element := range v.AsValueSlice() {
		if element.Type() != cty.String {
			return nil, want
		}
		list = append(list, element.AsString())
	}
	return list, ""
}

// kindOfPart is an example of an attribute of a labelled block.
func kindOfPart(name string) any {
	switch name {
	case "port":
		return 0
	case "tls":
		return false
	}
	return ""
}

// labelledText is what the flag of a labelled block would be given, or what the block lacks.
func labelledText(name, flag string, parts map[string]any) (text, missing string) {
	if flag != "entrypoint" {
		key := placeOf(flag).labelled[0]
		path, _ := parts[key].(string)
		if path == "" {
			return "", key + ` = "…"`
		}
		return name + "=" + path, ""
	}
	port, ok := parts["port"].(int)
	if !ok {
		return "", "port = …"
	}
	address, _ := parts["address"].(string)
	text = name + "=" + net.JoinHostPort(address, strconv.Itoa(port))
	if tls, _ := parts["tls"].(bool); tls {
		text += "/tls"
	}
	return text, ""
}
