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
// those of less precise hosts, in the order that HAProxy's lookup has. Hosts share a block that
// take the same routes in the same way.
type VirtualServer struct {
	Entrypoint route.Entrypoint
	Name       string   // for server_name: Names with spaces between them; "" for the default server
	Names      []string // hosts and wildcards
	TLS        ServerTLS
	Here       string // socket that TLS comes to behind a look at the name; "" for the entrypoint itself
	Locations  []Location
	Regex      bool       // some location asks first whether a regular expression matches the host
	Named      []Location // those that such requests go to where their backends have options
	Targets    []Location // those that requests go to which a decision was made about
}

// Location is a location block.
type Location struct {
	Match                          string // "=", "^~", "~" or ""
	Path                           string
	Backend                        string     // "" for nothing
	Live                           bool       // false: nobody would answer
	Guarded                        bool       // routes whose host is a regular expression come before this one
	Inner                          []Location // regular expressions that come before a prefix
	Options                        *route.Options
	Wraps                          bool   // nothing of its own: the last of Inner takes what the others do not
	AuthorityFile, CertificateFile string // of TLS to the servers; "" for none
	Pages                          []int  // statuses that the backend's set of pages has one for
	Decides                        string // the Decision that the request is left to; nothing else counts then
}

func (l Location) same(o Location) bool {
	return l.Match == o.Match && l.Path == o.Path && l.Backend == o.Backend && l.Live == o.Live && l.Guarded == o.Guarded && l.Wraps == o.Wraps && l.Decides == o.Decides && slices.Equal(l.Pages, o.Pages) && l.Options.Equal(o.Options) &&
		slices.EqualFunc(l.Inner, o.Inner, Location.same)
}

// step is the routes of one host pattern, split by kind of path.
type step struct {
	exact, regex, prefix []route.Route
	guarded              bool // come behind routes whose host is a regular expression
}

func newStep(routes []route.Route, guarded bool) step {
	s := step{guarded: guarded}
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
	return slices.ContainsFunc(s.prefix, func(r route.Route) bool { return r.Path == "/" && r.When == nil })
}

// VirtualServers are the server blocks of an entrypoint: exact hosts, wildcards, and the default
// server, which also serves hosts that only regular expressions match.
func (d *data) VirtualServers(entrypoint route.Entrypoint) []VirtualServer {
	t := tree{data: d, entrypoint: entrypoint, byHost: make(map[string][]route.Route)}
	var order []route.Route // one for each host pattern, in order of precedence
	for _, r := range d.Routes {
		if !slices.Contains(r.Entrypoints, entrypoint.Name) {
			continue
		}
		if r.HostKind == route.HostRegex {
			t.regexHosts = append(t.regexHosts, r)
			continue
		}
		key := patternKey(r)
		if t.byHost[key] == nil && r.HostKind != route.HostAny {
			order = append(order, r)
		}
		t.byHost[key] = append(t.byHost[key], r)
	}
	order = t.certified(order)
	list := make([]VirtualServer, 0, len(order)+1)
	for _, r := range order {
		name := r.Host
		if r.HostKind == route.HostWildcard {
			name = "*." + r.Host
		}
		list = append(list, t.server(name, r))
	}
	return shared(append(list, t.server("", route.Route{HostKind: route.HostAny})))
}

func (t tree) server(name string, r route.Route) VirtualServer {
	steps := t.steps(r)
	guarded := slices.ContainsFunc(steps, func(s step) bool { return s.guarded })
	undecided := guarded || t.undecided(r, steps)
	s := VirtualServer{Entrypoint: t.entrypoint, TLS: t.tlsOf(r), Here: t.here(), Locations: t.locations(steps, undecided), Regex: undecided}
	if name != "" {
		s.Names = []string{name}
	}
	if undecided {
		s.Named = t.named()
	}
	if slices.ContainsFunc(s.Locations, func(l Location) bool { return l.Decides != "" }) {
		s.Targets = t.targets(steps, s.Named)
	}
	if !slices.ContainsFunc(s.Locations, func(l Location) bool { return l.Match == "^~" && l.Path == "/" }) {
		s.Locations = append(s.Locations, Location{Path: "/", Guarded: undecided})
	}
	return s
}

