package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// VirtualServer is a server block of nginx.conf. nginx chooses the block by host alone and
// never leaves it, so each block holds all routes that a request for its host may take, also
// those of less precise hosts, in the order that HAProxy's lookup has.
type VirtualServer struct {
	Name      string // for server_name, quoted; "" for the default server
	Locations []Location
}

// Location is a location block.
type Location struct {
	Match   string // "=", "^~" or "~"
	Path    string
	Backend string
	Live    bool       // false: nobody would answer
	Inner   []Location // regular expressions that come before a prefix
}

// step is the routes of one host pattern, split by kind of path.
type step struct {
	exact, regex, prefix []route.Route
}

func newStep(routes []route.Route) step {
	var s step
	for _, r := range routes {
		switch r.PathKind {
		case route.PathExact:
			s.exact = append(s.exact, r)
		case route.PathRegex:
			s.regex = append(s.regex, r)
		case route.PathPrefix:
			s.prefix = append(s.prefix, r)
		}
	}
	return s
}

// all reports whether a step matches every path.
func (s step) all() bool {
	return slices.ContainsFunc(s.prefix, func(r route.Route) bool { return r.Path == "/" })
}

// VirtualServers are the server blocks of an entrypoint: exact hosts, wildcards, regular
// expressions in order, and the default server.
func (d *data) VirtualServers(entrypoint string) ([]VirtualServer, error) {
	byHost := make(map[string][]route.Route)
	var order []route.Route // one for each host pattern, in order of precedence
	var regexHosts []route.Route
	for _, r := range d.Routes {
		if !slices.Contains(r.Entrypoints, entrypoint) {
			continue
		}
		key := patternKey(r)
		if byHost[key] == nil && r.HostKind != route.HostAny {
			order = append(order, r)
		}
		if r.HostKind == route.HostRegex {
			regexHosts = append(regexHosts, r)
		}
		byHost[key] = append(byHost[key], r)
	}
	t := tree{data: d, byHost: byHost, regexHosts: regexHosts}
	list := make([]VirtualServer, 0, len(order)+1)
	for _, r := range order {
		name, err := serverName(r)
		if err != nil {
			return nil, err
		}
		list = append(list, VirtualServer{Name: name, Locations: t.locations(t.steps(r))})
	}
	return append(list, VirtualServer{Locations: t.locations(t.steps(route.Route{HostKind: route.HostAny}))}), nil
}

func patternKey(r route.Route) string {
	return string(rune('0'+int(r.HostKind))) + r.Host
}

func serverName(r route.Route) (string, error) {
	switch r.HostKind {
	case route.HostWildcard:
		return "*." + r.Host, nil
	case route.HostRegex:
		return nginxRegex("~" + r.Host)
	case route.HostExact, route.HostAny:
	}
	return r.Host, nil
}

// tree finds the routes that one host can take.
type tree struct {
	data       *data
	byHost     map[string][]route.Route
	regexHosts []route.Route
}

// steps are the host patterns that a request for the given one may fall through, ending where
// one matches every path. What cannot be decided before the request comes (whether a host under
// a wildcard also matches some regular expression) is left out.
func (t tree) steps(r route.Route) []step {
	var list []step
	add := func(routes []route.Route) bool {
		if len(routes) > 0 {
			list = append(list, newStep(routes))
		}
		return len(routes) > 0 && list[len(list)-1].all()
	}
	if r.HostKind != route.HostAny && add(t.byHost[patternKey(r)]) {
		return list
	}
	if r.HostKind == route.HostExact || r.HostKind == route.HostWildcard {
		for _, parent, ok := strings.Cut(r.Host, "."); ok; _, parent, ok = strings.Cut(parent, ".") {
			if add(t.byHost[patternKey(route.Route{HostKind: route.HostWildcard, Host: parent})]) {
				return list
			}
		}
	}
	if r.HostKind == route.HostExact {
		for _, x := range t.regexHosts {
			if t.data.matches(x.Host, r.Host) && add([]route.Route{x}) {
				return list
			}
		}
	}
	add(t.byHost[patternKey(route.Route{HostKind: route.HostAny})])
	return list
}

// locations arranges steps so that nginx's own order (exact, then the longest prefix, then
// regular expressions unless the prefix says ^~) gives what the steps one after another give:
// every prefix is ^~ and holds the expressions that come before it.
func (t tree) locations(steps []step) []Location {
	var list []Location
	seen := make(map[string]bool)
	literal := func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		if r, ok := t.resolve(steps, path); ok {
			list = append(list, t.location("=", path, r))
		}
	}
	var inner []Location
	var prefixes []route.Route
	for _, s := range steps {
		for _, r := range s.exact {
			literal(r.Path)
		}
		for _, r := range s.regex {
			inner = append(inner, t.location("~", r.Path, r))
		}
		held := prefixes
		for _, r := range s.prefix {
			if slices.ContainsFunc(held, func(p route.Route) bool { return covers(p.Path, r.Path) }) {
				continue
			}
			prefixes = append(prefixes, r)
			if r.Path != "/" {
				literal(r.Path)
			}
			l := t.location("^~", strings.TrimSuffix(r.Path, "/")+"/", r)
			l.Inner = slices.Clone(inner)
			list = append(list, l)
		}
	}
	if !slices.ContainsFunc(prefixes, func(r route.Route) bool { return r.Path == "/" }) {
		list = append(list, inner...)
	}
	return list
}

func (t tree) location(match, path string, r route.Route) Location {
	return Location{Match: match, Path: path, Backend: r.Backend, Live: t.data.live[r.Backend]}
}

// resolve finds the route of one literal path.
func (t tree) resolve(steps []step, path string) (route.Route, bool) {
	for _, s := range steps {
		for _, r := range s.exact {
			if r.Path == path {
				return r, true
			}
		}
		for _, r := range s.regex {
			if t.data.matches(r.Path, path) {
				return r, true
			}
		}
		for _, r := range s.prefix { // longer ones first
			if covers(r.Path, path) {
				return r, true
			}
		}
	}
	return route.Route{}, false
}

// covers reports whether a prefix matches a path by whole segments.
func covers(prefix, path string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// matches applies a regular expression of the table.
func (d *data) matches(pattern, s string) bool { return d.compiled[pattern].MatchString(s) }

// compile prepares the table's regular expressions, which route has checked.
func (d *data) compile() error {
	for _, r := range d.Routes {
		if r.HostKind == route.HostRegex {
			if err := d.compileOne(r, r.Host); err != nil {
				return err
			}
		}
		if r.PathKind == route.PathRegex {
			if err := d.compileOne(r, r.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *data) compileOne(r route.Route, pattern string) error {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return fmt.Errorf("route %s of service %s: %w", r.Pattern(), r.Service, err)
	}
	d.compiled[pattern] = re
	return nil
}

// HashSize is how many buckets nginx needs for its server names.
func (d *data) HashSize() int {
	size := 1024
	for size < 4*len(d.Routes) {
		size *= 2
	}
	return size
}
