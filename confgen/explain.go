package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fairway/confgen/route"
)

// explanation says what becomes of a request, and why. It is the document of /explain.
type explanation struct {
	URL      string        `json:"url"`
	Outcome  string        `json:"outcome"` // one line
	Answered bool          `json:"answered"`
	Stale    string        `json:"stale,omitempty"` // why the proxy may still do something else
	Held     string        `json:"held,omitempty"`  // why its service has instances that the catalog lacks
	Listener *listenerInfo `json:"listener,omitempty"`
	Route    *routeInfo    `json:"route,omitempty"`
	Backend  *backendInfo  `json:"backend,omitempty"`
	Others   []candidate   `json:"others,omitempty"`   // what lost, or comes nearest where nothing won
	More     int           `json:"more,omitempty"`     // others left out
	Problems []problem     `json:"problems,omitempty"` // that may be why something is not among them
}

type listenerInfo struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	TLS     bool   `json:"tls"`
}

type routeInfo struct {
	Pattern     string   `json:"pattern"`
	Service     string   `json:"service"`
	Name        string   `json:"name,omitempty"`
	Entrypoints []string `json:"entrypoints"`
	Priority    int      `json:"priority"`
}

type backendInfo struct {
	Name    string         `json:"name"`
	Servers []serverInfo   `json:"servers"`
	Options *route.Options `json:"options,omitempty"`

	Pool []route.Variant `json:"pool,omitempty"` // the services that share it
}

type serverInfo struct {
	Name    string      `json:"name"`
	Address string      `json:"address"`
	Weight  int         `json:"weight"`
	State   route.State `json:"state"`
}

// candidate is a claim that does not get the request.
type candidate struct {
	Route routeInfo `json:"route"`
	Why   []string  `json:"why"`
}

// maxOthers bounds what is told of routes that do not get the request.
const maxOthers = 10

// question is a request that is to be explained.
type question struct {
	url        string
	tls        bool
	host, path string // as routes compare them
	port       int    // 0 when the URL names none
	entrypoint string // asked for by name; "" for the one that the URL means
	method     string
	query      string            // as it is sent
	header     map[string]string // by name in lower case
}

// on is the question as routes read it, on one entrypoint.
func (q question) on(entrypoint string) route.Request {
	return route.Request{Entrypoint: entrypoint, Host: q.host, Path: q.path, Method: q.method, Query: q.query, Header: q.header}
}

// parseQuestion reads what a client asks for: the parameters url (http:// may be left out),
// entrypoint, method (GET) and header ("Name: value", any number of them).
func parseQuestion(form url.Values) (question, error) {
	q, err := parseURL(form.Get("url"))
	if err != nil {
		return q, err
	}
	q.entrypoint, q.method, q.header = form.Get("entrypoint"), cmp.Or(form.Get("method"), http.MethodGet), make(map[string]string)
	for _, text := range form["header"] {
		name, value, found := strings.Cut(text, ":")
		if name = strings.ToLower(strings.TrimSpace(name)); !found || name == "" {
			return q, fmt.Errorf("header %q: want NAME: VALUE", text)
		}
		if _, again := q.header[name]; !again {
			q.header[name] = strings.TrimSpace(value)
		}
	}
	return q, nil
}

func parseURL(text string) (question, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return question{}, err
	case u.Scheme != "http" && u.Scheme != "https":
		return question{}, fmt.Errorf("URL %q: want http or https", text)
	case u.Hostname() == "":
		return question{}, fmt.Errorf("URL %q: want a host", text)
	}
	q := question{
		url: u.Redacted(), tls: u.Scheme == "https", query: u.RawQuery,
		host: strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), path: cmp.Or(u.Path, "/"),
	}
	if u.Port() != "" {
		if q.port, err = strconv.Atoi(u.Port()); err != nil || q.port < 1 || q.port > 65535 {
			return question{}, fmt.Errorf("URL %q: port %s is not from 1 to 65535", text, u.Port())
		}
	}
	return q, nil
}

