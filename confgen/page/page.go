// Package page shows people how a running confgen is: one page of HTML, without scripts, that
// needs nothing but itself.
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"io"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// View is what the page shows.
type View struct {
	Version string
	Proxy   string   // the name of the one that is shown; "" where there is one without a name
	Proxies []string // all names, where there are several
	Ready   bool
	Facts   []Fact
	Query   string  // what routes and services were searched for
	Routes  []Route // at most Limit of those that match
	Matched int     // routes that match
	Total   int

	Problems []route.Problem // of the services that match
}

// Limit is how many routes a page shows; the rest is found by searching.
const Limit = 200

// Fact is one line about the program. One without a name goes on with the one above.
type Fact struct {
	Name, What string
	Bad        bool // somebody should look at it
}

// Route is a route and where it leads.
type Route struct {
	Pattern     string // host, path and conditions
	Entrypoints []string
	Service     string
	Name        string // of the route, "" for the unnamed one
	Backend     route.Backend
}

// Search takes from a table what the page shows: the routes whose pattern, service or servers hold
// the query, and the problems of those services; everything for an empty query.
func (v *View) Search(t route.Table, query string) {
	v.Query, v.Total = query, len(t.Routes)
	backends := make(map[string]route.Backend, len(t.Backends))
	for _, b := range t.Backends {
		backends[b.Name] = b
	}
	found := make(map[string]bool)
	for _, r := range t.Routes {
		b := backends[r.Backend]
		if !matches(r, b, query) {
			continue
		}
		found[r.Service] = true
		v.Matched++
		if v.Matched <= Limit {
			v.Routes = append(v.Routes, Route{Pattern: r.Pattern(), Entrypoints: r.Entrypoints, Service: r.Service, Name: r.Name, Backend: b})
		}
	}
	for _, p := range t.Problems {
		if query == "" || found[p.Service] || strings.Contains(p.Service, query) {
			v.Problems = append(v.Problems, p)
		}
	}
}

func matches(r route.Route, b route.Backend, query string) bool {
	return query == "" || strings.Contains(r.Pattern(), query) || strings.Contains(r.Service, query) ||
		slices.ContainsFunc(b.Pool, func(v route.Variant) bool { return strings.Contains(v.Service, query) }) ||
		slices.ContainsFunc(b.Servers, func(s route.Server) bool { return strings.Contains(s.Name, query) })
}

//go:embed page.html
var source string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"ready":     func(s route.State) bool { return s == route.Ready },
	"redirects": func(r Route) bool { return r.Backend.Options != nil && r.Backend.Options.Redirect.Code != 0 },
}).Parse(source))

// Write writes the page, or nothing when it fails.
func Write(w io.Writer, v View) error {
	var out bytes.Buffer
	if err := page.Execute(&out, v); err != nil {
		return err
	}
	_, err := out.WriteTo(w)
	return err
}
