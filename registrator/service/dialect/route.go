package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a translation. Consul takes 64 meta pairs of 512 characters for a service and drops
// what is beyond; a route must never lose one of its conditions that way, so it goes as a whole.
const (
	maxPairs = 48
	maxValue = 512
	maxName  = 40
)

// route is one route being put together.
type route struct {
	name     string // of letters, digits and underscores; used only where there are several
	label    string // what asked for it
	values   map[string]Value
	withheld bool
}

func (r *reading) route(name, label string) *route {
	t := &route{name: name, label: label, values: make(map[string]Value)}
	r.routes = append(r.routes, t)
	return t
}

func (t *route) set(key, value, label string) { t.values[key] = Value{value, label} }

func (t *route) get(key string) string { return t.values[key].Text }

// add appends to a list.
func (t *route) add(key, separator, value, label string) {
	if old := t.get(key); old != "" {
		value = old + separator + value
	}
	t.set(key, value, label)
}

// withheld ends a problem that costs a whole route.
const withheld = "; the route is withheld, because serving it without would do what was not asked for"

// withhold takes a route back and says why.
func (r *reading) withhold(t *route, label, format string, args ...any) {
	t.withheld = true
	r.problem(label, "%s%s", fmt.Sprintf(format, args...), withheld)
}

// result turns the routes into keys. A single route has no name, so that the user's own labels,
// such as fairway.timeout.server, join it.
func (r *reading) result() Result {
	routes := slices.DeleteFunc(r.routes, func(t *route) bool {
		if !t.withheld {
			r.check(t)
		}
		return t.withheld
	})
	out := Result{Dialect: r.dialect, Keys: make(map[string]Value)}
	names := make(map[string]bool)
	for i, t := range routes {
		if len(out.Keys)+len(t.values) > maxPairs {
			for _, t := range routes[i:] {
				r.problem(t.label, "too much for one container: at most %d keys are translated, and this route is not%s", maxPairs, withheld)
			}
			break
		}
		if pools[r.dialect] {
			t.pool()
		}
		prefix := ""
		if len(routes) > 1 {
			prefix = unusedName(t.name, names) + "."
		}
		for key, value := range t.values {
			if key == "network" { // the container's, whatever its routes
				out.Keys[key] = value
				continue
			}
			out.Keys[prefix+key] = value
		}
	}
	out.Problems, out.Notes = r.problems, r.notes
	return out
}

// pools are the dialects whose front ends serve a host and path by every container that asks for
// it, whatever service it belongs to.
var pools = map[string]bool{"nginx-proxy": true, "interlock": true, "fabio": true}

// maxGroup is what a group's name may have.
const maxGroup = 128

// pool puts a route into the group of all that ask for the same first host and path. One too long
// for a name stays alone, and is contested where two ask for it.
func (t *route) pool() {
	hosts, paths := splitPatterns(t.get("host")), splitPatterns(t.get("path"))
	if t.get("group") != "" || t.get("redirect") != "" || len(hosts)+len(paths) == 0 {
		return
	}
	name, label := "", t.label
	if len(hosts) > 0 {
		name, label = hosts[0], t.values["host"].Label
	}
	if len(paths) > 0 && paths[0] != "/" {
		name += paths[0]
	} else {
		name += "/"
	}
	if len(name) <= maxGroup {
		t.set("group", name, label)
	}
}

// check withholds a route with a value that could not be carried to the front end.
func (r *reading) check(t *route) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		v := t.values[key]
		switch {
		case len(v.Text) > maxValue:
			r.withhold(t, v.Label, "its translation into %s has %d characters and may have %d", key, len(v.Text), maxValue)
		case !utf8.ValidString(v.Text) || strings.ContainsFunc(v.Text, func(c rune) bool { return c < ' ' || c == 0x7f }):
			r.withhold(t, v.Label, "%s holds characters that no label may hold", quote(v.Text))
		default:
			continue
		}
		return
	}
}

// routeName makes the name of a route: the dialect's and what the user calls it. No user's own
// route and no key begins so, and without a hyphen it cannot be taken for part of a key.
func (r *reading) routeName(text string) string {
	name := strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			return c
		}
		return '_'
	}, strings.ToLower(text))
	name = strings.ReplaceAll(r.dialect, "-", "_") + "_" + name
	return name[:min(len(name), maxName)]
}

func unusedName(name string, used map[string]bool) string {
	for n, base := 2, name; used[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	used[name] = true
	return name
}

// merge joins routes that differ in their hosts only, then those that differ in their paths only.
func (r *reading) merge() {
	for _, key := range []string{"host", "path"} {
		var merged []*route
		for _, t := range r.routes {
			twin := slices.IndexFunc(merged, func(o *route) bool { return o.sameBut(key, t) })
			if twin < 0 {
				merged = append(merged, t)
			} else if !slices.Contains(splitPatterns(merged[twin].get(key)), t.get(key)) {
				merged[twin].add(key, ",", t.get(key), merged[twin].values[key].Label)
			}
		}
		r.routes = merged
	}
}

// sameBut reports whether two routes both have a key and say the same otherwise.
func (t *route) sameBut(key string, o *route) bool {
	if t.withheld || o.withheld || t.get(key) == "" || o.get(key) == "" || len(t.values) != len(o.values) {
		return false
	}
	for k, v := range t.values {
		if w, ok := o.values[k]; !ok || k != key && v.Text != w.Text {
			return false
		}
	}
	return true
}
