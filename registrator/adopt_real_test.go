//go:build real

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
)

// legacy registers a row as gliderlabs/registrator does, through an agent: an active check gets the
// ID that ours has.
func (w *world) legacy(agent *testbed.ConsulServer, id, name string, port int, check *api.AgentServiceCheck) {
	w.t.Helper()
	err := agent.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: id, Name: name, Address: testIP, Port: port, Tags: []string{"old"}, Meta: map[string]string{"region": "eu"}, Check: check,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// heldBy lists the IDs that an agent holds.
func heldBy(agent *testbed.ConsulServer) (ids []string, err error) {
	services, err := agent.Client.Agent().Services()
	for id := range services {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, err
}

func (w *world) holds(agent *testbed.ConsulServer, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	testbed.Eventually(w.t, 2*soon, "the agent holds what it should", func() error {
		ids, err := heldBy(agent)
		if err == nil && !slices.Equal(ids, want) {
			err = fmt.Errorf("%q, want %q", ids, want)
		}
		return err
	})
}

// gapless watches a service until the returned function is called: it has always a passing instance.
func (w *world) gapless(name string) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			entries, _, err := w.consul.Client.Health().Service(name, "", true, nil)
			if err != nil || len(entries) == 0 {
				w.t.Errorf("a gap: service %s has %d passing instances, %v", name, len(entries), err)
				return
			}
			select {
			case <-end:
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(end); <-ended }
}

// TestAdopt moves from gliderlabs/registrator with one agent, in both modes: what it left is taken
// over without a gap, and what is somebody else's stays.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for _, mode := range []mode{modeAgent, modeCatalog} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			name := testNode // in agent mode the agent's own
			if mode == modeCatalog {
				name = "host-agent"
			}
			agent := w.consul.Agent(t, name, "-hcl", promptAgent)
			w.run("web", "web")
			w.run("asked", "-e", "SERVICE_NAME=asked", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_INITIAL_STATUS=passing", "web")
			w.run("hidden", "-e", "SERVICE_IGNORE=true", "web")
			w.legacy(agent, id("web"), "web", w.published("web"), nil)
			// Its check would fail, if it were still run.
			w.legacy(agent, id("asked"), "asked", w.published("asked"), &api.AgentServiceCheck{HTTP: "http://127.0.0.1:1/", Interval: "1s", Status: "critical"})
			w.legacy(agent, id("gone"), "gone", 1, nil)
			w.legacy(agent, id("hidden"), "hidden", 2, nil)
			w.legacy(agent, "other-host:web:8080", "web2", 3, nil)
			w.legacy(agent, "by-hand", "by-hand", 4, nil)
			where := func(o *Options) {
				o.Mode = mode
				if mode == modeAgent {
					at(agent)(o)
				}
			}
			adopt := func(o *Options) {
				where(o)
				if o.Adopt = true; mode == modeCatalog {
					o.AdoptAgent = agent.Addr
				}
			}
			testbed.Eventually(t, soon, "the old rows are in the catalog", func() error {
				list, _, err := w.consul.Client.Health().Service("web", "", true, nil)
				if err == nil && len(list) == 0 {
					err = errors.New("not yet")
				}
				return err
			})
			stopWatching := w.gapless("web")

			opt := w.options()
			adopt(&opt)
			opt.DryRun = true
			var out strings.Builder
			if err := once(t.Context(), opt, daemon.ForTest(discard(), ""), &out); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				map[string]string{"agent": "adopt: take " + id("web"), "catalog": "adopt at the other agent: wait " + id("web")}[string(mode)],
				"remove " + id("gone") + ": no container gone runs here", "leave " + id("hidden") + ": container hidden runs, and nothing is registered",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the dry run lacks %q:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "other-host") || strings.Contains(out.String(), "by-hand") {
				t.Errorf("the dry run speaks of rows of others:\n%s", out.String())
			}
			all := []string{id("web"), id("asked"), id("gone"), id("hidden"), "other-host:web:8080", "by-hand"}
			w.holds(agent, all...)

			stop := w.start(where) // without --adopt nothing old is touched
			w.ready()
			if ids, err := heldBy(agent); err != nil || len(ids) != len(all) {
				t.Errorf("without --adopt the agent holds %q, %v", ids, err)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}

			stop = w.start(adopt)
			w.ready()
			if mode == modeAgent {
				w.holds(agent, id("web"), id("asked"), id("hidden"), "other-host:web:8080", "by-hand")
				w.row(id("web"), passing)
			} else {
				w.holds(agent, id("hidden"), "other-host:web:8080", "by-hand")
				w.is(map[string]string{id("web"): passing, id("asked"): passing})
			}
			stopWatching()
			if s := w.service(id("web")); len(s.Tags) != 0 || s.Meta["region"] != "" || s.Meta["fairway-container"] == "" {
				t.Errorf("not written anew: %+v", s)
			}
			index := w.index()
			w.never(1500*time.Millisecond, "no check of before goes on", func() error { // it would have run by now
				checks, err := agent.Client.Agent().Checks()
				if err == nil && mode == modeAgent && checks["service:"+id("asked")].Status != "passing" {
					err = fmt.Errorf("check %+v", checks["service:"+id("asked")])
				}
				return err
			})
			w.quiet()
			writes := w.metric("writes_total")
			w.engine.Run("kill", "-s", "USR1", "web")
			w.quiet()
			if got := w.metric("writes_total"); got != writes {
				t.Errorf("%v more writes (index %d to %d)", got-writes, index, w.index())
			}
			if n := w.log.Count("row of gliderlabs/registrator: id=" + id("hidden")); n != 1 {
				t.Errorf("told of what stays %d times:\n%s", n, w.log)
			}
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAdopt_onOurOwnNode takes over rows that were written to the catalog under our node's name.
func TestAdopt_onOurOwnNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run("web", "web")
	put := func(id string, checks ...string) {
		t.Helper()
		var list api.HealthChecks
		for _, c := range checks {
			list = append(list, &api.HealthCheck{Node: testNode, CheckID: c, ServiceID: id, Name: "old", Status: "passing"})
		}
		_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: testNode, Address: "192.0.2.9", Service: &api.AgentService{ID: id, Service: "web", Port: 1}, Checks: list,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	put(id("web"), "service:"+id("web"), "service:"+id("web")+":2")
	put(id("gone"))
	stopWatching := w.gapless("web")
	w.start(func(o *Options) { o.Adopt = true })
	w.ready()
	w.is(map[string]string{id("web"): passing})
	stopWatching()
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil || len(checks) != 2 {
		t.Errorf("checks %v, %v", statuses(checks), err)
	}
	if s := w.service(id("web")); s.Port != w.published("web") {
		t.Errorf("port %d", s.Port)
	}
}