// RegexHosts are the routes of an entrypoint whose host is a regular expression, in order and in
// groups: nginx takes no word over 4,096 bytes and no chain of over 100 variables.
func (d *data) RegexHosts(entrypoint string) [][]route.Route {
	var list []route.Route
	for _, r := range d.Routes {
		if r.HostKind == route.HostRegex && slices.Contains(r.Entrypoints, entrypoint) {
			list = append(list, r)
		}
	}
	return slices.Collect(slices.Chunk(list, chain))
}

// PathRegex is a regular expression that matches the paths of a route.
func (d *data) PathRegex(r route.Route) string {
	switch r.PathKind {
	case route.PathExact:
		return `\A` + regexQuote(r.Path) + `\z`
	case route.PathPrefix:
		return `\A` + regexQuote(strings.TrimSuffix(r.Path, "/")) + `(/|\z)`
	case route.PathRegex:
	}
	return r.Path
}

func patternKey(r route.Route) string {
	return string(rune('0'+int(r.HostKind))) + r.Host
}

// tree finds the routes that one host can take.
type tree struct {
	data       *data
	entrypoint route.Entrypoint
	byHost     map[string][]route.Route
	regexHosts []route.Route
}

// undecided reports whether only the request can tell which regular expressions match a host.
func (t tree) undecided(r route.Route, steps []step) bool {
	return r.HostKind != route.HostExact && len(t.regexHosts) > 0 && !slices.ContainsFunc(steps, step.all)
}

// steps are the host patterns that a request for the given one may fall through, ending where
// one matches every path. For an exact host it is known which regular expressions match it; for
// the others the steps behind those are guarded.
func (t tree) steps(r route.Route) []step {
	var list []step
	add := func(routes []route.Route, guarded bool) bool {
		if len(routes) > 0 {
			list = append(list, newStep(routes, guarded))
		}
		return len(routes) > 0 && list[len(list)-1].all()
	}
	if r.HostKind != route.HostAny && add(t.byHost[patternKey(r)], false) {
		return list
	}
	if r.HostKind != route.HostAny {
		for _, parent, ok := strings.Cut(r.Host, "."); ok; _, parent, ok = strings.Cut(parent, ".") {
			if add(t.byHost[patternKey(route.Route{HostKind: route.HostWildcard, Host: parent})], false) {
				return list
			}
		}
	}
	if r.HostKind == route.HostExact {
		for _, x := range t.regexHosts {
			if t.data.matches(x.Host, r.Host) && add([]route.Route{x}, false) {
				return list
			}
		}
	}
	add(t.byHost[patternKey(route.Route{HostKind: route.HostAny})], t.undecided(r, list))
	return list
}

// locations arranges steps so that nginx's own order (exact, then the longest prefix, then
// regular expressions unless the prefix says ^~) gives what the steps one after another give:
// every prefix is ^~ and holds the expressions that come before it.
func (t tree) locations(steps []step, undecided bool) []Location {
	var list []Location
	seen := make(map[string]bool)
	literal := func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		if open := t.alternatives(steps, path, true); t.open(open) {
			list = append(list, Location{Match: "=", Path: path, Decides: t.decide(open, true, undecided)})
		} else if s, r, ok := t.resolve(steps, path); ok {
			list = append(list, t.location("=", path, s, r))
		} else {
			list = append(list, Location{Match: "=", Path: path, Guarded: undecided})
		}
	}
	var inner []Location
	var prefixes []route.Route     // that take all that is below them
	begun := make(map[string]bool) // prefixes that have a location
	for _, s := range steps {
		for _, r := range s.exact {
			literal(r.Path)
			if bare := strings.TrimSuffix(r.Path, "/"); bare != "" {
				literal(bare) // else nginx would answer it with a redirect to the other
			}
		}
		for _, r := range s.regex {
			inner = append(inner, t.location("~", r.Path, s, r))
		}
		held := prefixes
		for _, r := range s.prefix {
			if begun[r.Path] || slices.ContainsFunc(held, func(p route.Route) bool { return covers(p.Path, r.Path) }) {
				continue
			}
			begun[r.Path] = true
			if r.When == nil {
				prefixes = append(prefixes, r)
			}
			if r.Path != "/" {
				literal(r.Path)
			}
			l := t.location("^~", strings.TrimSuffix(r.Path, "/")+"/", s, r)
			if open := t.alternatives(steps, r.Path, false); t.open(open) {
				list = append(list, Location{Match: l.Match, Path: l.Path, Decides: t.decide(open, false, undecided)})
				continue
			}
			list = append(list, l.behind(inner))
		}
	}
	if begun["/"] {
		return list
	}
	if open := t.alternatives(steps, "/", false); t.open(open) {
		return append(list, Location{Match: "^~", Path: "/", Decides: t.decide(open, false, undecided)})
	}
	return append(list, inner...)
}

