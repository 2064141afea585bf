//go:build real

package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// TestLife follows containers through their lives, one after another, before one registrator.
func TestLife(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()

	w.sub("C1_C76_startAndDie", func(t *testing.T, w *world) {
		w.run("redis.0", "web")
		w.row(id("redis.0"), passing)
		s := w.service(id("redis.0"))
		if s.Service != "web" || s.Address != testIP || s.Port != w.published("redis.0") {
			t.Errorf("registered %s at %s:%d, want web at %s:%d", s.Service, s.Address, s.Port, testIP, w.published("redis.0"))
		}
		w.engine.Run("kill", "redis.0")
		w.row(id("redis.0"), "")
		w.engine.Run("start", "redis.0")
		w.row(id("redis.0"), passing)
		w.engine.Run("rm", "-f", "redis.0")
		w.is(map[string]string{})
	})

	w.sub("C80_otherSignalsChangeNothing", func(t *testing.T, w *world) {
		w.run("c80", "web")
		w.row(id("c80"), passing)
		w.engine.Run("kill", "-s", "USR1", "c80")
		w.never(500*time.Millisecond, "after SIGUSR1", func() error { return w.same(map[string]string{id("c80"): passing}) })
		w.engine.Run("rm", "-f", "c80")
		w.row(id("c80"), "")
	})

	w.sub("C81_stopIsSeenAtTheSignal", func(t *testing.T, w *world) {
		w.run("c81", "web", "-drain", "2s")
		w.row(id("c81"), passing)
		stopped := make(chan time.Time, 1)
		go func() { w.engine.Run("stop", "c81"); stopped <- time.Now() }()
		w.rowWithin(time.Second, id("c81"), "critical: stopping")
		select {
		case <-stopped:
			t.Fatal("stopping was only seen after the end")
		default:
		}
		<-stopped
		w.row(id("c81"), "")
		w.engine.Run("rm", "c81")
	})

	w.sub("C82_pauseAndUnpause", func(t *testing.T, w *world) {
		w.run("c82", "web")
		w.row(id("c82"), passing)
		w.engine.Run("pause", "c82")
		w.row(id("c82"), "critical: paused")
		w.engine.Run("unpause", "c82")
		w.row(id("c82"), passing)
		w.engine.Run("rm", "-f", "c82")
	})

	w.sub("C84_rename", func(t *testing.T, w *world) {
		w.run("c84", "web")
		w.row(id("c84"), passing)
		w.engine.Run("rename", "c84", "c84new")
		w.is(map[string]string{id("c84new"): passing})
		w.engine.Run("rm", "-f", "c84new")
	})

	w.sub("C85_C86_dieAndStartInOneBurst", func(t *testing.T, w *world) {
		w.run("c85", "web", "-abrupt")
		for range 5 {
			w.engine.Run("restart", "c85")
		}
		w.row(id("c85"), passing)
		if s := w.service(id("c85")); s.Port != w.published("c85") {
			t.Errorf("port %d, want %d", s.Port, w.published("c85"))
		}
		w.never(300*time.Millisecond, "after the burst", func() error { return w.same(map[string]string{id("c85"): passing}) })
		w.engine.Run("rm", "-f", "c85")
	})

	w.sub("C94_nothingChangesNothingIsWritten", func(t *testing.T, w *world) {
		w.run("c94", "-e", "SERVICE_TAGS=a,b", "-e", "SERVICE_REGION=us", "-e", "SERVICE_WEIGHT=3", "-l", "fairway.host=x.test", "web")
		w.row(id("c94"), passing)
		w.quiet()
		writes, index := w.metric("writes_total"), w.index()
		w.wakesInVain("c94")
		if got := w.metric("writes_total"); got != writes {
			t.Errorf("%v writes without a change", got-writes)
		}
		if got := w.index(); got != index {
			t.Errorf("the catalog went from index %d to %d without a change", index, got)
		}
		w.engine.Run("rm", "-f", "c94")
	})

	w.sub("C95_rowsDeletedByHand", func(t *testing.T, w *world) {
		w.run("c95", "web")
		w.row(id("c95"), passing)
		w.deregister(&api.CatalogDeregistration{Node: testNode, ServiceID: id("c95")})
		w.rowWithin(time.Second, id("c95"), passing)
		w.deregister(&api.CatalogDeregistration{Node: testNode, CheckID: "service:" + id("c95")})
		w.rowWithin(time.Second, id("c95"), passing)
		w.deregister(&api.CatalogDeregistration{Node: testNode})
		w.rowWithin(time.Second, id("c95"), passing)
		w.engine.Run("rm", "-f", "c95")
	})

	w.sub("aliveIsPassingAgainAtOnce", func(t *testing.T, w *world) {
		_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: testNode, SkipNodeUpdate: true,
			Check: &api.AgentCheck{Node: testNode, CheckID: "fairway:alive", Name: "x", Status: api.HealthCritical},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		testbed.Within(t, time.Second, "alive again", func() error {
			checks, _, err := w.consul.Client.Health().Node(testNode, nil)
			if err != nil {
				return err
			}
			for _, c := range checks {
				if c.CheckID == "fairway:alive" && c.Status == api.HealthPassing {
					return nil
				}
			}
			return fmt.Errorf("checks: %v", checks)
		})
	})

	w.sub("C28_C22_hostAndNoneNetworks", func(t *testing.T, w *world) {
		w.engine.Run("run", "-d", "--name", "c28", "--network", "none", "web")
		w.engine.Run("run", "-d", "--name", "c22", "web")
		w.engine.Run("run", "-d", "--name", "c26", "--network", "host", "web")
		w.is(map[string]string{id("c26"): passing})
		if s := w.service(id("c26")); s.Address != testIP || s.Port != 8080 {
			t.Errorf("host network: %s:%d", s.Address, s.Port)
		}
		w.engine.Run("rm", "-f", "c28", "c22", "c26")
	})

	w.sub("C56_C59_sharedNetwork", func(t *testing.T, w *world) {
		w.engine.Run("run", "-d", "--name", "c59", "-p", "8080", "web")
		w.engine.Run("run", "-d", "--name", "c59side", "--network", "container:c59", "web", "-listen", ":8081")
		w.row(id("c59"), passing)
		w.row(id("c59side"), passing)
		if s := w.service(id("c59side")); s.Port != w.published("c59") {
			t.Errorf("port %d, want that of the container it lives in, %d", s.Port, w.published("c59"))
		}
		w.engine.Run("rm", "-f", "c59side", "c59")
	})
}

