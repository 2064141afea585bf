package render

import (
	"fmt"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// Group is what the routes for one key of a map make of a request where some of them have
// conditions: the first choice whose condition is met. Where none is, the lookup goes on.
type Group struct {
	Name    string // begins with "@", which no backend's name does
	Choices []Choice
}

// Choice is a backend and what a request must meet to go there.
type Choice struct {
	Backend string
	When    *route.Conditions
}

// Conditional reports whether any route of an entrypoint that is found by map has conditions.
func (d *data) Conditional(entrypoint string) bool {
	for key := range d.groups {
		if strings.HasPrefix(key, entrypoint+"/") {
			return true
		}
	}
	return false
}

// Groups are those of one kind ("exact" or "prefix") that a lookup may find at a level.
func (d *data) Groups(entrypoint string, l Level, kind string) []Group {
	want := route.PathPrefix
	if kind == "exact" {
		want = route.PathExact
	}
	var list []Group
	for _, r := range d.Routes {
		if r.When == nil || r.PathKind != want || r.HostKind == route.HostRegex || !l.holds(r) || !slices.Contains(r.Entrypoints, entrypoint) {
			continue
		}
		g := d.groups[mapKeyOf(entrypoint, r)]
		if !slices.ContainsFunc(list, func(o Group) bool { return o.Name == g.Name }) {
			list = append(list, g)
		}
	}
	return list
}

// groupRoutes finds the groups by the keys of the maps. They are named after what they choose
// from: the same choices, the same name.
func (d *data) groupRoutes() map[string]Group {
	groups := make(map[string]Group)
	if !slices.ContainsFunc(d.Routes, func(r route.Route) bool { return r.When != nil }) {
		return groups
	}
	type place struct {
		entrypoint, host string
		kind             route.PathKind
	}
	routes := make(map[place][]route.Route)
	for _, r := range d.Routes {
		for _, e := range r.Entrypoints {
			at := place{e, patternKey(r), r.PathKind}
			routes[at] = append(routes[at], r)
		}
	}
	for _, r := range d.Routes {
		if r.When == nil || r.PathKind == route.PathRegex || r.HostKind == route.HostRegex {
			continue
		}
		for _, e := range r.Entrypoints {
			key := mapKeyOf(e, r)
			if _, known := groups[key]; !known {
				choices := groupChoices(r, routes[place{e, patternKey(r), r.PathKind}])
				groups[key] = Group{"@" + digest(choices), choices}
			}
		}
	}
	return groups
}

// groupChoices are the choices for the path of a route among those of its host: all routes for
// the path and, for a prefix, the shorter ones, up to the first without a condition.
func groupChoices(at route.Route, routes []route.Route) []Choice {
	var list []Choice
	for _, r := range routes {
		if r.Path != at.Path && (at.PathKind != route.PathPrefix || !covers(r.Path, at.Path)) {
			continue
		}
		list = append(list, Choice{r.Backend, r.When})
		if r.When == nil {
			break
		}
	}
	return list
}

// conditionsACL prints conditions for haproxy.cfg; nothing for none.
func conditionsACL(c *route.Conditions) (string, error) {
	if c == nil {
		return "", nil
	}
	var tests []string
	var fault error
	add := func(test, value string) {
		quoted, err := haproxyQuote(value)
		if err != nil {
			fault = err
		}
		tests = append(tests, "{ "+test+" -- "+quoted+" }")
	}
	if len(c.Methods) > 0 {
		tests = append(tests, "{ method "+strings.Join(c.Methods, " ")+" }")
	}
	for _, h := range c.Headers {
		switch fetch := fmt.Sprintf("req.fhdr(%s,1)", h.Name); h.Kind {
		case route.MatchPresent:
			tests = append(tests, "{ "+fetch+" -m len gt 0 }")
		case route.MatchEqual:
			add(fetch+" -m str", h.Value)
		case route.MatchRegex:
			add(fetch+" -m reg", h.Value)
		}
	}
	for _, q := range c.Query {
		add("query -m reg", q.Regex())
	}
	return strings.Join(tests, " "), fault
}

// ACL prints what a request must meet, for haproxy.cfg.
func (c Choice) ACL() (string, error) { return conditionsACL(c.When) }
