//go:build real

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	traffic "fairway/internal/load"
	"fairway/internal/testbed"
)

// rollout is a new release of a service: two instances with old labels are replaced, one after the
// other, by two with new ones.
type rollout struct {
	name      string
	old, next map[string]string
	newest    map[string]string // labels of the second new instance, where they are others; it serves nothing if idle
	idle      bool
	path      string // under load, which may not fail; "" for /
	fresh     wanted // works from the first new instance on, and to the end
	gone      wanted // worked until then, and no more
	apart     bool   // old and new have no path in common: each works while it has instances
	problem   string // is reported of the newest instance
	reloads   int    // of HAProxy, at most
}

// wanted is a page and how it is to be answered.
type wanted struct{ host, path, release string }

// rollouts are the releases that are tried. No label of theirs has been used by an earlier one.
func rollouts() []rollout {
	labels := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m["fairway-"+pairs[i]] = pairs[i+1]
		}
		return m
	}
	return []rollout{
		{
			name: "a second host", old: labels("host", "a.test"), next: labels("host", "a.test,b.test"),
			fresh: wanted{host: "b.test"},
		},
		{
			name: "another path", old: labels("host", "a.test", "path", "/api,/old"), next: labels("host", "a.test", "path", "/api,/new"),
			path: "/api", fresh: wanted{"a.test", "/new", ""}, gone: wanted{host: "a.test", path: "/old"},
		},
		{
			name: "no path in common", old: labels("host", "a.test", "path", "/one"), next: labels("host", "a.test", "path", "/two"),
			path: "/one", fresh: wanted{"a.test", "/two", ""}, gone: wanted{host: "a.test", path: "/one"}, apart: true, reloads: 2,
		},
		{
			name:  "other options",
			old:   labels("host", "a.test", "timeout-server", "20s", "headers-response", "X-Release: 1"),
			next:  labels("host", "a.test", "timeout-server", "30s", "headers-response", "X-Release: 2"),
			fresh: wanted{"a.test", "", "2"}, reloads: 1,
		},
		{
			name: "a misspelt key", old: labels("host", "a.test"), next: labels("host", "a.test,b.test"), newest: labels("hots", "a.test,b.test"), idle: true,
			fresh: wanted{host: "b.test"}, problem: "did you mean fairway.host?",
		},
		{
			name: "a host that is none", old: labels("host", "a.test"), next: labels("host", "a.test,b.test"), newest: labels("host", "http://a.test/"), idle: true,
			fresh: wanted{host: "b.test"}, problem: `"http://a.test/"`,
		},
		{
			name: "a value that is none", old: labels("host", "a.test"), next: labels("host", "a.test,b.test"), newest: labels("host", "a.test,b.test", "timeout-server", "soon"),
			fresh: wanted{host: "b.test"}, problem: `"soon"`, reloads: 1,
		},
	}
}

// A roll-out that changes labels drops no route: clients that never ask twice see no failure on what
// old and new labels have in common, and what is new works with the first new instance.
func TestRollout_F57_changedLabels(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			c := r.program("--guard-grace", "0s") // whole services go here, between two roll-outs
			for _, what := range rollouts() {
				for _, order := range []string{"start-first", "stop-first"} {
					t.Run(what.name+" "+order, func(t *testing.T) {
						s := &rolling{rollout: what, r: r, c: c, t: t, slug: strings.ReplaceAll(what.name+" "+order, " ", "-")}
						s.roll(order == "start-first")
					})
				}
			}
		})
	}
}

// program starts a confgen as people run it, with its proxy, and waits until it is ready.
func (r *rig) program(args ...string) *confgen {
	r.t.Helper()
	if r.kind == "nginx" {
		args = append(args, "--reload", "child", "--", testbed.Program(r.t, "nginx"))
	}
	c := r.confgen(args...)
	if r.kind != "nginx" {
		r.haproxy()
	}
	r.register("stays", r.web("stays"), "passing", host("stays.test")) // an empty catalog is not believed
	c.ready()
	r.answers("stays.test", "stays")
	return c
}

// patience bounds every wait. How long something takes is logged and not judged: the machine may be
// busy.
const patience = time.Minute

// rolling is a roll-out under way.
type rolling struct {
	rollout
	r    *rig
	c    *confgen
	t    *testing.T
	slug string

	old, next [2]app
	serving   int // instances that are to get requests, the one that stays included
	clients   *traffic.Run
}

// app is an application that can be stopped.
type app struct {
	web
	close func()
}

func (r *rig) app(t *testing.T, name string) app {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Served-By", name)
		fmt.Fprint(w, name)
	}))
	t.Cleanup(s.Close)
	return app{addressed(t, name, s), s.Close}
}

func (s *rolling) roll(startFirst bool) {
	s.serving = 1
	for i := range s.old {
		s.old[i], s.next[i] = s.r.app(s.t, fmt.Sprintf("%s.old.%d", s.slug, i)), s.r.app(s.t, fmt.Sprintf("%s.new.%d", s.slug, i))
		s.r.register(s.slug, s.old[i].web, "passing", s.rollout.old)
		s.serving++
	}
	s.t.Cleanup(s.clear)
	s.settled()
	s.see(wanted{"a.test", s.path, ""}, 200)
	reloads := s.c.metric("fairway_confgen_reloads_total")
	s.load(s.path)
	for i := range s.old {
		steps := []func(int){s.stop, s.start}
		if startFirst {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			step(i)
			pressed(s.t, s.clients)
		}
		s.settled() // as Swarm does, which monitors an instance before it turns to the next
	}
	s.serve()
	s.see(s.fresh, 200)
	if s.gone.host != "" {
		s.see(s.gone, 404)
	}
	s.rest()
	s.reported()
	n := int(s.c.metric("fairway_confgen_reloads_total") - reloads)
	s.t.Logf("%d reloads", n)
	if s.r.kind == "haproxy" && n > s.reloads {
		s.t.Errorf("%d reloads, want at most %d", n, s.reloads)
	}
}