// dotSegment is what both proxies refuse in a path: two programs could read it in two ways.
var dotSegment = regexp.MustCompile(`/\.\.?(/|$)`)

// explain follows a request through a table.
func explain(t route.Table, q question) explanation {
	e := explanation{URL: q.url}
	listener, err := listenerOf(t, q)
	if err != nil {
		e.Outcome = err.Error()
		return e
	}
	e.Listener = &listenerInfo{listener.Name, net.JoinHostPort(cmp.Or(listener.Address, "*"), strconv.Itoa(listener.Port)), listener.TLS}
	if stream, passed := t.FindStream(listener.Name, q.host); passed {
		e.stream(t, stream)
		return e
	}
	if dotSegment.MatchString(q.path) {
		e.Outcome = "refused with 400: a path with /./ or /../ is read differently by different programs"
		return e
	}
	winner, found := t.Find(q.on(listener.Name))
	if !found {
		e.Outcome = "no route: answered with 404"
		e.nearest(t, listener.Name, q)
		return e
	}
	info := describeRoute(winner)
	e.Route = &info
	e.losers(t, winner, listener.Name, q)
	e.target(t, winner)
	return e
}

// stream tells of a connection whose TLS is passed through: nobody here sees what is asked for.
func (e *explanation) stream(t route.Table, s route.Stream) {
	e.Route = &routeInfo{Pattern: "TLS for " + s.Host, Service: s.Service, Name: s.Name, Entrypoints: []string{s.Entrypoint}}
	e.target(t, route.Route{Backend: s.Backend, Service: s.Service, Name: s.Name})
	if e.Answered {
		e.Outcome = "TLS is passed through as it comes, whatever is asked for: it " + e.Outcome
	} else {
		e.Outcome = fmt.Sprintf("TLS is passed through as it comes, and no server of service %s takes connections: it is closed", s.Service)
	}
}

// listenerOf returns the entrypoint that a URL means: the one of its port, else, where it names
// none, the likeliest of its scheme, since outside the port is often another.
func listenerOf(t route.Table, q question) (route.Entrypoint, error) {
	var all []string
	var fitting []route.Entrypoint
	for _, e := range t.Entrypoints {
		scheme := "http"
		if e.TLS {
			scheme = "https"
		}
		all = append(all, fmt.Sprintf("%s (%s, port %d)", e.Name, scheme, e.Port))
		if q.entrypoint == e.Name {
			return e, nil
		}
		if e.TLS == q.tls && (q.port == 0 || q.port == e.Port) {
			fitting = append(fitting, e)
		}
	}
	if q.entrypoint != "" || len(fitting) == 0 {
		return route.Entrypoint{}, fmt.Errorf("no listener for it; there is %s; --entrypoint NAME picks one where a port is published as another", strings.Join(all, ", "))
	}
	usual, name := 80, "web"
	if q.tls {
		usual, name = 443, "websecure"
	}
	return slices.MinFunc(fitting, func(a, b route.Entrypoint) int {
		rank := func(e route.Entrypoint) int {
			switch {
			case e.Port == usual:
				return 0
			case e.Name == name:
				return 1
			}
			return 2
		}
		return cmp.Compare(rank(a), rank(b))
	}), nil
}

func describeRoute(r route.Route) routeInfo {
	return routeInfo{Pattern: r.Pattern(), Service: r.Service, Name: r.Name, Entrypoints: r.Entrypoints, Priority: r.Priority}
}

