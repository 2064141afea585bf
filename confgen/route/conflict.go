package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// appendClaims adds a route for every host and path that a wish asks for. key is the label that
// asks for them, "" for host, path or default.
func appendClaims(claims []Route, service, backend string, created uint64, w *wish, key string) []Route {
	for h, p := range w.claims {
		claims = append(claims, Route{
			HostKind: h.kind, Host: h.name, PathKind: p.kind, Path: p.name, When: w.when,
			Entrypoints: w.serving(h), Priority: w.priority,
			Backend: backend, Service: service, Name: w.name, created: created, key: key, demand: w.demands(),
		})
	}
	return claims
}

// settle gives every pair of host and path on every entrypoint to one claim: one whose
// instances are still in the catalog, then the higher priority, else the one with more conditions,
// else the one registered first. What a claim with conditions leaves goes to the next. It returns the routes in order of precedence.
func (b *builder) settle(claims []Route) []Route {
	slices.SortFunc(claims, func(x, y Route) int {
		return cmp.Or(compareMatch(x, y), cmp.Compare(x.heldOnly(), y.heldOnly()), cmp.Compare(y.Priority, x.Priority), cmp.Compare(y.When.count(), x.When.count()), compareAge(x, y))
	})
	routes := claims[:0]
	from := 0 // routes[from:] are for the host and path being looked at
	for _, c := range claims {
		if len(routes) > from && !sameMatch(routes[from], c) {
			from = len(routes)
		}
		c.Entrypoints = b.contest(routes[from:], c)
		if len(c.Entrypoints) > 0 {
			routes = append(routes, c)
		}
	}
	slices.SortStableFunc(routes, comparePrecedence)
	return routes
}

// heldOnly is 1 for a claim that only held instances make, else 0.
func (r Route) heldOnly() int {
	if r.created == heldOnly {
		return 1
	}
	return 0
}

// contest returns the entrypoints of c that no earlier claim holds, and reports the rest.
func (b *builder) contest(holders []Route, c Route) []string {
	left := c.Entrypoints
	for _, h := range holders {
		if !c.When.implies(h.When) {
			continue // what the earlier claim leaves comes here
		}
		var lost, kept []string
		for _, e := range left {
			if slices.Contains(h.Entrypoints, e) {
				lost = append(lost, e)
			} else {
				kept = append(kept, e)
			}
		}
		left = kept
		if len(lost) == 0 || h.Service == c.Service && h.Name == c.Name {
			continue // one wish may reach a pair twice: an any-host path "/" and default
		}
		why := "was registered first"
		if h.Priority > c.Priority {
			why = "has the higher priority"
		}
		b.problem(Problem{
			Service: c.Service, Key: label(b.parser.name, c.Name, claimKey(c)),
			Reason: fmt.Sprintf("%s on %s belongs to %s, which %s; it comes here when that is gone",
				c.Pattern(), strings.Join(lost, ", "), describe(h), why),
		})
	}
	return left
}

// on is a wish for the hosts and paths of a detour.
func (w *wish) on(d detour) *wish {
	on := &wish{name: w.name, hosts: d.hosts, paths: d.paths, catchAll: d.catchAll, entrypoints: d.entrypoints, priority: w.priority}
	if d.key == "tls" {
		on.when = w.when // the same requests, elsewhere
	}
	return on
}

func describe(r Route) string {
	if r.Name == "" {
		return "service " + r.Service
	}
	return "route " + r.Name + " of service " + r.Service
}

func claimKey(r Route) string {
	if r.HostKind == streamPort {
		return "tcp"
	}
	if r.HostKind.stream() {
		return "sni"
	}
	if r.key != "" {
		return r.key
	}
	switch {
	case r.When == nil:
	case len(r.When.Methods) > 0:
		return "methods"
	case len(r.When.Headers) > 0:
		return "header"
	default:
		return "query"
	}
	if r.HostKind == HostAny && r.PathKind == PathPrefix && r.Path == "/" {
		return "default"
	}
	if r.HostKind == HostAny {
		return "path"
	}
	return "host"
}

// Pattern writes the host, path and conditions of a route as one line that a person understands.
func (r Route) Pattern() string {
	if when := r.When.String(); when != "" {
		return r.place() + " [" + when + "]"
	}
	return r.place()
}

func (r Route) place() string {
	host := r.Host
	switch r.HostKind {
	case HostExact:
	case HostWildcard:
		host = "*." + host
	case HostRegex:
		host = "~" + host
	case HostAny:
		host = "*"
	case streamPort:
		return "port " + host
	case streamSNI:
		return "TLS for " + host
	case streamSNIWildcard:
		return "TLS for *." + host
	}
	switch r.PathKind {
	case PathExact:
		return host + " =" + r.Path
	case PathRegex:
		return host + " ~" + r.Path
	case PathPrefix:
	}
	return host + " " + r.Path
}

func sameMatch(x, y Route) bool { return compareMatch(x, y) == 0 }

// compareMatch brings routes for the same host and path together.
func compareMatch(x, y Route) int {
	return cmp.Or(cmp.Compare(x.HostKind, y.HostKind), cmp.Compare(x.Host, y.Host), cmp.Compare(x.PathKind, y.PathKind), cmp.Compare(x.Path, y.Path))
}

// comparePrecedence orders routes so that the first that matches a request is the right one:
// exact host, wildcard (more labels first), regex, any; within a host exact path, regex, prefix;
// then the longer path; then the priority; the rest only makes the order total. Regex hosts
// have no host in common, so among them the path decides first.
func comparePrecedence(x, y Route) int {
	if c := cmp.Compare(x.HostKind, y.HostKind); c != 0 {
		return c
	}
	if x.HostKind != HostRegex {
		if c := cmp.Or(cmp.Compare(strings.Count(y.Host, "."), strings.Count(x.Host, ".")), cmp.Compare(x.Host, y.Host)); c != 0 {
			return c
		}
	}
	if c := cmp.Or(cmp.Compare(x.PathKind, y.PathKind), cmp.Compare(len(y.Path), len(x.Path)), cmp.Compare(y.Priority, x.Priority)); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(len(y.Host), len(x.Host)), cmp.Compare(x.Host, y.Host), cmp.Compare(x.Path, y.Path))
}

func compareAge(x, y Route) int {
	return cmp.Or(cmp.Compare(x.created, y.created), cmp.Compare(x.Service, y.Service), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Backend, y.Backend))
}
