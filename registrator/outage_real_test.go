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
	"fairway/registrator/catalog"
	"fairway/registrator/service"
)

func TestConsulOutages(t *testing.T) {
	w := newWorld(t)
	w.run("first", "web")

	w.consul.Stop()
	stop := w.start()
	w.sub("C96_awayAtTheStart", func(t *testing.T, w *world) {
		testbed.Eventually(t, soon, "registrator says that consul is away", func() error {
			if w.log.Count("condition=consul") == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		if err := w.notReady("consul: "); err != nil {
			t.Error(err)
		}
		w.consul.Start()
		w.row(id("first"), passing)
		w.ready()
		if n := w.log.Count("[WARN]  registrator: not ready, trying again until it is: condition=consul"); n != 1 {
			t.Errorf("the outage was logged %d times", n)
		}
	})

	w.sub("C97_hangs", func(t *testing.T, w *world) {
		w.consul.Hang()
		w.run("duringHang", "web")
		testbed.Eventually(t, 15*time.Second, "a deadline ends the wait", func() error { return w.notReady("consul: ") })
		w.engine.Run("rm", "-f", "duringHang")
		w.run("afterHang", "web")
		w.consul.Resume()
		w.rowWithin(20*time.Second, id("afterHang"), passing)
		w.row(id("duringHang"), "")
		w.row(id("first"), passing)
	})

	w.sub("changesDuringAnOutage", func(t *testing.T, w *world) {
		w.consul.Stop()
		w.engine.Run("rm", "-f", "afterHang")
		w.run("whileAway", "web")
		w.consul.Start()
		w.rowWithin(20*time.Second, id("whileAway"), passing)
		w.is(map[string]string{id("first"): passing, id("whileAway"): passing})
	})

	w.sub("C98_restartedEmpty", func(t *testing.T, w *world) {
		w.engine.Run("pause", "whileAway")
		w.row(id("whileAway"), "critical: paused")
		w.consul.Wipe()
		w.rowWithin(20*time.Second, id("first"), passing)
		w.is(map[string]string{id("first"): passing, id("whileAway"): "critical: paused"})
		testbed.Eventually(t, 20*time.Second, "the session is back", func() error {
			p, _, err := w.consul.Client.KV().Get("fairway/nodes/"+testNode, nil)
			if err == nil && (p == nil || p.Session == "") {
				err = errors.New("no session")
			}
			return err
		})
		w.engine.Run("unpause", "whileAway")
		w.row(id("whileAway"), passing)
	})

	w.sub("C98_restoredFromASnapshot", func(t *testing.T, w *world) {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		w.start(func(o *Options) { o.Resync = 2 * time.Second }) // no watch tells of it for sure
		snapshot, _, err := w.consul.Client.Snapshot().Save(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer snapshot.Close()
		w.run("later", "web")
		w.engine.Run("rm", "-f", "whileAway")
		want := map[string]string{id("first"): passing, id("later"): passing}
		w.is(want)
		if err := w.consul.Client.Snapshot().Restore(nil, snapshot); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, 20*time.Second, "rows are as the containers, not as the snapshot", func() error { return w.same(want) })
	})
}

func (w *world) notReady(want string) error {
	text, err := w.readyz()
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, want) && line != want+"ok" {
			return nil
		}
	}
	return fmt.Errorf("ready: %s", text)
}

