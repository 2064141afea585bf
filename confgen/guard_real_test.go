//go:build real

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// command runs a command line of the program in this process and returns what it prints.
func (r *rig) command(args ...string) (string, error) {
	r.t.Helper()
	var out bytes.Buffer
	oneCommand.Lock()
	defer oneCommand.Unlock()
	app := newApp()
	app.Writer = &out
	err := app.RunContext(context.Background(), append([]string{"confgen"}, args...))
	return out.String(), err
}

// A service loses all instances at once, as when its registrator is replaced: they are served
// until an operator approves, which every place tells.
func TestRun_F10_heldAndApproved(t *testing.T) {
	r := newRig(t, "haproxy")
	a, b, other := r.web("a"), r.web("b"), r.web("other")
	r.register("web", a, "passing", host("cluster.test"))
	r.register("web", b, "passing", host("cluster.test"))
	r.register("other", other, "passing", host("other.test"))
	c := r.confgen("--guard-service", "web=approve", "--guard-grace", "1s")
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a", "b")
	reloads := c.metric("fairway_confgen_reloads_total")

	r.deregister(a)
	r.answers("cluster.test", "b") // a partial loss is believed at once
	r.deregister(b)
	testbed.Eventually(t, 10*time.Second, "the loss is held", func() error {
		if s := c.status(); len(s.Catalog.Losses) != 1 || s.Servers["ready"] != 2 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	r.answers("cluster.test", "b")
	if n := c.metric("fairway_confgen_held_services"); n != 1 {
		t.Errorf("held_services %g", n)
	}
	for _, args := range [][]string{
		{"approve", "--dir", r.dir},
		{"status", "--http-addr", c.addr},
		{"explain", "--http-addr", c.addr, "http://cluster.test/"},
	} {
		out, err := r.command(args...)
		if err != nil || !strings.Contains(out, "lost 1 instances at once, 0 left; they stay in use until confgen approve web: n1:b:80") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if info, err := os.Stat(filepath.Join(r.dir, ".confgen", controlSocket)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v, %v", info, err)
	}
	if _, err := r.command("approve", "--dir", r.dir, "other"); err == nil || !strings.Contains(err.Error(), "held are: web") {
		t.Errorf("approved what is not held: %v", err)
	}
	if out, err := r.command("approve", "--dir", r.dir, "web"); err != nil || out != "approved: web\n" {
		t.Errorf("%q, %v", out, err)
	}
	testbed.Eventually(t, 10*time.Second, "and gone", func() error {
		if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "cluster.test"); code != 404 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	testbed.Eventually(t, 5*time.Second, "one reload for the service that is gone", func() error {
		if n := c.metric("fairway_confgen_reloads_total"); n != reloads+1 {
			return fmt.Errorf("%g reloads", n-reloads)
		}
		return nil
	})
	if out, err := r.command("approve", "--dir", r.dir); err != nil || out != "nothing is held back\n" {
		t.Errorf("%q, %v", out, err)
	}
	// A service without a mode of its own is believed after the grace time.
	r.register("brief", a, "passing", host("brief.test"))
	r.answers("brief.test", "a")
	r.deregister(a)
	testbed.Eventually(t, 10*time.Second, "believed after the grace time", func() error {
		if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "brief.test"); code != 404 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	c.stop()
	if _, err := r.command("approve", "--dir", r.dir, "web"); !errors.Is(err, errNobody) {
		t.Errorf("approve without a confgen: %v", err)
	}
}

// All rows of a node go and come back, again and again, and so does its check: no reload, and no
// request that fails.
func TestRun_F12_aNodeFlaps(t *testing.T) {
	r := newRig(t, "haproxy")
	var webs []web
	for i := range 4 {
		webs = append(webs, r.web(fmt.Sprintf("w%d", i)))
	}
	up := func(status string) {
		for i, w := range webs {
			r.register(fmt.Sprintf("s%d", i/2), w, status, host(fmt.Sprintf("s%d.test", i/2)))
		}
	}
	down := func() {
		if _, err := r.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "n1"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	up("passing")
	elsewhere := r.web("elsewhere")
	_, err := r.consul.Client.Catalog().Register(&api.CatalogRegistration{Node: "n2", Address: "127.0.0.1", Service: &api.AgentService{
		ID: "elsewhere", Service: "elsewhere", Address: elsewhere.host, Port: elsewhere.port, Meta: host("elsewhere.test"),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := r.confgen()
	r.haproxy()
	c.ready()
	r.answers("s0.test", "w0", "w1")
	reloads := c.metric("fairway_confgen_reloads_total")
	for range 3 {
		down()
		testbed.Eventually(t, 10*time.Second, "held", func() error {
			if s := c.status(); len(s.Catalog.Losses) != 2 {
				return fmt.Errorf("%+v", s.Catalog)
			}
			return nil
		})
		for _, name := range []string{"s0.test", "s1.test"} {
			if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), name); code != 200 {
				t.Errorf("%s while the node is away: %d %s", name, code, body)
			}
		}
		up("passing")
		testbed.Eventually(t, 10*time.Second, "back", func() error {
			if s := c.status(); len(s.Catalog.Losses) != 0 {
				return fmt.Errorf("%+v", s.Catalog)
			}
			return nil
		})
		// Its check alone: out of traffic at once, and back, both without a reload.
		for i, status := range []string{"critical", "passing"} {
			r.register("s0", webs[0], status, host("s0.test"))
			testbed.Eventually(t, 10*time.Second, status, func() error {
				if s := c.status(); s.Servers["maint"] != 1-i || s.Apply.Applied != s.Snapshot.Version {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
		}
	}
	r.answers("s0.test", "w0", "w1")
	r.answers("s1.test", "w2", "w3")
	if n := c.metric("fairway_confgen_reloads_total"); n != reloads {
		t.Errorf("%g reloads", n-reloads)
	}
}