// target tells where the winner leads.
func (e *explanation) target(t route.Table, winner route.Route) {
	i := slices.IndexFunc(t.Backends, func(b route.Backend) bool { return b.Name == winner.Backend })
	if i < 0 {
		e.Outcome = "no backend " + winner.Backend
		return
	}
	b := t.Backends[i]
	e.Backend = &backendInfo{Name: b.Name, Servers: []serverInfo{}, Options: b.Options, Pool: b.Pool}
	ready := 0
	for _, s := range b.Servers {
		e.Backend.Servers = append(e.Backend.Servers, serverInfo{s.Name, net.JoinHostPort(s.Address, strconv.Itoa(s.Port)), s.Weight, s.State})
		if s.State == route.Ready && s.Weight > 0 {
			ready++
		}
	}
	switch {
	case b.Options != nil && b.Options.Redirect.Code != 0:
		e.Outcome, e.Answered = fmt.Sprintf("redirected with %d by service %s", b.Options.Redirect.Code, winner.Service), true
	case ready == 0:
		e.Outcome = fmt.Sprintf("no server of service %s takes requests: answered with 503", winner.Service)
	default:
		e.Outcome, e.Answered = fmt.Sprintf("goes to service %s, %d of %d servers", winner.Service, ready, len(b.Servers)), true
	}
}

// losers tells of every other route that is for the host and path, of those for the host alone,
// and of claims that another route holds.
func (e *explanation) losers(t route.Table, winner route.Route, entrypoint string, q question) {
	var full, hostOnly []candidate
	for _, r := range t.Routes {
		if r.Pattern() == winner.Pattern() && r.Service == winner.Service && r.Name == winner.Name && slices.Equal(r.Entrypoints, winner.Entrypoints) || !r.MatchesHost(q.host) {
			continue
		}
		why := lacks(r, entrypoint, q)
		switch {
		case len(why) == 0:
			full = append(full, candidate{describeRoute(r), []string{outranked(winner, r)}})
		case r.MatchesPath(q.path):
			full = append(full, candidate{describeRoute(r), why})
		default:
			hostOnly = append(hostOnly, candidate{describeRoute(r), why})
		}
	}
	for _, f := range t.Foreign {
		switch {
		case !f.MatchesHost(q.host):
		case f.MatchesPath(q.path):
			full = append(full, abroad(f, entrypoint, q))
		default:
			hostOnly = append(hostOnly, abroad(f, entrypoint, q))
		}
	}
	e.others(append(full, hostOnly...))
	place := winner
	place.When = nil
	for _, p := range t.Problems {
		held := strings.HasPrefix(p.Reason, place.Pattern()+" on ") || strings.HasPrefix(p.Reason, place.Pattern()+" [")
		sick := p.Key == quarantineKey && p.Service == winner.Service
		if sick || held || winner.HostKind != route.HostExact && !routed(t, p.Service) {
			e.problem(p)
		}
	}
}

// routed reports whether a service has a route. One that has none may have been meant.
func routed(t route.Table, service string) bool {
	return slices.ContainsFunc(t.Routes, func(r route.Route) bool { return r.Service == service })
}

func (e *explanation) problem(p route.Problem) {
	if len(e.Problems) < maxOthers {
		e.Problems = append(e.Problems, problem{p.Service, p.Instance, p.Key, p.Reason})
	}
}

func (e *explanation) others(list []candidate) {
	if len(list) > maxOthers {
		e.More = len(list) - maxOthers
		list = list[:maxOthers]
	}
	e.Others = list
}

// lacks says what keeps a request from a route; nothing when the route matches it.
func lacks(r route.Route, entrypoint string, q question) []string {
	var why []string
	if !slices.Contains(r.Entrypoints, entrypoint) {
		why = append(why, fmt.Sprintf("it is not on %s but on %s", entrypoint, strings.Join(r.Entrypoints, ", ")))
	}
	if !r.MatchesHost(q.host) {
		why = append(why, fmt.Sprintf("its host is not %s", q.host))
	}
	if !r.MatchesPath(q.path) {
		why = append(why, fmt.Sprintf("its path does not match %s", q.path))
	}
	return append(why, r.When.Unmet(q.on(entrypoint))...)
}

// abroad is what is told of a route that other front ends serve.
func abroad(f route.Foreign, entrypoint string, q question) candidate {
	return candidate{describeRoute(f.Route), append([]string{f.Reason}, lacks(f.Route, entrypoint, q)...)}
}