func TestDockerOutages(t *testing.T) {
	w := newWorld(t, "--live-restore")
	w.run("kept", "web")
	w.run("ends", "web")
	w.start()
	w.ready()
	want := map[string]string{id("kept"): passing, id("ends"): passing}
	w.is(want)

	w.sub("C99_restartWithLiveRestore", func(t *testing.T, w *world) {
		index := w.index()
		w.engine.Stop()
		testbed.Eventually(t, soon, "registrator says that docker is away", func() error { return w.notReady("docker: ") })
		if err := w.same(want); err != nil {
			t.Error("docker away is no empty node:", err)
		}
		w.engine.Start()
		w.ready()
		w.quiet()
		if err := w.same(want); err != nil {
			t.Error(err)
		}
		if got := w.index(); got != index {
			t.Errorf("rows of containers that never stopped were written: index %d to %d", index, got)
		}
		if n := w.log.Count("not ready, trying again until it is: condition=docker:") + w.log.Count("not ready, trying again until it is: condition=docker "); n > 1 {
			t.Errorf("the outage was logged %d times", n)
		}
		w.run("after", "web")
		w.row(id("after"), passing)
		w.engine.Run("rm", "-f", "after")
		w.row(id("after"), "")
	})

	w.sub("C92_aDeathThatNobodySaw", func(t *testing.T, w *world) {
		pid := w.engine.Run("inspect", "-f", "{{.State.Pid}}", "ends")
		w.engine.Stop()
		w.kill(pid)
		w.engine.Start()
		w.is(map[string]string{id("kept"): passing})
	})
}

func TestDocker_awayAtTheStart(t *testing.T) {
	w := newWorld(t, "--live-restore")
	w.run("early", "web")
	w.engine.Stop()
	stop := w.start()
	testbed.Eventually(t, soon, "registrator says that docker is away", func() error { return w.notReady("docker: ") })
	if err := stop(); err != nil {
		t.Errorf("asked to end before docker answered, run returned %v", err)
	}
	w.start()
	w.engine.Start()
	w.row(id("early"), passing)
	w.ready()
}

