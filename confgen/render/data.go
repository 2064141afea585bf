package render

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// data is what a template's dot is: a View, and the route table arranged the ways in which
// proxies want to read it.
type data struct {
	View
	compiled map[string]*regexp.Regexp
	live     map[string]bool // backends with a server that takes requests
	options  map[string]*route.Options
	numbers  map[string]string // HAProxy: "#5" for the backends that haproxy.cfg has a number of, by name
	groups   map[string]Group  // HAProxy: by the keys whose routes have conditions

	decisions map[string]Decision // nginx: what locations leave to the request, by name

	handshakes map[string]route.Handshake // by pattern
}

// part is the dot of a block that prints one part of a configuration. It knows nothing but the
// part and the settings, so that its text can be kept until one of them changes.
type part interface {
	id() string // unique among parts that one block prints
	same(part) bool
}

type backendData struct {
	route.Backend
	Settings *Settings
}

func (b backendData) id() string { return b.Name }

func (b backendData) same(p part) bool {
	o, ok := p.(backendData)
	return ok && b.Name == o.Name && b.ID == o.ID && b.Service == o.Service && sameServers(b.Servers, o.Servers) && (b.Options == o.Options || b.Options.Equal(o.Options))
}

// sameServers reports whether two lists are equal. Those of services that have not changed are one.
func sameServers(a, b []route.Server) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// serverData is the dot of the block that prints one server.
type serverData struct {
	Server   route.Server
	Settings *Settings
	Check    any    // the backend's route.Check, or false where no label says anything of it
	Common   string // what all servers of the backend end with
}

// serverLine returns the dot of the block that prints one server. There are 50,000 of them.
func serverLine(s route.Server, settings *Settings, check any, common string) *serverData {
	return &serverData{s, settings, check, common}
}

// serverEnd returns what all servers of a backend end with. A user's own block may call the one of
// a server with nothing but dict "Server" … "Settings" …; then it is made for each.
func (r *Renderer) serverEnd(dot any) (string, error) {
	if d, is := dot.(*serverData); is {
		return d.Common, nil
	}
	d, _ := dot.(map[string]any)
	if common, is := d["Common"].(string); is {
		return common, nil
	}
	check := d["Check"]
	if check == nil {
		check = false
	}
	return r.include("server-options", map[string]any{"Settings": d["Settings"], "Check": check})
}

type virtualServerData struct {
	VirtualServer
	Settings *Settings
}

func (v virtualServerData) id() string {
	if len(v.Names) == 0 {
		return v.Entrypoint.Name + " "
	}
	return v.Entrypoint.Name + " " + v.Names[0]
}

func (v virtualServerData) same(p part) bool {
	o, ok := p.(virtualServerData)
	return ok && v.alike(&o.VirtualServer) && slices.Equal(v.Names, o.Names)
}

func newData(v View) (*data, error) {
	d := &data{View: v, compiled: make(map[string]*regexp.Regexp), live: make(map[string]bool), options: make(map[string]*route.Options), decisions: make(map[string]Decision)}
	d.handshakes = make(map[string]route.Handshake, len(v.Handshakes))
	for _, h := range v.Handshakes {
		d.handshakes[h.Pattern] = h
	}
	for _, b := range v.Backends {
		if takesRequests(b) {
			d.live[b.Name] = true
		}
		if b.Options != nil {
			d.options[b.Name] = b.Options
		}
	}
	d.groups = d.groupRoutes()
	return d, d.compile()
}

func takesRequests(b route.Backend) bool {
	return slices.ContainsFunc(b.Servers, func(s route.Server) bool { return s.State == route.Ready && s.Weight > 0 })
}

// Live reports whether the backend has a server that takes requests.
func (b backendData) Live() bool { return takesRequests(b.Backend) }

// Limited reports whether a label says anything of a single server.
func (b backendData) Limited() bool {
	return slices.ContainsFunc(b.Servers, func(s route.Server) bool { return s.Limits.Given() })
}

// OnlyBackups reports whether no server is there that the others could back up: nginx takes no
// upstream of backups alone, and to HAProxy they are then like any others.
func (b backendData) OnlyBackups() bool {
	return !slices.ContainsFunc(b.Servers, func(s route.Server) bool { return !s.Limits.Backup })
}

// Entry is a line of a map file.
type Entry struct{ Key, Backend string }

// ExactMap holds the routes for one path: "web/cluster.test/exact".
func (d *data) ExactMap() []Entry { return d.entries(route.PathExact) }