// TestLife_internal watches a container's own addresses come and go.
func TestLife_internal(t *testing.T) {
	w := newWorld(t)
	w.engine.Run("network", "create", "--subnet", "10.66.0.0/24", "late")
	w.start(func(o *Options) { o.Service.Internal, o.Service.Network = true, "late" })
	w.ready()

	w.sub("C55_aNetworkAttachedAfterStart", func(t *testing.T, w *world) {
		w.engine.Run("run", "-d", "--name", "c55", "web")
		w.row(id("c55"), passing)
		before := w.service(id("c55")).Address
		w.engine.Run("network", "connect", "--ip", "10.66.0.9", "late", "c55")
		testbed.Eventually(t, soon, "the address is that of the network", func() error {
			if got := w.service(id("c55")).Address; got != "10.66.0.9" {
				return fmt.Errorf("is %s, was %s", got, before)
			}
			return nil
		})
		w.engine.Run("network", "disconnect", "late", "c55")
		testbed.Eventually(t, soon, "the address is the old one", func() error {
			if got := w.service(id("c55")).Address; got != before {
				return fmt.Errorf("is %s, was %s", got, before)
			}
			return nil
		})
	})
}

// TestLife_health_C83 lets one container's health depend on another container.
func TestLife_health_C83(t *testing.T) {
	w := newWorld(t)
	w.run("target", "web")
	address := w.engine.Run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "target")
	w.engine.Image("checked", fmt.Sprintf(
		`HEALTHCHECK --interval=1s --timeout=1s --retries=1 CMD ["/web","-healthcheck","-listen","%s:8080"]`, address))
	w.start()
	w.ready()

	w.run("c83", "checked")
	w.rowWithin(time.Second, id("c83"), "critical: starting")
	w.row(id("c83"), "passing: healthy")
	w.engine.Run("pause", "target")
	testbed.Eventually(t, soon, "docker says unhealthy", func() error { return w.healthIs("c83", "unhealthy") })
	testbed.Within(t, time.Second, "the row is critical within a second", func() error {
		rows, err := w.rows()
		if err == nil && len(rows[id("c83")]) < 19 || rows[id("c83")][:19] != "critical: unhealthy" {
			err = fmt.Errorf("row is %q", rows[id("c83")])
		}
		return err
	})
	w.engine.Run("unpause", "target")
	w.row(id("c83"), "passing: healthy")
}

