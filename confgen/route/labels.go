package route

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// wish is what one instance asks for under one route name, validated.
type wish struct {
	name        string
	hosts       []host
	paths       []path
	when        *Conditions
	catchAll    bool // default: every host and path of its entrypoints
	entrypoints []string
	priority    int
	weight      int     // -1 when not given
	port        int     // 0 when not given
	maintenance bool    // the instance gets nothing new
	group       string  // of routes that services share; "" for none
	share       float64 // of the group's requests in percent; -1 when not given
	limits      Limits  // of this instance alone
	options     *Options
	detours     []detour
	stream      bool // passed on as it comes: hosts are ports, or names in TLS
	demand      demand
	certified   map[host]bool // hosts that only the entrypoints in demand.served serve; nil for all alike
	values      map[string]string
}

// parsed is what the labels of an instance mean. Instances with equal labels share one.
type parsed struct {
	of       *Instance
	wishes   []*wish // sorted by name
	foreign  []*wish // for other front ends
	silent   bool    // no routing label at all
	problems []Problem
	settings []setting            // of operators, live
	set      map[[2]string]string // route and key that they decide → where that stands
}

// parser reads labels under one set of settings.
type parser struct {
	set         Settings
	service     string // whose labels are read
	prefix      string // "fairway-", lower case
	name        string // "fairway"
	proxy       Proxy
	entrypoints map[string]Entrypoint // declared
	fallback    []string              // of a route that names none
	certs       *certificates         // nil where the operator has no store

	systemAuthorities bool
	ports             []PortRange // that labels may ask for
	noStreams         string      // why the proxy passes no streams on
}

func newParser(set Settings) *parser {
	p := &parser{set: set, name: strings.ToLower(set.Prefix), proxy: set.Proxy, entrypoints: make(map[string]Entrypoint), fallback: set.defaultEntrypoints(), certs: newCertificates(set.Certificates), systemAuthorities: set.SystemAuthorities, ports: set.TCPPorts, noStreams: set.NoStreams}
	p.prefix = strings.ReplaceAll(p.name, ".", "-") + "-"
	for _, e := range set.Entrypoints {
		p.entrypoints[e.Name] = e
	}
	return p
}

// sameLabels reports whether two instances say the same, so that one parse serves both.
func (p *parser) sameLabels(a, b *Instance) bool {
	return slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// parse never fails: what it cannot use becomes a problem.
func (p *parser) parse(in *Instance, settings []setting) *parsed {
	out := &parsed{of: in, settings: settings}
	raw := p.collect(in, out)
	if len(raw) == 0 {
		out.silent = true
		return out
	}
	p.override(out, raw)
	base := raw[""]
	if enabled, given := p.boolean(out, "", base, "enable"); given && !enabled {
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if w := p.wish(out, name, raw[name], base); w != nil {
			out.wishes = append(out.wishes, w)
		}
	}
	return out
}

// collect gathers the values by route name and key, from meta and from tags.
func (p *parser) collect(in *Instance, out *parsed) map[string]map[string]string {
	raw := make(map[string]map[string]string)
	put := func(rest, value string) {
		name, key, ok := splitKey(rest)
		if !ok {
			p.unknown(out, rest)
			return
		}
		if old, twice := raw[name][key]; twice {
			if old != value {
				p.problem(out, name, key, "given twice: "+quote(old)+" is used, "+quote(value)+" is not")
			}
			return
		}
		if raw[name] == nil {
			raw[name] = make(map[string]string)
		}
		raw[name][key] = strings.TrimSpace(value)
	}
	for _, k := range slices.Sorted(maps.Keys(in.Meta)) {
		if rest, ok := strings.CutPrefix(strings.ToLower(k), p.prefix); ok {
			put(rest, in.Meta[k])
		}
	}
	for _, tag := range in.Tags {
		k, v, _ := strings.Cut(tag, "=")
		k = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(k)), ".", "-")
		if rest, ok := strings.CutPrefix(k, p.prefix); ok && strings.HasPrefix(strings.ToLower(tag), p.name+".") {
			put(rest, v)
		}
	}
	return raw
}

func (p *parser) unknown(out *parsed, rest string) {
	reason := "unknown key"
	if near := nearest(p.name, rest); near != "" {
		reason += "; did you mean " + near + "?"
	}
	if len(rest) > maxKey {
		rest = rest[:maxKey] + "…"
	}
	out.problems = append(out.problems, Problem{Key: p.name + "." + rest, Reason: reason})
}

func (p *parser) problem(out *parsed, route, key, reason string) {
	if path, ok := out.set[[2]string{route, key}]; ok {
		reason = overridden(path) + reason
	}
	out.problems = append(out.problems, Problem{Key: label(p.name, route, key), Reason: reason})
}

func (p *parser) speaksTLS(entrypoint string) bool { return p.entrypoints[entrypoint].TLS }

// boolean reads a key that is true or false; given is false when it is absent or unusable.
func (p *parser) boolean(out *parsed, route string, raw map[string]string, key string) (value, given bool) {
	s, ok := raw[key]
	if !ok {
		return false, false
	}
	b, err := parseBool(s)
	if err != nil {
		p.problem(out, route, key, quote(s)+": "+err.Error())
		return false, false
	}
	return b, true
}

