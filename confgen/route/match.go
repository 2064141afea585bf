package route

import (
	"regexp"
	"slices"
	"strings"
)

// Match returns the route that a plain GET request takes, without headers and query. Host is in
// lower case, without port and trailing dot, and path is decoded, as the proxies compare them.
// It is for explanations, and the yardstick that both proxies are measured by in tests.
func (t Table) Match(entrypoint, host, path string) (Route, bool) {
	return t.Find(Request{Entrypoint: entrypoint, Host: host, Path: path, Method: "GET"})
}

// Request is what routes look at. Host is in lower case, without port and trailing dot, Path is
// decoded, Query is as it was sent.
type Request struct {
	Entrypoint, Host, Path, Method, Query string
	Header                                map[string]string // the first value of each, by name in lower case
}

// Find returns the route that a request takes: the first in the table that matches.
func (t Table) Find(q Request) (Route, bool) {
	for _, r := range t.Routes {
		if slices.Contains(r.Entrypoints, q.Entrypoint) && r.MatchesHost(q.Host) && r.MatchesPath(q.Path) && len(r.When.Unmet(q)) == 0 {
			return r, true
		}
	}
	return Route{}, false
}

// MatchesHost reports whether a route is for a host.
func (r Route) MatchesHost(host string) bool {
	switch r.HostKind {
	case HostExact:
		return host == r.Host
	case HostWildcard:
		front, ok := strings.CutSuffix(host, "."+r.Host)
		return ok && front != ""
	case HostRegex:
		return matches(r.Host, host)
	case HostAny:
	}
	return true
}

// MatchesPath reports whether a route is for a path: a prefix matches whole segments.
func (r Route) MatchesPath(path string) bool {
	switch r.PathKind {
	case PathExact:
		return path == r.Path
	case PathRegex:
		return matches(r.Path, path)
	case PathPrefix:
	}
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(r.Path, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// matches is false for an expression that Build would have refused.
func matches(pattern, s string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(s)
}
