//go:build real

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// byHand is a service of two instances: shop.1, which an agent holds, as a person or Nomad registers
// it, and shop.2 on another node.
type byHand struct {
	*rig
	first web
}

// weigh registers shop.1, or registers it again with another weight.
func (b *byHand) weigh(passing int) error {
	return b.consul.Client.Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "shop.1", Name: "shop", Address: b.first.host, Port: b.first.port, Meta: host("shop.test"),
		Weights: &api.AgentWeights{Passing: passing, Warning: 1},
		Check:   &api.AgentServiceCheck{CheckID: "shop.1", TTL: "1h", Status: "passing"},
	})
}

// step is a change that somebody makes and what clients are to see of it.
type step struct {
	name string
	do   func(t *testing.T)
	want split

	keeps bool // a request that shop.1 has in hand is to be finished
}

// Weights and maintenance that are set in Consul itself, values in its KV store and confgen set are
// seen by clients, without a reload of HAProxy; what an instance in maintenance has in hand, it
// finishes.
func TestLive_F46_throughConsul(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b, slow := newByHand(t, kind)
			c := b.program("--reload-interval", "1s") // as people run it
			b.takesEffect(t, "shop.test", split{"shop.1": 50, "shop.2": 50})
			reloads := c.metric("fairway_confgen_reloads_total")
			for _, s := range b.steps() {
				end := func() {}
				if s.keeps {
					end = slow.begin(t, b.rig)
				}
				s.do(t)
				t.Logf("%s after %s: %v", b.takesEffect(t, "shop.test", s.want).Round(time.Millisecond/10), s.name, s.want)
				end()
			}
			n := c.metric("fairway_confgen_reloads_total") - reloads
			t.Logf("%g reloads for %d changes", n, len(b.steps()))
			if kind == "haproxy" && n != 0 {
				t.Errorf("%g reloads", n)
			}
		})
	}
}

func newByHand(t *testing.T, kind string) (*byHand, *slowly) {
	t.Helper()
	slow := newSlowly(t)
	b := &byHand{rig: newRig(t, kind), first: slow.web}
	b.register("shop", b.web("shop.2"), "passing", host("shop.test"))
	if err := b.weigh(1); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 10*time.Second, "the agent has told the catalog", func() error {
		if rows, _, err := b.consul.Client.Health().Service("shop", "", true, nil); err != nil || len(rows) != 2 {
			return fmt.Errorf("%d rows: %w", len(rows), err)
		}
		return nil
	})
	return b, slow
}

// steps are the changes, one after the other.
func (b *byHand) steps() []step {
	const first, second, weight = "shop.1", "n1:shop.2:80", route.OverridePrefix + "shop/shop.1/weight"
	agent, kv := b.consul.Client.Agent(), b.consul.Client.KV()
	must := func(do func() error) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
	}
	run := func(words ...string) func(*testing.T) { return func(t *testing.T) { b.operator(t, words...) } }
	even, third, alone := split{"shop.1": 50, "shop.2": 50}, split{"shop.1": 75, "shop.2": 25}, split{"shop.1": 0, "shop.2": 100}
	return []step{
		{"Service.Weights.Passing 3", must(func() error { return b.weigh(3) }), third, false},
		{"a warning, with Service.Weights.Warning 1", must(func() error { return agent.UpdateTTL(first, "", "warn") }), even, false},
		{"a pass", must(func() error { return agent.UpdateTTL(first, "", "pass") }), third, false},
		{"Service.Weights.Passing 1", must(func() error { return b.weigh(1) }), even, false},
		{"maintenance of the service", must(func() error { return agent.EnableServiceMaintenance(first, "") }), alone, true},
		{"its end", must(func() error { return agent.DisableServiceMaintenance(first) }), even, false},
		{"maintenance of the node", must(func() error { return agent.EnableNodeMaintenance("") }), alone, true},
		{"its end", must(agent.DisableNodeMaintenance), even, false},
		{"a weight in the KV store", must(func() error { _, err := kv.Put(&api.KVPair{Key: weight, Value: []byte("25")}, nil); return err }), split{"shop.1": 20, "shop.2": 80}, false},
		{"its removal", must(func() error { _, err := kv.Delete(weight, nil); return err }), even, false},
		{"confgen set weight 25", run("set", "--on", second, "shop", "weight", "25"), split{"shop.1": 80, "shop.2": 20}, false},
		{"confgen set weight 0", run("set", "--on", second, "shop", "weight", "0"), split{"shop.1": 100, "shop.2": 0}, false},
		{"confgen unset weight", run("unset", "--on", second, "shop", "weight"), even, false},
		{"confgen set maintenance", run("set", "--on", first, "shop", "maintenance", "true"), alone, true},
	}
}

// slowly is shop.1: it answers with its name, and under /long not before it is let.
type slowly struct {
	web
	arrived, let chan struct{}
}

func newSlowly(t *testing.T) *slowly {
	t.Helper()
	s := &slowly{arrived: make(chan struct{}, 1), let: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "shop.1") })
	mux.HandleFunc("/long", func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, "begun, ")
		_ = http.NewResponseController(w).Flush()
		s.arrived <- struct{}{}
		select {
		case <-s.let:
			fmt.Fprint(w, "finished")
		case <-req.Context().Done():
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	s.web = addressed(t, "shop.1", server)
	return s
}

// begin asks for the long page until shop.1 has it in hand. It returns how to have it finished, which
// looks at what the client got.
func (s *slowly) begin(t *testing.T, r *rig) (end func()) {
	t.Helper()
	for range 20 {
		answer := make(chan string, 1)
		go func() { answer <- r.patiently(t, "/long") }()
		select {
		case <-s.arrived:
			return func() {
				t.Helper()
				got := ""
				select {
				case s.let <- struct{}{}:
					got = <-answer
				case got = <-answer: // too early
				}
				if got != "begun, finished" {
					t.Errorf("the request under way ended with %q", got)
				}
			}
		case <-answer: // of shop.2, which is quick
		}
	}
	t.Fatal("shop.1 is never asked")
	return nil
}

// patiently asks for a page of the shop without a deadline but the test's.
func (r *rig) patiently(t *testing.T, path string) string {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), nil)
	if err != nil {
		return err.Error()
	}
	req.Host = "shop.test"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return string(body) + err.Error()
	}
	return string(body)
}
