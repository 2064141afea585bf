package render

import (
	"fmt"
	"strings"

	"fairway/confgen/route"
)

// NginxHeader is a line of proxy_set_header.
type NginxHeader struct{ Name, Value string }

// nginxHeaders puts the changes that a label asks for into the list of headers that every
// request gets, each a name and a value as nginx reads it. Of a header that is added to what the
// client sent, the client's comes first.
func nginxHeaders(options any, base ...[]any) ([]NginxHeader, error) {
	o, _ := options.(*route.Options) // nil where there are none
	var list []NginxHeader
	known := make(map[string]bool)
	if o != nil {
		for _, c := range o.RequestHeaders {
			if c.Action != route.AddHeader {
				known[strings.ToLower(c.Name)] = true
			}
		}
	}
	for _, b := range base {
		h := NginxHeader{fmt.Sprint(b[0]), fmt.Sprint(b[1])}
		if h.Value == "" {
			h.Value = `""`
		}
		if !known[strings.ToLower(h.Name)] {
			list = append(list, h)
			known[strings.ToLower(h.Name)] = true
		}
	}
	if o == nil {
		return list, nil
	}
	for _, c := range o.RequestHeaders {
		if lower := strings.ToLower(c.Name); !known[lower] {
			known[lower] = true
			list = append(list, NginxHeader{c.Name, "$http_" + strings.ReplaceAll(lower, "-", "_")})
		}
		value, err := nginxText(c.Value)
		if err != nil {
			return nil, err
		}
		list = append(list, NginxHeader{c.Name, value})
	}
	return list, nil
}
