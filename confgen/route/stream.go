package route

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Stream is what a proxy passes on without looking into it: connections to a port of their own,
// or TLS for a host, told by the name that the client gives.
type Stream struct {
	Entrypoint string // with TLS, that it is passed through on; "" for a port of its own
	Port       int    // 0 with an Entrypoint
	Host       string // "db.example.com", or "*.example.com" for one label or more in front
	Backend    string
	Service    string
	Name       string // of the route
}

// FindStream returns the stream that gets the TLS connections for a name on an entrypoint; false where
// the entrypoint ends TLS itself, as it does for hosts of routes that are named more precisely.
func (t Table) FindStream(entrypoint, name string) (Stream, bool) {
	var found Stream
	best, served := 0, 0
	for _, s := range t.Streams {
		if n := precision(s.Host, name); s.Entrypoint == entrypoint && n > best {
			found, best = s, n
		}
	}
	for _, r := range t.Routes {
		if h := (host{r.HostKind, r.Host}); h.named() && slices.Contains(r.Entrypoints, entrypoint) {
			served = max(served, precision(h.pattern(), name))
		}
	}
	return found, best > served
}

// precision says how precisely a pattern names a host, "a.com" before "*.a.com" before "*.com"; 0 for
// not at all.
func precision(pattern, name string) int {
	suffix, wild := strings.CutPrefix(pattern, "*")
	switch {
	case !wild && pattern == name:
		return math.MaxInt
	case wild && strings.HasSuffix(name, suffix) && len(name) > len(suffix):
		return strings.Count(suffix, ".")
	}
	return 0
}

// PortRange is a range of ports that labels may ask for.
type PortRange struct{ From, To int }

func (r PortRange) String() string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// Streams are claimed as routes are, by kinds of hosts of their own, so that age, priority and
// groups decide between them in the same way.
const (
	streamPort HostKind = iota + 100 // Host is a port
	streamSNI
	streamSNIWildcard
)

func (k HostKind) stream() bool { return k >= streamPort }

// allPorts stands for the entrypoint of a port of its own.
const allPorts = "tcp"

// asksStream reports whether labels ask for a stream.
func asksStream(raw map[string]string) bool {
	_, tcp := raw["tcp"]
	_, sni := raw["sni"]
	return tcp || sni
}

// streamWish completes the wish for a stream, or returns nil.
func (p *parser) streamWish(out *parsed, w *wish) *wish {
	w.stream = true
	if !p.forUs(out, w) || !p.plain(out, w) {
		return nil
	}
	port, tcp := w.values["tcp"]
	key := "tcp"
	if !tcp {
		key = "sni"
	}
	if _, both := w.values["sni"]; tcp && both {
		p.problem(out, w.name, "sni", "the route has an entry port already; give hosts that are passed through a route of their own, such as "+label(p.name, "pass", "sni"))
	}
	if p.noStreams != "" {
		p.problem(out, w.name, key, p.noStreams)
		return nil
	}
	if tcp {
		n, err := p.entryPort(port)
		if err != nil {
			p.problem(out, w.name, "tcp", quote(port)+": "+err.Error())
			return nil
		}
		w.hosts, w.entrypoints = []host{{streamPort, strconv.Itoa(n)}}, []string{allPorts}
	} else if !p.readSNI(out, w) {
		return nil
	}
	w.paths = orRoot(nil)
	var ok bool
	if w.options, ok = p.options(out, w); !ok {
		return nil
	}
	return w
}

func (p *parser) entryPort(value string) (int, error) {
	n, err := parseInt(value, 1, 65535)
	if err != nil {
		return 0, err
	}
	allowed := make([]string, len(p.ports))
	for i, r := range p.ports {
		if r.From <= n && n <= r.To {
			return n, nil
		}
		allowed[i] = r.String()
	}
	if len(allowed) == 0 {
		return 0, errors.New("the operator allows no entry ports (--tcp-ports)")
	}
	return 0, fmt.Errorf("the operator allows only %s (--tcp-ports)", strings.Join(allowed, ", "))
}

func (p *parser) readSNI(out *parsed, w *wish) bool {
	hosts, ok := patterns(p, out, w.name, w.values, "sni", func(s string) (host, error) {
		h, err := parseHost(s)
		switch {
		case err != nil:
			return h, err
		case h.kind == HostExact:
			return host{streamSNI, h.name}, nil
		case h.kind == HostWildcard:
			return host{streamSNIWildcard, h.name}, nil
		}
		return h, errors.New("clients name a host in TLS: write a name or a wildcard")
	})
	if !ok {
		return false
	}
	_, secure := p.byTLS(w.entrypoints)
	if len(secure) == 0 {
		p.problem(out, w.name, "sni", "none of the route's entrypoints ("+strings.Join(w.entrypoints, ", ")+") speaks TLS")
		return false
	}
	w.hosts, w.entrypoints = hosts, secure
	return true
}

