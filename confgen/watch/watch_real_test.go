//go:build real

package watch

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/consul"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// register writes an instance the way registrator does: with its check, in one transaction.
func register(t testing.TB, c *api.Client, node, name, addr, status string, meta map[string]string) {
	t.Helper()
	id := node + ":" + name + ":80"
	transact(t, c, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: node, Address: "10.0.0.9"}}},
		&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{
			ID: id, Service: name, Address: addr, Port: 8080, Meta: meta,
		}}},
		&api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: node, CheckID: "service:" + id, Name: "container", Status: status, ServiceID: id,
		}}})
}

func setCheck(t testing.TB, c *api.Client, check api.HealthCheck) {
	t.Helper()
	transact(t, c, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: check}})
}

func transact(t testing.TB, c *api.Client, ops ...*api.TxnOp) {
	t.Helper()
	ok, answer, _, err := c.Txn().Txn(ops, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Fatalf("transaction refused: %v", answer.Errors[0])
	}
}

func deregister(t testing.TB, c *api.Client, node, name string) {
	t.Helper()
	_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: node, ServiceID: node + ":" + name + ":80"}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

var routed = map[string]string{"fairway-host": "cluster.test", "fairway-container": "0123456789ab:80/tcp"}

// Every kind of change reaches the snapshot, each through the poll that announces it.
func TestWatch_everyKindOfChange(t *testing.T) {
	const grace = 50 * time.Millisecond
	for name, opt := range map[string]Options{
		"wide":    {Grace: grace, mode: Aggregate},
		"narrow":  {Grace: grace, mode: Aggregate, narrowAbove: 1},
		"growing": {Grace: grace, mode: Aggregate, narrowAbove: 3},
		"direct":  {Grace: grace, mode: Direct, Connections: 12},
	} {
		t.Run(name, func(t *testing.T) {
			server := testbed.Consul(t)
			everyKindOfChange(t, server.Client, opt, consul.Config{Addresses: []string{server.Addr}})
		})
	}
	t.Run("http2", func(t *testing.T) {
		server, https := secureConsul(t)
		everyKindOfChange(t, server.Client, Options{Grace: grace}, https)
	})
}