var (
	hostKinds = map[route.HostKind]string{
		route.HostExact: "an exact host", route.HostWildcard: "a wildcard", route.HostRegex: "a regular expression", route.HostAny: "no host",
	}
	pathKinds = map[route.PathKind]string{
		route.PathExact: "an exact path", route.PathRegex: "a regular expression", route.PathPrefix: "a prefix",
	}
)

// outranked says why w goes before r, both of which match: the rules of the table's order.
func outranked(w, r route.Route) string {
	switch {
	case w.HostKind != r.HostKind:
		return fmt.Sprintf("%s goes before %s", hostKinds[w.HostKind], hostKinds[r.HostKind])
	case w.HostKind == route.HostWildcard && w.Host != r.Host:
		return fmt.Sprintf("the longer wildcard *.%s goes before *.%s", w.Host, r.Host)
	case w.PathKind != r.PathKind:
		return fmt.Sprintf("%s goes before %s", pathKinds[w.PathKind], pathKinds[r.PathKind])
	case len(w.Path) != len(r.Path):
		return fmt.Sprintf("the longer path %s goes before %s", w.Path, r.Path)
	case w.Priority != r.Priority:
		return fmt.Sprintf("priority %d goes before %d", w.Priority, r.Priority)
	case w.When.String() != r.When.String():
		return "more conditions go before fewer, then the one registered first"
	}
	return "both match and weigh the same: the longer pattern, then the alphabet decides"
}

// nearest tells of the routes that lack least, and of problems that may be why there is none.
func (e *explanation) nearest(t route.Table, entrypoint string, q question) {
	type near struct {
		candidate
		lacks, distance int
	}
	var list []near
	consider := func(r route.Route, c candidate) {
		far := 0
		if !r.MatchesHost(q.host) {
			far = distance(q.host, r.Host)
			if far > len(q.host)/2 {
				return // another host altogether
			}
		}
		list = append(list, near{c, len(c.Why), far})
	}
	for _, r := range t.Routes {
		consider(r, candidate{describeRoute(r), lacks(r, entrypoint, q)})
	}
	for _, f := range t.Foreign {
		consider(f.Route, abroad(f, entrypoint, q))
	}
	slices.SortStableFunc(list, func(a, b near) int {
		return cmp.Or(cmp.Compare(a.lacks, b.lacks), cmp.Compare(a.distance, b.distance))
	})
	others := make([]candidate, len(list))
	for i := range list {
		others[i] = list[i].candidate
	}
	e.others(others)
	for _, p := range t.Problems {
		if !routed(t, p.Service) || strings.Contains(p.Reason, q.host) {
			e.problem(p)
		}
	}
}

// distance is how many bytes must be changed, added or taken away to make a out of b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		above := row[0]
		row[0] = i + 1
		for j := range len(b) {
			left := above
			if a[i] != b[j] {
				left = min(above, row[j], row[j+1]) + 1
			}
			above, row[j+1] = row[j+1], left
		}
	}
	return row[len(b)]
}

var errNoTable = errors.New("nothing is known of the catalog yet")

// explained answers /explain?url=…&entrypoint=…&method=…&header=….
func (r *report) explained(w http.ResponseWriter, req *http.Request) {
	q, err := parseQuestion(req.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	table, known, state := r.table, r.table.Entrypoints != nil, r.state
	r.mu.Unlock()
	if !known {
		http.Error(w, errNoTable.Error(), http.StatusServiceUnavailable)
		return
	}
	e := explain(table, q)
	e.Stale = cmp.Or(state.Error, state.Deferred)
	if e.Route != nil {
		for _, h := range r.watcher.Status(req.Context()).Losses {
			if h.Service == e.Route.Service {
				e.Held = heldText(h)
			}
		}
	}
	r.send(w, e)
}

// send writes a document of the admin listener.
func (r *report) send(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	if err := out.Encode(document); err != nil {
		r.log.Debug("answer not sent", "err", err)
	}
}