func (t tree) location(match, path string, s step, r route.Route) Location {
	l := Location{Match: match, Path: path, Backend: r.Backend, Live: t.data.live[r.Backend], Guarded: s.guarded, Options: t.data.options[r.Backend]}
	if l.Options != nil && l.Options.TLS.Authority != "" {
		l.AuthorityFile = t.data.AuthorityFile(l.Options.TLS.Authority)
	}
	if l.Options != nil && l.Options.TLS.Certificate != "" {
		l.CertificateFile = t.data.CertificateFile(l.Options.TLS.Certificate)
	}
	if l.Options != nil {
		l.Pages = t.data.Settings.pages(l.Options.Errors)
	}
	return l
}

// behind puts a prefix behind the regular expressions that come before it. A nested location
// inherits what its parent says, and these may be other services', so that a prefix with options
// moves into a location beside them.
func (l Location) behind(inner []Location) Location {
	inner = slices.Clone(inner)
	if l.Options == nil || len(inner) == 0 {
		l.Inner = inner
		return l
	}
	own := l
	own.Match = ""
	return Location{Match: l.Match, Path: l.Path, Inner: append(inner, own), Wraps: true}
}

// named are locations for the backends with options of routes whose host is a regular
// expression: a location that comes behind those routes can only send a request to a name.
func (t tree) named() []Location {
	var list []Location
	for _, r := range t.regexHosts {
		l := t.location("", "@to-"+r.Backend, step{}, r)
		if l.Options != nil && !slices.ContainsFunc(list, l.same) {
			list = append(list, l)
		}
	}
	return list
}

// NamedRegexes are the backends that named locations exist for on an entrypoint.
func (d *data) NamedRegexes(entrypoint string) []string {
	var list []string
	for _, r := range d.Routes {
		if r.HostKind == route.HostRegex && d.options[r.Backend] != nil && slices.Contains(r.Entrypoints, entrypoint) && !slices.Contains(list, r.Backend) {
			list = append(list, r.Backend)
		}
	}
	return list
}

// resolve finds the route of one literal path, and the step that it belongs to.
func (t tree) resolve(steps []step, path string) (step, route.Route, bool) {
	if list := t.alternatives(steps, path, true); len(list) > 0 {
		return list[0].step, list[0].Route, true
	}
	return step{}, route.Route{}, false
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
func (d *data) HashSize() int { return powerOfTwo(4 * len(d.Routes)) }

// VariablesSize is how many buckets nginx needs for variables.
func (d *data) VariablesSize() int {
	n := 0
	for _, r := range d.Routes {
		if r.HostKind == route.HostRegex {
			n += len(r.Entrypoints)
		}
	}
	return powerOfTwo(8 * (n + d.testsAtMost() + 4*len(d.options)))
}

// Connections is how many connections a worker of nginx may have at once where the operator does
// not say: 4,096, and two more for each service where there are thousands. nginx keeps idle ones to
// each for a minute, and when it runs out it closes none of them but answers 500.
func (d *data) Connections() int {
	const step = 1000 // so that one more service changes nothing
	return 4096 + 2*step*(len(d.Backends)/step)
}

func powerOfTwo(n int) int {
	size := 2048
	for size < n {
		size *= 2
	}
	return size
}