// streamKeys are the option keys that mean something for a stream.
var streamKeys = map[string]bool{
	"proto": true, "allow": true, "deny": true, "balance": true, "sticky": true, "maxconn": true, "backup": true, "slowstart": true, "drain": true, "retries": true,
	"check": true, "check.interval": true, "check.fall": true, "check.rise": true, "check.timeout": true,
	"timeout.connect": true, "timeout.server": true, "timeout.tunnel": true, "timeout.queue": true, "proxy-protocol": true,
}

// strangers are keys, besides options, that say something of requests, or of TLS that the proxy
// ends; true for those that keep somebody out.
var strangers = map[string]bool{
	"cert": false, "tls": false, "redirect-from": false,
	"client-ca": true, "header": true, "methods": true, "query": true,
}

const noStreamKey = "means nothing for a stream, which is passed on as it comes"

// plain reports the keys of a stream that are for requests. It returns false when the stream must be
// withheld, because one of them would keep somebody out.
func (p *parser) plain(out *parsed, w *wish) bool {
	usable := true
	for _, key := range slices.Sorted(maps.Keys(strangers)) {
		if _, given := w.values[key]; !given {
			continue
		}
		reason := noStreamKey
		if strangers[key] {
			usable = false
			reason += withheld
		}
		p.problem(out, w.name, key, reason)
	}
	return usable
}

// unfit says why a key cannot be of a stream; "" when it can.
func (p *parser) unfit(w *wish, key string) string {
	value := strings.ToLower(w.values[key])
	switch {
	case !w.stream:
		return ""
	case !streamKeys[key]:
		return noStreamKey
	case key == "proto" && value != "tcp":
		return quote(value) + ": a stream is passed on as it comes; write tcp, or nothing"
	case key == "balance" && (value == "uri" || strings.HasPrefix(value, "header:")):
		return quote(value) + ": a stream has neither; write roundrobin, leastconn, random or source"
	case key == "sticky" && strings.HasPrefix(value, "cookie"):
		return quote(value) + ": a stream has no cookies; write source"
	case key == "proxy-protocol" && value == "v2" && p.proxy == Nginx:
		return quote(value) + ": nginx speaks v1 only"
	}
	return ""
}

// streams takes what is no route of hosts and paths out of routes.
func (b *builder) streams(routes []Route) ([]Route, []Stream) {
	first := slices.IndexFunc(routes, func(r Route) bool { return r.HostKind.stream() })
	if first < 0 {
		return routes, nil
	}
	http, claims := slices.Clip(routes[:first]), routes[first:] // their kinds come last
	http = b.contestNames(http, claims)
	var list []Stream
	for _, c := range claims {
		s := Stream{Backend: c.Backend, Service: c.Service, Name: c.Name, Host: c.Host}
		switch c.HostKind {
		case streamPort:
			s.Port, _ = strconv.Atoi(c.Host) // as streamWish wrote it
			s.Host = ""
		case streamSNIWildcard:
			s.Host = "*." + c.Host
		case streamSNI, HostExact, HostWildcard, HostRegex, HostAny:
		}
		if c.HostKind == streamPort {
			list = append(list, s)
			continue
		}
		for _, e := range c.Entrypoints {
			s.Entrypoint = e
			list = append(list, s)
		}
	}
	return http, list
}

// contestNames settles who has a host on an entrypoint where one service wants its TLS passed
// through and another is served behind the proxy's own: the higher priority, else the older. What
// a stream loses is taken out of claims, what a route loses out of the routes returned.
func (b *builder) contestNames(routes, claims []Route) []Route {
	for i := range claims {
		c := &claims[i]
		kind := map[HostKind]HostKind{streamSNI: HostExact, streamSNIWildcard: HostWildcard}
		mine, isName := kind[c.HostKind]
		if !isName {
			continue
		}
		for j := range routes {
			r := &routes[j]
			if r.HostKind != mine || r.Host != c.Host {
				continue
			}
			common := slices.DeleteFunc(slices.Clone(c.Entrypoints), func(e string) bool { return !slices.Contains(r.Entrypoints, e) })
			if len(common) == 0 {
				continue
			}
			winner, loser := c, r
			if r.Priority > c.Priority || r.Priority == c.Priority && compareAge(*r, *c) < 0 {
				winner, loser = r, c
			}
			loser.Entrypoints = slices.DeleteFunc(slices.Clone(loser.Entrypoints), func(e string) bool { return slices.Contains(common, e) })
			b.problem(Problem{
				Service: loser.Service, Key: label(b.parser.name, loser.Name, claimKey(*loser)),
				Reason: fmt.Sprintf("%s on %s belongs to %s, which was registered first or has the higher priority; it comes here when that is gone",
					loser.Pattern(), strings.Join(common, ", "), describe(*winner)),
			})
		}
	}
	return slices.DeleteFunc(routes, func(r Route) bool { return len(r.Entrypoints) == 0 })
}