func (w *world) healthIs(name, want string) error {
	if got := w.engine.Run("inspect", "-f", "{{.State.Health.Status}}", name); got != want {
		return fmt.Errorf("health is %s", got)
	}
	return nil
}

// TestLife_onSuccess keeps what failed and drops what ended well.
func TestLife_onSuccess(t *testing.T) {
	w := newWorld(t)
	w.start(func(o *Options) { o.Service.Deregister, o.Docker.Exited = service.OnSuccess, true })
	w.ready()

	w.sub("C77_ended", func(t *testing.T, w *world) {
		w.run("stopped", "web", "-drain", "0s") // 0 on SIGTERM
		w.run("killed", "web")                  // 137
		w.run("abrupt", "web", "-abrupt")       // 143 on SIGTERM
		for _, name := range []string{"stopped", "killed", "abrupt"} {
			w.row(id(name), passing)
		}
		w.engine.Run("stop", "stopped")
		w.engine.Run("kill", "killed")
		w.engine.Run("stop", "abrupt")
		w.is(map[string]string{})
		for name, want := range map[string]string{"stopped": "0", "killed": "137", "abrupt": "143"} {
			if got := w.engine.Run("inspect", "-f", "{{.State.ExitCode}}", name); got != want {
				t.Errorf("container %s ended with %s, so this proves nothing about %s", name, got, want)
			}
		}
		w.engine.Run("rm", "stopped", "killed", "abrupt")
	})

	w.sub("C78_failedStays", func(t *testing.T, w *world) {
		w.run("c78", "web", "-drain", "0s", "-grace", "1ms")
		w.row(id("c78"), passing)
		w.hangRequest("c78")
		w.engine.Run("stop", "c78")
		w.row(id("c78"), "critical: exited with code 1")
		w.never(300*time.Millisecond, "it stays", func() error { return w.same(map[string]string{id("c78"): "critical: exited with code 1"}) })
		w.engine.Run("rm", "c78")
		w.is(map[string]string{})
	})

	w.sub("C79_failedButRemovedByDocker", func(t *testing.T, w *world) {
		w.run("c79", "--rm", "web", "-drain", "0s", "-grace", "1ms")
		w.row(id("c79"), passing)
		w.hangRequest("c79")
		w.engine.Run("stop", "c79")
		w.row(id("c79"), "")
	})
}

// quiet waits until no pass has been made for a moment.
func (w *world) quiet() {
	w.t.Helper()
	last, since := -1.0, time.Now()
	testbed.Eventually(w.t, soon, "passes cease", func() error {
		if now := w.metric("passes_total"); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 200*time.Millisecond {
			return errors.New("still going")
		}
		return nil
	})
}

// index is the last change of anything in the catalog that our node could have made.
func (w *world) index() uint64 {
	w.t.Helper()
	_, meta, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	list, services, err := w.consul.Client.Catalog().NodeServiceList(testNode, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	highest := max(meta.LastIndex, services.LastIndex, list.Node.ModifyIndex)
	for _, s := range list.Services {
		highest = max(highest, s.ModifyIndex)
	}
	return highest
}

func (w *world) deregister(d *api.CatalogDeregistration) {
	w.t.Helper()
	if _, err := w.consul.Client.Catalog().Deregister(d, nil); err != nil {
		w.t.Fatal(err)
	}
}
