//go:build real

package main

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// promptAgent syncs words at once; the default is up to five minutes later.
const promptAgent = `check_update_interval = "0s"`

// at makes a registrator register at another Consul.
func at(c *testbed.ConsulServer) func(*Options) {
	return func(o *Options) { o.Consul.Addresses, o.Consul.Token = []string{c.Addr}, c.Token }
}

// seen is an instance as whoever asks Consul for healthy services sees it, without what says only
// how it came there: indexes, the node's own checks, and how and by whom its checks are run.
type seen struct {
	ID, Name, Address string
	Port              int
	Tags              []string
	Meta              map[string]string
	Weights           api.AgentWeights
	Override          bool
	Checks            []string
}

// instances reads /v1/health/service of every service of our containers.
func instances(client *api.Client) ([]seen, error) {
	names, _, err := client.Catalog().Services(nil)
	if err != nil {
		return nil, err
	}
	var list []seen
	for name := range names {
		entries, _, err := client.Health().Service(name, "", false, nil)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Service.Meta[service.Owner] == "" {
				continue
			}
			s := seen{
				e.Service.ID, e.Service.Service, e.Service.Address, e.Service.Port,
				e.Service.Tags, e.Service.Meta, e.Service.Weights, e.Service.EnableTagOverride, nil,
			}
			for _, c := range e.Checks {
				switch {
				case c.ServiceID == "":
				case strings.HasPrefix(c.CheckID, "service:"):
					s.Checks = append(s.Checks, c.CheckID+" "+c.Name+" "+c.Status+" "+c.Output)
				default: // an agent has words of its own for what it found
					s.Checks = append(s.Checks, c.CheckID+" "+c.Name+" "+c.Status)
				}
			}
			slices.Sort(s.Checks)
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b seen) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// TestAgent_sameAsCatalog lets two registrators look at one engine, one in each mode: whoever asks
// for services is told the same.
func TestAgent_sameAsCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := testbed.Consul(t)
	agent := other.Agent(t, testNode, "-hcl", promptAgent)
	w.shellImage()
	web := newSite(t)
	w.engine.Image("checked", `HEALTHCHECK --interval=1s --timeout=1s --retries=1 CMD ["/web","-healthcheck"]`)
	w.engine.Image("ill", `HEALTHCHECK --interval=1s --timeout=1s --retries=1 CMD ["/web","-healthcheck","-listen","127.0.0.1:1"]`)

	w.run("plain", "web")
	w.run("told", "-e", "SERVICE_NAME=shop", "-e", "SERVICE_TAGS=b,a", "-e", "SERVICE_REGION=eu", "-e", "SERVICE_WEIGHT=7",
		"-e", "SERVICE_ALIASES=cache", "-e", "SERVICE_ENABLE_TAG_OVERRIDE=true", "-l", "fairway.host=shop.test", "web")
	w.run("custom", "-e", "SERVICE_ID=my/own id?", "web")
	w.run("two", "-p", "9090", "-p", "53/udp", "web")
	w.run("healthy", "checked")
	w.run("unhealthy", "ill")
	w.run("pausing", "web")
	w.run("http", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_PORT="+web.port, "-e", "SERVICE_IP="+web.ip, "-e", "SERVICE_CHECK_HEADER=Host: shop.test", "web")
	w.run("tcp", "-e", "SERVICE_CHECK_TCP=true", "-e", "SERVICE_CHECK_PORT=1", "-e", "SERVICE_IP="+web.ip, "web")
	w.run("failing", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_PORT="+web.port, "-e", "SERVICE_IP="+web.ip, "-e", "SERVICE_CHECK_DEREGISTER_AFTER=1h", "web")
	w.run("script", "-e", "SERVICE_CHECK_SCRIPT=exit 1", "shell")
	w.engine.Run("pause", "pausing")

	w.start(func(o *Options) { o.Mode = modeCatalog })
	w.ready()
	w.start(at(agent))
	w.ready()
	if !strings.Contains(w.log.String(), "registering in agent mode: reason=\"client agent hostname (127.0.0.1) answers, which has this node's name\"") {
		t.Errorf("the log does not say why:\n%s", w.log)
	}
	same := func(what string, want int) {
		t.Helper()
		testbed.Eventually(t, 2*soon, what, func() error {
			a, err := instances(w.consul.Client)
			if err != nil {
				return err
			}
			b, err := instances(other.Client)
			if err != nil {
				return err
			}
			if diff := gocmp.Diff(a, b); diff != "" || len(a) != want {
				return fmt.Errorf("%d instances, want %d; -catalog +agent:\n%s", len(a), want, diff)
			}
			return nil
		})
	}
	same("both hold the same", 14)
	w.row("my/own id?", passing)
	web.code.Store(http.StatusInternalServerError)
	w.engine.Run("unpause", "pausing")
	w.row(id("pausing"), passing)
	testbed.Eventually(t, 3*soon, "the site is seen to fail", func() error {
		a, err := instances(w.consul.Client)
		if i := slices.IndexFunc(a, func(s seen) bool { return s.ID == id("http") }); err == nil && !strings.Contains(a[i].Checks[0], "critical") {
			err = fmt.Errorf("checks %q", a[i].Checks)
		}
		return err
	})
	same("both hold the same after changes", 14)
	w.engine.Run("rm", "-f", "told", "two", "script")
	same("both hold the same after deaths", 8)
}

// TestAgent_life follows what only an agent does: it restarts, forgets, and is told by others.
func TestAgent_life(t *testing.T) {
	w := newWorld(t)
	agent := w.consul.Agent(t, testNode, "-hcl", promptAgent)
	web := newSite(t)
	w.run("kept", "-e", "SERVICE_NAME=kept", "web")
	w.run("asked", "-e", "SERVICE_NAME=asked", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_PORT="+web.port, "-e", "SERVICE_IP="+web.ip, "web")
	neverCritical := func(d time.Duration, what string) {
		t.Helper()
		w.never(d, what, func() error {
			list, err := instances(w.consul.Client)
			for _, s := range list {
				if strings.Contains(strings.Join(s.Checks, " "), " critical") {
					return fmt.Errorf("%s: %q", s.ID, s.Checks)
				}
			}
			return err
		})
	}
	stop := w.start(at(agent))
	neverCritical(2*time.Second, "what is well is never registered as anything else")
	w.ready()
	both := func(what string) {
		t.Helper()
		testbed.Eventually(t, 4*soon, what, func() error {
			list, err := instances(w.consul.Client)
			if err == nil && (len(list) != 2 || !strings.Contains(list[0].Checks[1], "passing: running") && !strings.Contains(strings.Join(list[0].Checks, " "), "passing running")) {
				err = fmt.Errorf("instances %+v", list)
			}
			return err
		})
	}
	both("both are registered")
	// The agent has its own time for the first probe, whose words it writes.
	testbed.Eventually(t, 2*soon, "the agent has asked", func() error {
		checks, _, err := w.consul.Client.Health().Checks("asked", nil)
		if err == nil && !slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return strings.HasPrefix(c.Output, "HTTP GET") }) {
			err = fmt.Errorf("%d checks", len(checks))
		}
		return err
	})

	w.sub("C94_nothingChangesNothingIsWritten", func(t *testing.T, w *world) {
		w.quiet()
		index, writes := w.index(), w.metric("writes_total")
		w.wakesInVain("kept")
		if got := w.index(); got != index || w.metric("writes_total") != writes {
			t.Errorf("index %d to %d, %v writes", index, got, w.metric("writes_total")-writes)
		}
	})

	// C104: another registrator finds everything as it is.
	w.quiet()
	index := w.index()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = w.start(at(agent))
	w.ready()
	w.quiet()
	if got := w.index(); got != index || w.metric("writes_total") != 0 {
		t.Errorf("a restart wrote: index %d to %d, %v writes", index, got, w.metric("writes_total"))
	}

	w.sub("C81_C76_stopAndDeath", func(t *testing.T, w *world) {
		w.run("c81", "web", "-drain", "2s")
		w.row(id("c81"), passing)
		stopped := make(chan struct{})
		go func() { w.engine.Run("stop", "c81"); close(stopped) }()
		w.rowWithin(time.Second, id("c81"), "critical: stopping")
		select {
		case <-stopped:
			t.Fatal("stopping was only seen after the end")
		default:
		}
		<-stopped
		w.row(id("c81"), "")
	})

	w.sub("C84_sameNameOtherContainer", func(t *testing.T, w *world) {
		w.run("again", "web")
		w.row(id("again"), passing)
		w.engine.Run("rm", "-f", "again")
		w.run("again", "-e", "SERVICE_CHECK_TCP=true", "-e", "SERVICE_CHECK_PORT=1", "-e", "SERVICE_IP="+web.ip, "web")
		w.never(time.Second, "it is not passing before it is ready", func() error {
			list, err := instances(w.consul.Client)
			for _, s := range list {
				if s.ID == id("again") && s.Address == web.ip && !strings.Contains(strings.Join(s.Checks, " "), "critical") {
					return fmt.Errorf("checks %q", s.Checks)
				}
			}
			return err
		})
		w.engine.Run("rm", "-f", "again")
		w.row(id("again"), "")
	})

	w.sub("C95_deletedByHand", func(t *testing.T, w *world) {
		if err := agent.Client.Agent().ServiceDeregister(id("kept")); err != nil {
			t.Fatal(err)
		}
		w.row(id("kept"), passing)
	})

	w.sub("otherRowsStay", func(t *testing.T, w *world) {
		err := agent.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: "by-hand", Name: "by-hand", Port: 1})
		if err != nil {
			t.Fatal(err)
		}
		w.run("next", "web")
		w.row(id("next"), passing)
		w.row("by-hand", "no check")
		w.engine.Run("rm", "-f", "next")
		w.row(id("next"), "")
	})

	w.sub("maintenanceStays", func(t *testing.T, w *world) {
		if err := agent.Client.Agent().EnableServiceMaintenance(id("kept"), "by an operator"); err != nil {
			t.Fatal(err)
		}
		w.engine.Run("pause", "kept")
		w.engine.Run("unpause", "kept")
		w.run("next", "web")
		w.row(id("next"), passing)
		checks, err := agent.Client.Agent().Checks()
		if err != nil || checks["_service_maintenance:"+id("kept")] == nil {
			t.Errorf("maintenance is gone: %v, %v", checks, err)
		}
		if err := agent.Client.Agent().DisableServiceMaintenance(id("kept")); err != nil {
			t.Fatal(err)
		}
		w.engine.Run("rm", "-f", "next")
		w.row(id("next"), "")
	})

	w.sub("restartOfTheAgent", func(t *testing.T, w *world) {
		agent.Stop()
		testbed.Eventually(t, 2*soon, "registrator says that consul is away", func() error { return w.notReady("consul: ") })
		agent.Start()
		w.ready()
		w.row(id("kept"), passing)
		both("both are registered again")
	})

	w.sub("C98_theAgentLostItsData", func(t *testing.T, w *world) {
		agent.Wipe()
		testbed.Eventually(t, 2*soon, "the agent holds them again", func() error {
			held, err := agent.Client.Agent().Services()
			if err == nil && len(held) != 2 {
				err = fmt.Errorf("holds %d", len(held))
			}
			return err
		})
		both("both are registered again")
		w.ready()
	})

	w.sub("C102_exit", func(t *testing.T, w *world) {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		both("rows stay")
		stop = w.start(at(agent), func(o *Options) { o.Deregister = true })
		w.ready()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w.is(map[string]string{})
		sessions, _, err := w.consul.Client.Session().List(nil)
		if err != nil || len(sessions) > 0 {
			t.Errorf("sessions %v, %v", sessions, err)
		}
	})
}

// TestAgent_renews lets a row run out when nobody renews it.
func TestAgent_renews(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	agent := w.consul.Agent(t, testNode, "-hcl", promptAgent)
	w.run("kept", "web")
	quick := func(o *Options) { o.SessionTTL = time.Second } // rows last for two
	stop := w.start(at(agent), quick)
	w.row(id("kept"), passing)
	w.ready()
	index := w.index()
	w.never(5*time.Second, "it is renewed", func() error { return w.same(map[string]string{id("kept"): passing}) })
	if got := w.index(); got != index {
		t.Errorf("renewing wrote to the catalog: index %d to %d", index, got)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, soon, "it runs out", func() error {
		rows, err := w.rows()
		if err == nil && !strings.HasPrefix(rows[id("kept")], "critical: TTL expired") {
			err = fmt.Errorf("is %q", rows[id("kept")])
		}
		return err
	})
	w.start(at(agent), quick)
	w.row(id("kept"), passing)
}