func TestConsulRefusals(t *testing.T) {
	t.Run("C105_anAgentOwnsTheName", func(t *testing.T) {
		w := newWorld(t)
		w.run("c105", "web")
		d := daemon.ForTest(discard(), "")
		opt := w.options()
		opt.NodeName, opt.Mode = "consul-server", modeCatalog
		err := run(t.Context(), opt, d)
		if !errors.Is(err, catalog.ErrAgent) || !strings.Contains(err.Error(), "--node-name") || !strings.Contains(err.Error(), "--mode agent") {
			t.Fatalf("run returned %v", err)
		}
		list, _, err := w.consul.Client.Catalog().NodeServiceList("consul-server", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list.Services {
			if s.Meta[service.Owner] != "" {
				t.Errorf("registered %s on the agent's node", s.ID)
			}
		}
	})

	t.Run("somebodyElseUsesTheName", func(t *testing.T) {
		w := newWorld(t)
		w.run("web", "web")
		_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: "other", Address: "1.2.3.4", Service: &api.AgentService{ID: "x", Service: "x", Port: 1},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		opt := w.options()
		opt.NodeName = "other"
		if err := run(t.Context(), opt, daemon.ForTest(discard(), "")); !errors.Is(err, catalog.ErrForeign) {
			t.Fatalf("run returned %v", err)
		}
		list, _, err := w.consul.Client.Catalog().NodeServiceList("other", nil)
		if err != nil || list.Node.Address != "1.2.3.4" || len(list.Node.Meta) != 0 || len(list.Services) != 1 {
			t.Errorf("the other's node became %+v, %v", list, err)
		}
	})
}

func TestOwnership_C93_leftovers(t *testing.T) {
	w := newWorld(t)
	w.run("live", "web")
	put := func(node, id, owner string, port int) {
		t.Helper()
		meta := map[string]string{}
		if owner != "" {
			meta[service.Owner] = owner
		}
		_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "192.0.2.9", NodeMeta: map[string]string{"external-source": "fairway"},
			Service: &api.AgentService{ID: id, Service: "web", Port: port, Meta: meta},
			Check:   &api.AgentCheck{Node: node, CheckID: "service:" + id, ServiceID: id, Name: "container", Status: api.HealthPassing},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	full := w.engine.Run("inspect", "-f", "{{.Id}}", "live")
	put(testNode, id("dead"), "0123456789ab:8080/tcp", 1)
	put(testNode, "custom", "0123456789ab:8080/tcp", 2)
	put(testNode, id("live"), full[:12]+":8080/tcp", 3) // wrong port and address
	put(testNode, "by-hand", "", 4)
	put("other", "other:live:8080", "ba9876543210:8080/tcp", 5)
	w.start()
	w.ready()
	w.is(map[string]string{id("live"): passing, "by-hand": "passing: "})
	if got, want := w.service(id("live")).Port, w.published("live"); got != want {
		t.Errorf("port %d, want %d", got, want)
	}
	list, _, err := w.consul.Client.Catalog().NodeServiceList("other", nil)
	if err != nil || len(list.Services) != 1 {
		t.Errorf("the other node has %v, %v", list, err)
	}
}

func TestExit_C102(t *testing.T) {
	w := newWorld(t)
	w.run("c102", "web")
	grace := func(o *Options) { o.StopGrace = time.Hour }
	noted := func(t *testing.T, want bool) {
		t.Helper()
		testbed.Eventually(t, soon, fmt.Sprintf("the key notes a stop: %v", want), func() error {
			p, _, err := w.consul.Client.KV().Get("fairway/nodes/"+testNode, nil)
			if err == nil && (p == nil || strings.Contains(string(p.Value), `"stopped_for":"1h0m0s"`) != want) {
				err = fmt.Errorf("the key is %+v", p)
			}
			return err
		})
	}
	stop := w.start(grace)
	w.row(id("c102"), passing)
	w.ready()
	noted(t, false)

	w.sub("rowsStay", func(t *testing.T, w *world) {
		asked := time.Now()
		if err := stop(); err != nil {
			t.Errorf("run returned %v", err)
		}
		if took := time.Since(asked); took > time.Second {
			t.Errorf("ending took %s", took)
		}
		if err := w.same(map[string]string{id("c102"): passing}); err != nil {
			t.Error(err)
		}
		noted(t, true)
	})

	w.sub("C104_recreatedWithoutAChange", func(t *testing.T, w *world) {
		index := w.index()
		stop = w.start(grace)
		w.ready()
		w.quiet()
		if got := w.index(); got != index {
			t.Errorf("a restart wrote: index %d to %d", index, got)
		}
		noted(t, false)
	})

	w.sub("dockerEndedFirst", func(t *testing.T, w *world) { // as when the machine shuts down
		stop := w.start(grace)
		w.ready()
		noted(t, false) // that of the last subtest is taken back
		w.run("slow", "web", "-drain", "5s")
		w.row(id("slow"), passing)
		ended := make(chan struct{})
		go func() { w.engine.Stop(); close(ended) }()
		w.row(id("slow"), "critical: stopping")
		if err := stop(); err != nil {
			t.Error(err)
		}
		select {
		case <-ended:
			t.Fatal("Docker ended before registrator did, which proves nothing")
		default:
		}
		noted(t, false)
		<-ended
		w.engine.Start()
		w.engine.Run("rm", "slow")
		w.engine.Run("start", "c102")
	})

	w.sub("deregister", func(t *testing.T, w *world) {
		stop = w.start(func(o *Options) { o.Deregister = true })
		w.ready()
		if err := stop(); err != nil {
			t.Errorf("run returned %v", err)
		}
		node, _, err := w.consul.Client.Catalog().Node(testNode, nil)
		if err != nil || node != nil {
			t.Errorf("our node after leaving: %v, %v", node, err)
		}
		key, _, err := w.consul.Client.KV().Get("fairway/nodes/"+testNode, nil)
		if err != nil || key != nil {
			t.Errorf("our key after leaving: %v, %v", key, err)
		}
	})
}

// TestACL_C106 gives registrator a token that may not write one service.
func TestACL_C106(t *testing.T) {
	const master = "11111111-2222-3333-4444-555555555555"
	w := &world{t: t, engine: testbed.Docker(t), log: &testbed.Log{}}
	w.consul = testbed.Consul(t, "-hcl", `acl { enabled = true  default_policy = "allow"  tokens { initial_management = "`+master+`" } }`)
	w.engine.Image("web")
	asMaster := &api.WriteOptions{Token: master}
	policy, _, err := w.consul.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "registrator", Rules: `service "forbidden" { policy = "read" }`}, asMaster)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := w.consul.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, asMaster)
	if err != nil {
		t.Fatal(err)
	}
	w.run("good", "web")
	w.run("bad", "-e", "SERVICE_NAME=forbidden", "web")
	w.start(func(o *Options) { o.Consul.Token = token.SecretID })
	w.is(map[string]string{id("good"): passing})
	w.ready()
	w.run("late", "web")
	w.is(map[string]string{id("good"): passing, id("late"): passing})
	if got := w.metric("refused_rows"); got != 1 {
		t.Errorf("refused_rows is %v", got)
	}
	if n := w.log.Count("consul refuses a row"); n != 1 {
		t.Errorf("the refusal was logged %d times", n)
	}
	transactions := w.metric("transactions_total")
	w.never(time.Second, "the refused row backs off", func() error {
		if got := w.metric("transactions_total") - transactions; got > 8 {
			return fmt.Errorf("%v transactions within a second", got)
		}
		return nil
	})

	policy.Rules = strings.Replace(policy.Rules, `policy = "read"`, `policy = "write"`, 1)
	if _, _, err := w.consul.Client.ACL().PolicyUpdate(policy, asMaster); err != nil {
		t.Fatal(err)
	}
	w.rowWithin(30*time.Second, id("bad"), passing)
	if strings.Contains(w.log.String(), token.SecretID) {
		t.Error("the token is in the log")
	}
}