// PrefixMap holds the routes for a path and everything below it. Keys end with "/", and so does
// what is looked up, so that the longest prefix is one of whole segments: "web/cluster.test/api/".
func (d *data) PrefixMap() []Entry { return d.entries(route.PathPrefix) }

func (d *data) entries(kind route.PathKind) []Entry {
	var list []Entry
	for _, r := range d.Routes {
		if r.PathKind != kind || r.HostKind == route.HostRegex {
			continue
		}
		for _, e := range r.Entrypoints {
			key := mapKeyOf(e, r)
			if g, conditional := d.groups[key]; conditional {
				list = append(list, Entry{key, g.Name})
				continue
			}
			list = append(list, Entry{key, r.Backend})
		}
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	return slices.Compact(list)
}

// mapKeyOf is what a route is found by in its map.
func mapKeyOf(entrypoint string, r route.Route) string {
	key := entrypoint + "/" + hostKey(r)
	if r.PathKind == route.PathPrefix {
		return key + strings.TrimSuffix(r.Path, "/") + "/"
	}
	return key + r.Path
}

func hostKey(r route.Route) string {
	switch r.HostKind {
	case route.HostWildcard:
		return "*." + r.Host
	case route.HostAny:
		return "*"
	case route.HostExact, route.HostRegex:
	}
	return r.Host
}

// Level is one step of a lookup: all routes whose host pattern is equally precise. A step is
// taken when no earlier one has found a backend.
type Level struct {
	Kind    string // "exact", "wildcard", "regex" or "any"
	Labels  int    // of the host pattern, for wildcards
	Regexes []route.Route
}

// commonLabels is how many labels a wildcard may have without changing haproxy.cfg: the lookups
// for *.test up to *.a.b.c.test are always there.
const commonLabels = 4

// Levels are the steps for an entrypoint, in order of precedence. Routes with regular
// expressions are part of them, all others are in the maps.
func (d *data) Levels(entrypoint string) []Level {
	labels := []int{1, 2, 3, commonLabels}
	for _, r := range d.Routes {
		if r.HostKind == route.HostWildcard {
			labels = append(labels, strings.Count(r.Host, ".")+1)
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	levels := []Level{{Kind: "exact"}}
	for _, n := range slices.Backward(labels) {
		levels = append(levels, Level{Kind: "wildcard", Labels: n})
	}
	levels = append(levels, Level{Kind: "regex"}, Level{Kind: "any"})
	for _, r := range d.Routes {
		if r.PathKind != route.PathRegex && r.HostKind != route.HostRegex || !slices.Contains(r.Entrypoints, entrypoint) {
			continue
		}
		i := slices.IndexFunc(levels, func(l Level) bool { return l.holds(r) })
		levels[i].Regexes = append(levels[i].Regexes, r)
	}
	return levels
}

func (l Level) holds(r route.Route) bool {
	switch r.HostKind {
	case route.HostExact:
		return l.Kind == "exact"
	case route.HostWildcard:
		return l.Kind == "wildcard" && l.Labels == strings.Count(r.Host, ".")+1
	case route.HostRegex:
		return l.Kind == "regex"
	case route.HostAny:
	}
	return l.Kind == "any"
}

// Acl prints the conditions under which a route with a regular expression matches, for
// haproxy.cfg. Variables of the request: txn.host and txn.path.
func (l Level) Acl(r route.Route) (string, error) {
	var tests []string
	add := func(fetch, method, value string) error {
		quoted, err := haproxyQuote(value)
		tests = append(tests, "{ "+fetch+" -m "+method+" -- "+quoted+" }")
		return err
	}
	var err error
	switch r.HostKind {
	case route.HostExact:
		err = add("var(txn.host)", "str", r.Host)
	case route.HostWildcard:
		err = add("var(txn.host)", "end", "."+r.Host)
	case route.HostRegex:
		err = add("var(txn.host)", "reg", r.Host)
	case route.HostAny:
	}
	if err != nil {
		return "", err
	}
	switch r.PathKind {
	case route.PathExact:
		err = add("var(txn.path)", "str", r.Path)
	case route.PathRegex:
		err = add("var(txn.path)", "reg", r.Path)
	case route.PathPrefix:
		err = add("var(txn.path),concat(/)", "beg", strings.TrimSuffix(r.Path, "/")+"/")
	}
	if err != nil {
		return "", err
	}
	when, err := conditionsACL(r.When)
	return strings.TrimSpace(strings.Join(tests, " ") + " " + when), err
}
