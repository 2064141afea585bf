//go:build real

package liveness

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// registered puts a node of Fairway's with one passing service into the catalog.
func registered(t *testing.T, c *api.Client, node string) {
	t.Helper()
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: "192.0.2.1", NodeMeta: map[string]string{"external-source": "fairway"},
		Service: &api.AgentService{ID: node + ":web:80", Service: "web", Port: 80, Meta: map[string]string{service.Owner: "0123456789ab:80/tcp"}},
		Checks: api.HealthChecks{
			{Node: node, CheckID: CheckID, Name: "Fairway registrator lives", Status: api.HealthPassing},
			{Node: node, CheckID: "service:" + node + ":web:80", ServiceID: node + ":web:80", Status: api.HealthPassing},
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// start runs a client for node; the returned function ends it as a power cut does.
func start(t *testing.T, c *api.Client, node string, reapAfter time.Duration) (*Client, func()) {
	t.Helper()
	l := New(c, Options{Node: node, TTL: MinTTL, ReapAfter: reapAfter, Log: hclog.New(&hclog.LoggerOptions{Name: node, Level: hclog.Debug})})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop := func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("liveness of %s: %v", node, err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return l, stop
}

func passing(c *api.Client, want ...string) error {
	entries, _, err := c.Health().Service("web", "", true, nil)
	if err != nil {
		return err
	}
	got := map[string]bool{}
	for _, e := range entries {
		got[e.Node.Node] = true
	}
	ok := len(got) == len(want)
	for _, n := range want {
		ok = ok && got[n]
	}
	if !ok {
		return fmt.Errorf("passing on %v, want %v", got, want)
	}
	return nil
}

func keyHeld(c *api.Client, key string) (string, error) {
	p, _, err := c.KV().Get(key, nil)
	if err != nil {
		return "", err
	}
	if p == nil || p.Session == "" {
		return "", fmt.Errorf("nobody holds %s", key)
	}
	return p.Session, nil
}

func waitHeld(t *testing.T, c *api.Client, key string) string {
	t.Helper()
	var session string
	testbed.Eventually(t, 5*time.Second, "somebody holds "+key, func() (err error) {
		session, err = keyHeld(c, key)
		return err
	})
	return session
}

// TestLiveness_C103 follows the whole life of three nodes: the elected reaper's own node dies,
// another is elected and takes the dead node's services out, the node comes back, and one that
// stays away is removed.
func TestLiveness_C103_theReaperItselfDies(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	for _, n := range []string{"a", "b"} {
		registered(t, c, n)
	}
	_, kill := start(t, c, "a", 0)
	sessionA := waitHeld(t, c, nodePrefix+"a")
	if got := waitHeld(t, c, reaperKey); got != sessionA {
		t.Fatalf("the only registrator was not elected: lock held by %s, want %s", got, sessionA)
	}
	start(t, c, "b", time.Second)
	waitHeld(t, c, nodePrefix+"b")

	kill()
	died := time.Now()
	testbed.Within(t, 2*MinTTL+2*time.Second, "services of the dead node are taken out", func() error { return passing(c, "b") })
	t.Logf("taken out %s after death", time.Since(died).Round(time.Millisecond))
	if holder := waitHeld(t, c, reaperKey); holder != waitHeld(t, c, nodePrefix+"b") {
		t.Error("the survivor does not hold the reaper's lock")
	}

	testbed.Eventually(t, 10*time.Second, "the node that stays away is removed", func() error {
		n, _, err := c.Catalog().Node("a", nil)
		if err == nil && n != nil {
			err = errors.New("still in the catalog")
		}
		return err
	})
	if p, _, err := c.KV().Get(nodePrefix+"a", nil); err != nil || p != nil {
		t.Errorf("its key after removal: %v, %v", p, err)
	}
	if err := passing(c, "b"); err != nil {
		t.Error(err)
	}
}

func TestLiveness_C104_aRestartTakesTheSessionOver(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	_, stop := start(t, c, "a", 0)
	before := waitHeld(t, c, nodePrefix+"a")
	stop()
	again, _ := start(t, c, "a", 0)
	testbed.Eventually(t, 5*time.Second, "the new one has a session", func() error {
		if again.session.get() == "" {
			return errors.New("none")
		}
		return nil
	})
	if got := again.session.get(); got != before {
		t.Errorf("session %s after the restart, want %s", got, before)
	}
}

func TestLiveness_aLostSessionOrKeyIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	start(t, c, "a", 0)
	session := waitHeld(t, c, nodePrefix+"a")
	if _, err := c.Session().Destroy(session, nil); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, time.Second, "a new session holds the key", func() error {
		s, err := keyHeld(c, nodePrefix+"a")
		if err == nil && s == session {
			err = errors.New("the old one does")
		}
		return err
	})
	if _, err := c.KV().Delete(nodePrefix+"a", nil); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, time.Second, "the key is back", func() error { _, err := keyHeld(c, nodePrefix+"a"); return err })
	if err := passing(c, "a"); err != nil {
		t.Error(err)
	}
}