// wish validates what is asked for under one name. It returns nil when that makes no route.
func (p *parser) wish(out *parsed, name string, raw, base map[string]string) *wish {
	w := &wish{name: name, weight: -1, values: raw}
	enabled, given := p.boolean(out, name, raw, "enable")
	if given && !enabled {
		return nil
	}
	w.catchAll, _ = p.boolean(out, name, raw, "default")
	hosts, hostsOK := patterns(p, out, name, raw, "host", parseHost)
	paths, pathsOK := patterns(p, out, name, raw, "path", parsePath)
	w.hosts, w.paths = hosts, paths
	// The unnamed route's port, weight and entrypoints are the defaults of the named ones.
	inherit := func(key string) (string, string, bool) {
		if v, ok := raw[key]; ok || name == "" {
			return v, name, ok
		}
		v, ok := base[key]
		return v, "", ok
	}
	w.port = p.number(out, name, inherit, "port", 0, parsePort)
	w.weight = p.number(out, name, inherit, "weight", -1, func(s string) (int, error) { return parseInt(s, 0, 256) })
	p.live(out, w, inherit)
	own := func(key string) (string, string, bool) { v, ok := raw[key]; return v, name, ok }
	w.priority = p.number(out, name, own, "priority", 0, func(s string) (int, error) { return parseInt(s, -1e6, 1e6) })
	entrypointsOK := p.readEntrypoints(out, w, inherit)

	_, hasHost := raw["host"]
	_, hasPath := raw["path"]
	if asksStream(raw) && !hasHost && !hasPath && !w.catchAll {
		if !entrypointsOK {
			return nil
		}
		return p.streamWish(out, w)
	}
	for _, key := range []string{"tcp", "sni"} {
		if _, given := raw[key]; given {
			p.problem(out, name, key, "the route has hosts or paths, and so carries HTTP; give the stream a route of its own, such as "+label(p.name, "stream", key))
		}
	}
	if !hasHost && !hasPath && !w.catchAll {
		if enabled {
			p.problem(out, name, "enable", "names no host, path or default, so there is nothing to route")
		}
		return nil
	}
	if !entrypointsOK || !(hostsOK && pathsOK) && !w.catchAll {
		return nil
	}
	if !hostsOK || !pathsOK {
		w.hosts, w.paths = nil, nil // what is left is the catch-all
	} else if hasHost || hasPath {
		w.hosts, w.paths = orAny(w.hosts), orRoot(w.paths)
	}
	var whenOK bool
	if w.when, whenOK = p.conditions(out, w); !whenOK {
		return nil
	}
	if !p.forUs(out, w) {
		return nil
	}
	p.redirectFrom(out, w)
	if !p.readDemand(out, w) || !p.readTLS(out, w) {
		return nil
	}
	var optionsOK bool
	if w.options, optionsOK = p.options(out, w); !optionsOK {
		return nil
	}
	return w
}

// withheld ends a problem that costs a whole route.
const withheld = "; the route is withheld, because serving it without would do what the label forbids"

// patterns reads a list of which every usable item is kept. It returns false when a value was
// given and none of it can be used: leaving the condition out would widen the route.
func patterns[T comparable](p *parser, out *parsed, name string, raw map[string]string, key string, parse func(string) (T, error)) ([]T, bool) {
	s, given := raw[key]
	if !given {
		return nil, true
	}
	var list []T
	items := splitPatterns(s)
	for _, item := range items {
		v, err := parse(item)
		if err != nil {
			p.problem(out, name, key, quote(item)+": "+err.Error())
			continue
		}
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	if len(items) == 0 {
		p.problem(out, name, key, "is empty")
	}
	return list, len(list) > 0
}

type lookup func(key string) (value, route string, ok bool)

func (p *parser) number(out *parsed, name string, get lookup, key string, absent int, parse func(string) (int, error)) int {
	s, route, ok := get(key)
	if !ok {
		return absent
	}
	n, err := parse(s)
	if err != nil {
		if route == name { // an inherited one is reported where it stands
			p.problem(out, route, key, quote(s)+": "+err.Error())
		}
		return absent
	}
	return n
}

func (p *parser) readEntrypoints(out *parsed, w *wish, get lookup) bool {
	s, route, ok := get("entrypoints")
	if !ok {
		w.entrypoints = p.fallback
		return true
	}
	for _, name := range splitList(s) {
		if _, declared := p.entrypoints[name]; !declared {
			p.problem(out, route, "entrypoints", fmt.Sprintf("%s: the operator declared only %s",
				quote(name), strings.Join(slices.Sorted(maps.Keys(p.entrypoints)), ", ")))
			continue
		}
		w.entrypoints = append(w.entrypoints, name)
	}
	w.entrypoints = sortedUnique(w.entrypoints)
	return len(w.entrypoints) > 0
}

func orAny(hosts []host) []host {
	if len(hosts) == 0 {
		return []host{{kind: HostAny}}
	}
	return hosts
}

func orRoot(paths []path) []path {
	if len(paths) == 0 {
		return []path{{kind: PathPrefix, name: "/"}}
	}
	return paths
}

// claims are the pairs of host and path that a wish asks for.
func (w *wish) claims(yield func(host, path) bool) {
	for _, h := range w.hosts {
		for _, q := range w.paths {
			if !yield(h, q) {
				return
			}
		}
	}
	if w.catchAll {
		yield(host{kind: HostAny}, path{kind: PathPrefix, name: "/"})
	}
}

func sortedUnique(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