func everyKindOfChange(t *testing.T, c *api.Client, opt Options, cfg consul.Config) {
	register(t, c, "n1", "web", "10.1.0.1", "passing", routed)
	register(t, c, "n1", "quiet", "10.1.0.2", "passing", map[string]string{"fairway-container": "0123456789ab:80/tcp"})
	f := followWith(t, opt, cfg)
	v := f.sees("start", instances("web", "10.1.0.1:8080 passing"))
	if n := len(v.Snapshot.Services); n != 1 {
		t.Errorf("%d services, want only the routed one: %v", n, v.Snapshot.Services)
	}
	steps := []struct {
		name string
		do   func()
		want func(View) error
	}{
		{
			"scale up", func() { register(t, c, "n2", "web", "10.1.0.3", "critical", routed) },
			instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 critical"),
		},
		{"becomes healthy", func() {
			setCheck(t, c, api.HealthCheck{Node: "n2", CheckID: "service:n2:web:80", ServiceID: "n2:web:80", Status: "passing"})
		}, instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 passing")},
		{
			"node check", func() { setCheck(t, c, api.HealthCheck{Node: "n2", CheckID: "fairway:alive", Status: "critical"}) },
			instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 critical"),
		},
		{
			"node check passes", func() { setCheck(t, c, api.HealthCheck{Node: "n2", CheckID: "fairway:alive", Status: "passing"}) },
			instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 passing"),
		},
		{
			"node maintenance", func() { setCheck(t, c, api.HealthCheck{Node: "n2", CheckID: api.NodeMaint, Status: "critical"}) },
			instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 maintenance"),
		},
		{"node maintenance ends", func() {
			transact(t, c, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDelete, Check: api.HealthCheck{Node: "n2", CheckID: api.NodeMaint}}})
		}, instances("web", "10.1.0.1:8080 passing", "10.1.0.3:8080 passing")},
		{"definition alone", func() {
			transact(t, c, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "n2", Service: api.AgentService{
				ID: "n2:web:80", Service: "web", Address: "10.1.0.4", Port: 8080, Meta: routed,
			}}})
		}, instances("web", "10.1.0.1:8080 passing", "10.1.0.4:8080 passing")},
		{"by hand, tagged, without check or address", func() {
			_, err := c.Catalog().Register(&api.CatalogRegistration{Node: "n3", Address: "10.3.0.1", Service: &api.AgentService{
				ID: "hand", Service: "hand", Port: 81, Tags: []string{"fairway.host=hand.test"},
			}}, nil)
			if err != nil {
				t.Fatal(err)
			}
		}, instances("hand", "10.3.0.1:81 passing")},
		{"node address", func() {
			if _, err := c.Catalog().Register(&api.CatalogRegistration{Node: "n3", Address: "10.3.0.2"}, nil); err != nil {
				t.Fatal(err)
			}
		}, instances("hand", "10.3.0.2:81 passing")},
		{"F46 override", func() {
			if _, err := c.KV().Put(&api.KVPair{Key: "fairway/override/web/weight", Value: []byte("7")}, nil); err != nil {
				t.Fatal(err)
			}
		}, overriding(route.Override{Path: "web/weight", Value: "7"})},
		{"F46 override taken back", func() {
			if _, err := c.KV().Delete("fairway/override/web/weight", nil); err != nil {
				t.Fatal(err)
			}
		}, overriding()},
		{
			"gets a routing key", func() { register(t, c, "n1", "quiet", "10.1.0.2", "passing", routed) },
			instances("quiet", "10.1.0.2:8080 passing"),
		},
		{"loses its routing key", func() { register(t, c, "n1", "quiet", "10.1.0.2", "passing", nil) }, instances("quiet")},
		{"node removed", func() {
			if _, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: "n3"}, nil); err != nil {
				t.Fatal(err)
			}
		}, instances("hand")},
		{"scale down", func() { deregister(t, c, "n2", "web") }, instances("web", "10.1.0.1:8080 passing")},
		{"service removed", func() { deregister(t, c, "n1", "web") }, instances("web")},
	}
	for _, s := range steps {
		began := time.Now()
		s.do()
		f.sees(s.name, s.want)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s took %s", s.name, took)
		}
	}
	if status := f.Status(t.Context()); status.Mode != cmp.Or(opt.mode, HTTP2) || status.Reason == "" {
		t.Errorf("mode %q because %q", status.Mode, status.Reason)
	}
	status := f.Status(t.Context())
	if status.Narrow != (opt.narrowAbove > 0) || status.Err != "" || status.Routed != 0 || len(status.Failing)+len(status.Missing) > 0 {
		t.Errorf("status: %+v", status)
	}
}

func TestWatch_F19_outputAloneEmitsNothing(t *testing.T) {
	server := testbed.Consul(t)
	register(t, server.Client, "n1", "web", "10.1.0.1", "passing", routed)
	f := follow(t, Options{}, server.Addr)
	f.sees("start", instances("web", "10.1.0.1:8080 passing"))
	before := f.Status(t.Context()).Counts.Reads
	for i := range 20 {
		setCheck(t, server.Client, api.HealthCheck{Node: "n1", CheckID: "service:n1:web:80", ServiceID: "n1:web:80", Status: "passing", Output: fmt.Sprint(i)})
	}
	testbed.Eventually(t, 5*time.Second, "the output is noticed", func() error {
		if f.Status(t.Context()).Counts.Reads == before {
			return errors.New("not read again")
		}
		return nil
	})
	// One more real change, so that everything before it has been seen.
	register(t, server.Client, "n2", "web", "10.1.0.2", "passing", routed)
	f.sees("the marker", instances("web", "10.1.0.1:8080 passing", "10.1.0.2:8080 passing"))
	if n := f.changes.Load(); n != 2 {
		t.Errorf("%d views, want the first and the marker", n)
	}
}