func TestLiveness_leaveIsNoDeath(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	l, stop := start(t, c, "a", 0)
	session := waitHeld(t, c, nodePrefix+"a")
	stop()
	if err := l.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p, _, err := c.KV().Get(nodePrefix+"a", nil); err != nil || p != nil {
		t.Errorf("key after leaving: %v, %v", p, err)
	}
	if e, _, err := c.Session().Info(session, nil); err != nil || e != nil {
		t.Errorf("session after leaving: %v, %v", e, err)
	}
}

// TestReaper_actsOnlyWithTheLock proves the transaction's assertions: without the lock, and with
// a key that has changed, nothing is written.
func TestReaper_actsOnlyWithTheLock(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	registered(t, c, "b")
	l, _ := start(t, c, "b", 0)
	session := waitHeld(t, c, reaperKey)
	if _, err := c.KV().Put(&api.KVPair{Key: nodePrefix + "a"}, nil); err != nil {
		t.Fatal(err)
	}
	p, _, err := c.KV().Get(nodePrefix+"a", nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := c.Session().CreateNoChecks(&api.SessionEntry{Node: "a", TTL: "10s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]struct {
		session string
		v       verdict
	}{
		"with a session that does not hold the lock": {stranger, verdict{node: "a", index: p.ModifyIndex}},
		"with a key that has changed":                {session, verdict{node: "a", index: p.ModifyIndex - 1}},
		"removal without the lock":                   {stranger, verdict{node: "a", index: p.ModifyIndex, remove: true}},
		"removal with a key that has changed":        {session, verdict{node: "a", index: p.ModifyIndex - 1, remove: true}},
	} {
		if err := l.execute(t.Context(), try.session, try.v); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := passing(c, "a", "b"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := l.execute(t.Context(), session, verdict{node: "a", index: p.ModifyIndex}); err != nil {
		t.Fatal(err)
	}
	if err := passing(c, "b"); err != nil {
		t.Errorf("with lock and key: %v", err)
	}
}

// note is what a node's key says.
func note(c *api.Client, node string) (life, error) {
	p, _, err := c.KV().Get(nodePrefix+node, nil)
	return lifeIn(p), err
}

// TestStopped_C102 ends a registrator on purpose: its node stays in for the grace time, and no
// longer. Its session is ended by hand, as Consul does after at most two TTLs.
func TestStopped_C102_theGraceOfACleanEnd(t *testing.T) {
	t.Parallel()
	const patience = 4 * time.Second
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	registered(t, c, "b")
	start(t, c, "b", 0)
	waitHeld(t, c, reaperKey)
	a, stop := start(t, c, "a", 0)
	session := waitHeld(t, c, nodePrefix+"a")
	stop()
	if err := a.Stopped(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Session().Destroy(session, nil); err != nil {
		t.Fatal(err)
	}
	ended := time.Now()
	testbed.Within(t, patience+5*time.Second, "the node is out after the grace time", func() error { return passing(c, "b") })
	if took := time.Since(ended); took < patience-time.Second/2 {
		t.Errorf("out after %s", took)
	}

	// The next registrator is back in, and nothing of the note is left.
	start(t, c, "a", 0)
	waitHeld(t, c, nodePrefix+"a")
	if l, err := note(c, "a"); err != nil || l != (life{}) {
		t.Errorf("the key says %+v, %v", l, err)
	}
}

// TestStopped_theNextOneTakesTheNoteBack covers the two orders of an upgrade: the new registrator
// starts after the old one has ended, and before.
func TestStopped_theNextOneTakesTheNoteBack(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	gone := func(session string) {
		t.Helper()
		testbed.Eventually(t, 3*time.Second, "the note is taken back", func() error {
			l, err := note(c, "a")
			if err == nil && l != (life{}) {
				err = fmt.Errorf("the key says %+v", l)
			}
			return err
		})
		if got := waitHeld(t, c, nodePrefix+"a"); got != session {
			t.Errorf("session %s, want %s", got, session)
		}
	}
	first, stop := start(t, c, "a", 0)
	session := waitHeld(t, c, nodePrefix+"a")
	stop()
	if err := first.Stopped(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if l, err := note(c, "a"); err != nil || time.Duration(l.Stopped) != time.Hour {
		t.Fatalf("the key says %+v, %v", l, err)
	}
	second, stop := start(t, c, "a", 0)
	gone(session)

	third, _ := start(t, c, "a", 0)
	testbed.Eventually(t, 3*time.Second, "the third takes the session over", func() error {
		if third.session.get() != session {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	if err := second.Stopped(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	gone(session)
}

// TestReaper_removesOnlyWhatIsOurs gives up a node on which somebody else registered, too, and on
// which we had more rows than one transaction holds.
func TestReaper_removesOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	c := testbed.Consul(t).Client
	registered(t, c, "a")
	registered(t, c, "b")
	put := func(id, owner string) {
		t.Helper()
		meta := map[string]string{}
		if owner != "" {
			meta[service.Owner] = owner
		}
		_, err := c.Catalog().Register(&api.CatalogRegistration{
			Node: "a", Address: "192.0.2.1", SkipNodeUpdate: true,
			Service: &api.AgentService{ID: id, Service: id, Port: 80, Meta: meta},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 70 {
		put(fmt.Sprintf("ours-%d", i), "0123456789ab:80/tcp")
	}
	put("theirs", "")
	_, err := c.Catalog().Register(&api.CatalogRegistration{
		Node: "a", Address: "192.0.2.1", SkipNodeUpdate: true,
		Check: &api.AgentCheck{Node: "a", CheckID: "ping", Name: "ping", Status: api.HealthPassing},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := start(t, c, "b", 0)
	session := waitHeld(t, c, reaperKey)
	if _, err := c.KV().Put(&api.KVPair{Key: nodePrefix + "a"}, nil); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		t.Helper()
		p, _, err := c.KV().Get(nodePrefix+"a", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.execute(t.Context(), session, verdict{node: "a", index: p.ModifyIndex, remove: true}); err != nil {
			t.Fatal(err)
		}
		if p, _, err := c.KV().Get(nodePrefix+"a", nil); err != nil || p != nil {
			t.Errorf("its key: %v, %v", p, err)
		}
	}
	remove()
	list, _, err := c.Catalog().NodeServiceList("a", nil)
	if err != nil || list.Node == nil || len(list.Services) != 1 || list.Services[0].ID != "theirs" {
		t.Fatalf("left on the node: %+v, %v", list, err)
	}
	checks, _, err := c.Health().Node("a", nil)
	if err != nil || len(checks) != 1 || checks[0].CheckID != "ping" {
		t.Fatalf("checks left: %+v, %v", checks, err)
	}

	// What carries no mark is not ours even if somebody wrote a key for it.
	if _, err := c.Catalog().Register(&api.CatalogRegistration{Node: "a", Address: "1.2.3.4"}, nil); err != nil {
		t.Fatal(err)
	}
	put("ours-again", "0123456789ab:80/tcp")
	if _, err := c.KV().Put(&api.KVPair{Key: nodePrefix + "a"}, nil); err != nil {
		t.Fatal(err)
	}
	remove()
	if list, _, err := c.Catalog().NodeServiceList("a", nil); err != nil || len(list.Services) != 2 {
		t.Errorf("of a node without our mark is left: %+v, %v", list, err)
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))
}
