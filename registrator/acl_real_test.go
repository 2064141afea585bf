//go:build real

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/consul"
	"fairway/internal/testbed"
	"fairway/registrator/catalog"
	"fairway/registrator/liveness"
	"fairway/registrator/service"
)

// aclWorld is a Docker Engine and a Consul that allows nothing without a token.
func aclWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, engine: testbed.Docker(t), consul: testbed.ConsulACL(t), log: &testbed.Log{}}
	w.engine.Image("web")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("registrator said:\n%s", w.log)
		}
	})
	return w
}

// tokenFile keeps a token on disk and replaces it as an operator does.
func tokenFile(t *testing.T) (path string, write func(token string)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	return path, func(token string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// forget deletes a token: whoever still has it is refused.
func forget(t *testing.T, c *testbed.ConsulServer, secret string) {
	t.Helper()
	self, _, err := c.Client.ACL().TokenReadSelf(&api.QueryOptions{Token: secret})
	if err == nil {
		_, err = c.Client.ACL().TokenDelete(self.AccessorID, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestACL_policySuffices runs registrator with exactly the policy of examples/acl, in both modes,
// and changes its token under it.
func TestACL_policySuffices(t *testing.T) {
	t.Parallel()
	w := aclWorld(t)
	agent := w.consul.Agent(t, testNode, "-hcl", promptAgent)
	for _, mode := range []mode{modeCatalog, modeAgent} {
		t.Run(string(mode), func(t *testing.T) {
			same := *w
			same.t = t
			w := &same
			file, where := "registrator.hcl", func(*Options) {}
			if mode == modeAgent {
				file, where = "registrator-agent.hcl", at(agent)
			}
			name := "cat"
			row := func(container string) string { return name + ":" + container + ":8080" }
			node := func(o *Options) { o.NodeName = name }
			if mode == modeAgent {
				name, node = testNode, func(*Options) {}
			}
			rules := testbed.Without(t, testbed.Policy(t, file), "")
			path, rotate := tokenFile(t)
			first := w.consul.TokenFor(t, rules)
			rotate(first)
			w.run("first", "-e", "SERVICE_CHECK_TCP=true", "-e", "SERVICE_CHECK_INITIAL_STATUS=passing", "web")
			w.start(where, node, func(o *Options) { o.Consul.Token, o.Consul.TokenFile = "", path })
			w.ready()
			passes := func(id string, want string) {
				t.Helper()
				testbed.Eventually(t, 2*soon, id, func() error {
					checks, _, err := w.consul.Client.Health().Node(map[bool]string{true: testNode, false: name}[mode == modeAgent], nil)
					if err != nil {
						return err
					}
					for _, c := range checks {
						if c.CheckID == "service:"+id && c.Status+": "+c.Output == want {
							return nil
						}
					}
					return fmt.Errorf("checks %v", statuses(checks))
				})
			}
			passes(row("first"), passing)
			if !strings.Contains(w.log.String(), "registering in "+string(mode)+" mode") {
				t.Errorf("the log does not name the mode:\n%s", w.log)
			}

			second := w.consul.TokenFor(t, rules)
			rotate(second)
			w.run("second", "web")
			passes(row("second"), passing)
			// The file is looked at once a second, and a pass must be made before the old one may go.
			w.never(1500*time.Millisecond, "a rotation is no trouble", func() error {
				if text, err := w.readyz(); err != nil || strings.Contains(text, "403") {
					return fmt.Errorf("%s %w", text, err)
				}
				return nil
			})
			forget(t, w.consul, first)
			w.engine.Run("pause", "first") // a row that was registered with the first token
			passes(row("first"), "critical: paused")
			w.engine.Run("unpause", "first")
			passes(row("first"), passing)
			w.run("third", "web")
			passes(row("third"), passing)
			if n := w.log.Count("[WARN]"); n > 0 {
				t.Errorf("%d warnings:\n%s", n, w.log)
			}
			for _, secret := range []string{first, second} {
				if strings.Contains(w.log.String(), secret) {
					t.Error("a token is in the log")
				}
			}
			w.engine.Run("rm", "-f", "first", "second", "third")
		})
	}
}

func statuses(checks api.HealthChecks) (list []string) {
	for _, c := range checks {
		list = append(list, c.CheckID+" "+c.Status+" "+c.Output)
	}
	return list
}

// bench is what registrator does to Consul, without Docker: each part says what refused it.
type bench struct {
	t      *testing.T
	consul *testbed.ConsulServer
}

func (b bench) client(rules string) *api.Client {
	b.t.Helper()
	c, err := api.NewClient(&api.Config{Address: b.consul.Addr, Token: b.consul.TokenFor(b.t, rules)})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func benchRow(node string) service.Registration {
	return service.Registration{
		ID: node + ":web:80", Name: "web", Address: "192.0.2.1", Port: 80, Status: service.Passing, Output: "running",
		Meta: map[string]string{service.Owner: "0123456789ab:80/tcp"},
	}
}

// register writes a node and a row as a pass does.
func (b bench) register(client *api.Client, node string) error {
	return b.registerAndTell(client, node, nil)
}

func (b bench) registerAndTell(client *api.Client, node string, log hclog.Logger) error {
	c := catalog.New(client, catalog.Options{
		Node: service.Node{Name: node, IPv4: netip.MustParseAddr("192.0.2.1")}, LiveKey: liveness.Key(node), Log: log,
	})
	o, err := c.Observed(b.t.Context())
	if err != nil {
		return err
	}
	r, err := c.Apply(b.t.Context(), o, service.Diff(o.Rows, service.Plan{Registrations: []service.Registration{benchRow(node)}}))
	for _, f := range r.Refused {
		err = errors.Join(err, f.Err)
	}
	return err
}

// hint writes a row, which stands whatever becomes of its hint, and returns what kept the hint from
// standing beside it.
func (b bench) hint(client *api.Client, node string) error {
	b.t.Helper()
	log := &testbed.Log{}
	if err := b.registerAndTell(client, node, hclog.New(&hclog.LoggerOptions{Output: log})); err != nil {
		b.t.Errorf("a hint that is refused is an error: %v", err)
	}
	rows, _, err := b.consul.Client.Health().Service("web", "", true, &api.QueryOptions{Filter: fmt.Sprintf("Node.Node == %q", node)})
	if err != nil || len(rows) != 1 {
		b.t.Errorf("%d passing rows of %s, want one: %v", len(rows), node, err)
	}
	key, _, err := b.consul.Client.KV().Get(consul.HintKey(node), nil)
	if err != nil {
		return err
	}
	stands := false
	if key != nil { // which may be another node's, too
		h, err := consul.ReadHint(key.Value)
		if stands = h.Node == node; err != nil || stands && !slices.Equal(h.After(time.Time{}), []string{"web"}) {
			b.t.Errorf("hint %s: %v", key.Value, err)
		}
	}
	if told := log.Count("consul refuses to be told which services change"); told != map[bool]int{false: 1}[stands] {
		b.t.Errorf("told %d times, with key %v:\n%s", told, key, log)
	}
	if !stands {
		return errors.New(log.String())
	}
	return nil
}

// live runs the session and the election until the session stands and the reaper is elected, or
// something is refused.
func (b bench) live(client *api.Client, node string, until ...func() error) error {
	log := &testbed.Log{}
	failed := make(chan error, 100)
	l := liveness.New(client, liveness.Options{
		Node: node, TTL: liveness.MinTTL, ReapAfter: time.Millisecond,
		Log: hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: log}), Failed: func(err error) { failed <- err },
	})
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("liveness: %v", err)
		}
	}()
	if err := <-failed; err != nil {
		return err
	}
	var err error
	testbed.Eventually(b.t, 2*soon, "elected or refused", func() error {
		if text := log.String(); strings.Contains(text, "Permission denied") || strings.Contains(text, "403") {
			err = errors.New(text)
			return nil
		}
		if log.Count("elected to watch") == 0 {
			return errors.New("neither")
		}
		for _, ok := range until {
			if err := ok(); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// TestACL_noRuleIsIdle takes each rule of registrator.hcl away and names what fails then.
func TestACL_noRuleIsIdle(t *testing.T) {
	t.Parallel()
	b := bench{t, testbed.ConsulACL(t)}
	rules := testbed.Policy(t, "registrator.hcl")
	swarm := func(c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: "fairway/swarm/x", Value: []byte("{}")}, nil)
		return err
	}
	master := b.consul.Client
	parts := map[string]func(c *api.Client, node string) error{
		`node_prefix ""`:    b.register,
		`service_prefix ""`: b.register,
		`session_prefix ""`: func(c *api.Client, node string) error {
			return errors.Join(b.register(master, node), b.live(c, node))
		},
		`key_prefix "fairway/nodes/"`: func(c *api.Client, node string) error {
			return errors.Join(b.register(master, node), b.live(c, node))
		},
		`key "fairway/reaper"`: func(c *api.Client, node string) error {
			return errors.Join(b.register(master, node), b.live(c, node))
		},
		`key_prefix "fairway/swarm/"`:   func(c *api.Client, _ string) error { return swarm(c) },
		`key_prefix "fairway/changed/"`: b.hint, // which is all that is missing then
	}
	for i, rule := range rules {
		part := parts[rule.Name]
		if part == nil {
			t.Errorf("nothing proves that %s is needed", rule.Name)
			continue
		}
		err := part(b.client(testbed.Without(t, rules, rule.Name)), fmt.Sprintf("n%d", i))
		if text := fmt.Sprint(err); !strings.Contains(text, "Permission denied") && !strings.Contains(text, "lacks permission") {
			t.Errorf("without %s: %v", rule.Name, err)
		}
	}

	// All of them suffice, also to take another node out and to remove it.
	all := b.client(testbed.Without(t, rules, ""))
	if err := errors.Join(b.register(all, "whole"), b.register(all, "silent"), swarm(all), b.hint(all, "hinted")); err != nil {
		t.Fatal(err)
	}
	if _, err := master.KV().Put(&api.KVPair{Key: liveness.Key("silent"), Value: []byte(`{"lost":"2020-01-01T00:00:00Z"}`)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.live(all, "whole", func() error {
		nodes, _, err := master.Catalog().Nodes(nil)
		if err == nil && slices.ContainsFunc(nodes, func(n *api.Node) bool { return n.Node == "silent" }) {
			err = errors.New("the silent node is still there")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestACL_noRuleOfAgentModeIsIdle is the same for registrator-agent.hcl.
func TestACL_noRuleOfAgentModeIsIdle(t *testing.T) {
	t.Parallel()
	server := testbed.ConsulACL(t)
	b := bench{t, server.Agent(t, testNode)}
	b.consul.Token = server.Token
	rules := testbed.Policy(t, "registrator-agent.hcl")
	who := func(c *api.Client) error { _, err := catalog.Who(t.Context(), c); return err }
	register := func(c *api.Client) error {
		a := catalog.NewAgent(c, catalog.AgentOptions{Node: testNode, Registry: testNode, TTL: time.Minute})
		o, err := a.Observed(t.Context())
		if err != nil {
			return err
		}
		r, err := a.Apply(t.Context(), o, service.Diff(o.Rows, service.Plan{Registrations: []service.Registration{benchRow(testNode)}}))
		for _, f := range r.Refused {
			err = errors.Join(err, f.Err)
		}
		return err
	}
	watch := func(c *api.Client) error {
		checks, _, err := c.Health().Node(testNode, nil)
		if err == nil && len(checks) == 0 {
			err = errors.New("Permission denied: Consul shows nothing of the node") //nolint:revive,staticcheck // as Consul says it
		}
		return err
	}
	swarm := func(c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: "fairway/swarm/x", Value: []byte("{}")}, nil)
		return err
	}
	parts := map[string]func(*api.Client) error{
		`service_prefix ""`: register, `node_prefix ""`: watch, `agent_prefix ""`: who, `key_prefix "fairway/swarm/"`: swarm,
	}
	for _, rule := range rules {
		part := parts[rule.Name]
		if part == nil {
			t.Errorf("nothing proves that %s is needed", rule.Name)
			continue
		}
		err := part(b.client(testbed.Without(t, rules, rule.Name)))
		if text := fmt.Sprint(err); !strings.Contains(text, "Permission denied") && !errors.Is(err, catalog.ErrHidden) {
			t.Errorf("without %s: %v", rule.Name, err)
		}
	}
	all := b.client(testbed.Without(t, rules, ""))
	if err := errors.Join(who(all), register(all), watch(all), swarm(all)); err != nil {
		t.Error(err)
	}
}