func TestWatch_F14_serverRestartedAndWiped(t *testing.T) {
	server := testbed.Consul(t)
	for i := range 40 { // so that the indexes of the new server are surely below
		register(t, server.Client, "n1", fmt.Sprintf("web-%d", i), "10.1.0.1", "passing", routed)
	}
	f := follow(t, Options{Grace: time.Hour}, server.Addr)
	f.sees("start", instances("web-39", "10.1.0.1:8080 passing"))
	server.Stop()
	server.Start()
	register(t, server.Client, "n2", "web-39", "10.1.0.2", "passing", routed)
	f.sees("after a restart", instances("web-39", "10.1.0.1:8080 passing", "10.1.0.2:8080 passing"))

	server.Wipe()
	testbed.Eventually(t, 20*time.Second, "the empty catalog is held", func() error {
		if f.Status(t.Context()).Held == "" {
			return errors.New("not held")
		}
		return nil
	})
	f.sees("last good state", instances("web-39", "10.1.0.1:8080 passing", "10.1.0.2:8080 passing"))
	register(t, server.Client, "n1", "web-39", "10.1.0.9", "passing", routed)
	f.sees("the new server's state", instances("web-39", "10.1.0.9:8080 passing"))
}

// A server that starts again lives through its whole log once more. It knows its leader, itself, before
// that is done, and answers with what was long ago.
func TestWatch_F9_restartedServerLivesThroughItsPast(t *testing.T) {
	for name, opt := range map[string]Options{"aggregate": {mode: Aggregate}, "direct": {}} {
		t.Run(name, func(t *testing.T) {
			server := testbed.Consul(t)
			past(t, server.Client)
			register(t, server.Client, "n1", "web", "10.1.0.1", "passing", routed)
			said := &testbed.Log{}
			opt.Log = hclog.New(&hclog.LoggerOptions{Output: said})
			f := follow(t, opt, server.Addr)
			f.sees("start", instances("web", "10.1.0.1:8080 passing"))
			before := f.changes.Load()
			server.Stop()
			server.Start()
			testbed.Eventually(t, 30*time.Second, "consul is followed again", func() error { return *f.ready.Load() })
			register(t, server.Client, "n2", "web", "10.1.0.2", "passing", routed)
			f.sees("the marker", instances("web", "10.1.0.1:8080 passing", "10.1.0.2:8080 passing"))
			if n := f.changes.Load() - before; n != 1 {
				t.Errorf("%d views, want the marker's alone", n)
			}
			if strings.Contains(said.String(), "backwards") {
				t.Errorf("the past was believed:\n%s", said)
			}
		})
	}
}

// past fills the log with a long time in which web was elsewhere and unhealthy.
func past(t *testing.T, c *api.Client) {
	t.Helper()
	register(t, c, "n1", "web", "10.9.0.9", "critical", routed)
	value := bytes.Repeat([]byte("x"), 1000)
	for i := range 500 {
		var ops api.TxnOps
		for k := range 60 {
			ops = append(ops, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: fmt.Sprintf("past/%d", (i*60+k)%500), Value: value}})
		}
		transact(t, c, ops...)
	}
}