// TestOnce covers the two ways that end by themselves.
func TestOnce(t *testing.T) {
	w := newWorld(t)
	w.run("once", "-e", "SERVICE_a.b=1", "web")
	opt := w.options()
	var out strings.Builder

	opt.DryRun = true
	if err := once(t.Context(), opt, daemon.ForTest(discard(), ""), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"register node (hostname)", "register " + id("once"), "192.168.1.102:", "problem: container once, SERVICE_a.b"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("dry run does not say %q:\n%s", want, out.String())
		}
	}
	if node, _, err := w.consul.Client.Catalog().Node(testNode, nil); err != nil || node != nil {
		t.Fatalf("a dry run wrote: %v, %v", node, err)
	}

	opt.DryRun = false
	if err := once(t.Context(), opt, daemon.ForTest(discard(), ""), &out); err != nil {
		t.Fatal(err)
	}
	w.is(map[string]string{id("once"): passing})

	out.Reset()
	opt.DryRun = true
	if err := once(t.Context(), opt, daemon.ForTest(discard(), ""), &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "nothing to change") {
		t.Errorf("second dry run:\n%s", out.String())
	}
}

func TestExplain(t *testing.T) {
	w := newWorld(t)
	w.run("shown", "web")
	w.engine.Run("create", "--name", "never", "web")
	full := w.engine.Run("inspect", "-f", "{{.Id}}", "shown")
	for _, ref := range []string{"shown", full, full[:8]} {
		var out strings.Builder
		if err := explain(t.Context(), w.options(), &out, []string{ref}, false, false); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), "shown 8080/tcp") || !strings.Contains(out.String(), testIP) {
			t.Errorf("explain %s:\n%s", ref, out.String())
		}
	}
	var out strings.Builder
	if err := explain(t.Context(), w.options(), &out, nil, true, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shown", "never"} {
		if !slices.Contains(strings.Fields(out.String()), name) {
			t.Errorf("explain --all leaves out %s:\n%s", name, out.String())
		}
	}
	if err := explain(t.Context(), w.options(), &out, []string{"nobody"}, false, false); err == nil {
		t.Error("a container that does not exist is explained")
	}
}