// start starts a new instance.
func (s *rolling) start(i int) {
	meta, idle := s.rollout.next, false
	if i == 1 && s.newest != nil {
		meta, idle = s.newest, s.idle
	}
	s.r.register(s.slug, s.next[i].web, "passing", meta)
	if !idle {
		s.serving++
	}
	if i > 0 {
		return
	}
	began := time.Now()
	s.see(s.fresh, 200)
	s.t.Logf("what is new works %s after the first new instance is registered", time.Since(began).Round(time.Millisecond))
	if s.gone.host != "" {
		s.see(s.gone, map[bool]int{false: 404, true: 200}[s.apart])
	}
}

// stop stops an old instance: it is told to end, which the catalog learns at the same moment, and
// finishes what it has; then it is gone.
func (s *rolling) stop(i int) {
	if s.apart && i == 1 { // the old path goes with its last instance
		s.rest()
		s.load(s.fresh.path)
	}
	s.r.register(s.slug, s.old[i].web, "critical", s.rollout.old)
	s.old[i].close()
	s.r.deregister(s.old[i].web)
	s.serving--
}

// serve waits until every new instance that is to serve has answered.
func (s *rolling) serve() {
	s.t.Helper()
	names := []string{s.next[0].name}
	if !s.idle {
		names = append(names, s.next[1].name)
	}
	for _, name := range names {
		testbed.Eventually(s.t, patience, name+" answers", func() error {
			_, header := s.r.ask(s.t, s.fresh.host, s.fresh.path)
			if by := header.Get("X-Served-By"); by != name {
				return fmt.Errorf("%q does", by)
			}
			return nil
		})
	}
}

// settled waits until confgen has brought the proxy to what the catalog says.
func (s *rolling) settled() {
	s.t.Helper()
	testbed.Eventually(s.t, patience, fmt.Sprintf("%d servers", s.serving), func() error {
		if now := s.c.status(); now.Servers["ready"] != s.serving || now.Apply.Applied != now.Snapshot.Version || now.Apply.Error != "" {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
}

// see waits until a page is answered as it should be.
func (s *rolling) see(page wanted, code int) {
	s.t.Helper()
	testbed.Eventually(s.t, patience, fmt.Sprintf("%+v is answered with %d", page, code), func() error {
		got, header := s.r.ask(s.t, page.host, page.path)
		if got != code || header.Get("X-Release") != page.release && page.release != "" {
			return fmt.Errorf("%d %v", got, header)
		}
		return nil
	})
}

// ask asks for a page and returns the head of the answer.
func (r *rig) ask(t *testing.T, host, path string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header
}

func (s *rolling) load(path string) {
	s.t.Helper()
	s.clients = s.r.load(s.t, "a.test", path)
}

// load starts clients that never ask twice. nginx before 1.27.4 closes kept connections without a
// word when it is reloaded, so its clients open one for each request.
func (r *rig) load(t *testing.T, host, path string) *traffic.Run {
	t.Helper()
	opt := traffic.Options{Address: fmt.Sprintf("127.0.0.1:%d", r.port), Host: host, Path: path, NewConn: 3, Rate: 200}
	if r.kind == "haproxy" {
		opt.KeepAlive = 3
	}
	clients, err := traffic.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// rest ends the load, none of which may have failed.
func (s *rolling) rest() {
	s.t.Helper()
	unharmed(s.t, s.clients)
}

// pressed waits until there were some more requests, so that each state of the world has met some.
func pressed(t *testing.T, clients *traffic.Run) {
	t.Helper()
	before := clients.Requests()
	testbed.Eventually(t, patience, "20 more requests", func() error {
		if n := clients.Requests() - before; n < 20 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
}

// unharmed ends a load, no request of which may have failed.
func unharmed(t *testing.T, clients *traffic.Run) {
	t.Helper()
	pressed(t, clients)
	report := clients.Stop()
	t.Logf("%d requests, %d failed, served by %v", report.Requests, report.Failed, report.Servers)
	if report.Failed > 0 {
		t.Errorf("%d of %d requests failed: %+v", report.Failed, report.Requests, report.Failures)
	}
}

// reported looks for the slip of the newest instance among the problems.
func (s *rolling) reported() {
	s.t.Helper()
	if s.problem == "" {
		return
	}
	id := "n1:" + s.next[1].name + ":80"
	for _, p := range s.c.status().Problems {
		if p.Instance == id && strings.Contains(p.Reason, s.problem) {
			return
		}
	}
	s.t.Errorf("nothing tells of %s in the labels of %s: %+v", s.problem, id, s.c.status().Problems)
}

// clear takes the service out of the catalog, so that the next roll-out finds its hosts free.
func (s *rolling) clear() {
	for i := range s.old {
		s.r.register(s.slug, s.old[i].web, "critical", s.rollout.old)
		s.r.deregister(s.old[i].web)
		s.r.register(s.slug, s.next[i].web, "critical", s.rollout.next)
		s.r.deregister(s.next[i].web)
	}
	s.serving = 1
	s.settled()
}