// Consul says nothing of a snapshot that was restored to those who wait for changes.
func TestWatch_F14_snapshotRestored(t *testing.T) {
	for name, opt := range map[string]Options{"aggregate": {mode: Aggregate}, "narrow": {mode: Aggregate, narrowAbove: 1}, "direct": {}} {
		t.Run(name, func(t *testing.T) {
			server := testbed.Consul(t)
			c := server.Client
			register(t, c, "n1", "web", "10.1.0.1", "passing", routed)
			f := follow(t, opt, server.Addr)
			f.sees("start", instances("web", "10.1.0.1:8080 passing"))
			saved, _, err := c.Snapshot().Save(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer saved.Close()
			register(t, c, "n1", "web", "10.1.0.2", "passing", routed)
			register(t, c, "n2", "web", "10.1.0.3", "passing", routed)
			f.sees("changed", instances("web", "10.1.0.2:8080 passing", "10.1.0.3:8080 passing"))
			if err := c.Snapshot().Restore(nil, saved); err != nil {
				t.Fatal(err)
			}
			f.sees("restored", instances("web", "10.1.0.1:8080 passing"))
		})
	}
}

func TestWatch_F2_savedSnapshotIsServed(t *testing.T) {
	server := testbed.Consul(t)
	file := filepath.Join(t.TempDir(), "state", "snapshot.json")
	register(t, server.Client, "n1", "web", "10.1.0.1", "passing", routed)
	first := follow(t, Options{File: file}, server.Addr)
	first.sees("start", instances("web", "10.1.0.1:8080 passing"))
	first.stop()
	server.Stop()

	second := follow(t, Options{File: file}, server.Addr)
	v := second.sees("restored", instances("web", "10.1.0.1:8080 passing"))
	if !v.Restored || time.Since(v.Time) > time.Minute {
		t.Errorf("restored %t of %s", v.Restored, v.Time)
	}
	if err := second.ready.Load(); err == nil || *err == nil {
		t.Error("ready without Consul")
	}
	server.Start()
	second.sees("confirmed", func(v View) error {
		if v.Restored {
			return errors.New("still restored")
		}
		return nil
	})
	if v, _ := second.Latest(); v.Version != 1 {
		t.Errorf("version %d: what was restored is what Consul says", v.Version)
	}
}

func TestWatch_F9_lostToken(t *testing.T) {
	server := testbed.Consul(t, "-hcl", `acl { enabled = true, default_policy = "allow", token_ttl = "1s", policy_ttl = "1s", tokens { initial_management = "00000000-0000-0000-0000-000000000001" } }`)
	register(t, server.Client, "n1", "web", "10.1.0.1", "passing", routed)
	f := follow(t, Options{Grace: 50 * time.Millisecond}, server.Addr)
	f.sees("start", instances("web", "10.1.0.1:8080 passing"))
	admin := &api.WriteOptions{Token: "00000000-0000-0000-0000-000000000001"}
	testbed.Eventually(t, 10*time.Second, "ACLs are ready", func() error {
		_, _, err := server.Client.ACL().PolicyList(&api.QueryOptions{Token: admin.Token})
		return err
	})
	anonymous := "00000000-0000-0000-0000-000000000002"
	policy, _, err := server.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "nothing", Rules: `service_prefix "" { policy = "deny" } node_prefix "" { policy = "deny" }`}, admin)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := server.Client.ACL().TokenRead(anonymous, &api.QueryOptions{Token: admin.Token})
	if err != nil {
		t.Fatal(err)
	}
	token.Policies = []*api.ACLTokenPolicyLink{{ID: policy.ID}}
	if _, _, err := server.Client.ACL().TokenUpdate(token, admin); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 20*time.Second, "the loss is noticed", func() error {
		// Any change ends the blocking queries; they answer with what the token may see now.
		_, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: "n9", Address: "10.9.0.1", Service: &api.AgentService{
			Service: "wake", Tags: []string{time.Now().String()},
		}}, admin)
		if err != nil {
			return err
		}
		if s := f.Status(t.Context()); s.Held == "" && len(s.Failing) == 0 && s.Err == "" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	f.sees("last good state", instances("web", "10.1.0.1:8080 passing"))
}

func TestWatch_noRoutedServiceIsAnAnswerToo_F3(t *testing.T) {
	server := testbed.Consul(t)
	f := follow(t, Options{}, server.Addr)
	v := f.sees("an empty view", func(View) error { return nil })
	if v.Version != 1 || v.Snapshot.Services == nil || len(v.Snapshot.Services) != 0 {
		t.Errorf("%+v", v)
	}
}
