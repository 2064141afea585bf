package main

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/testbed"
	"fairway/registrator/catalog"
	"fairway/registrator/service"
)

// fakeAgent is an agent that holds rows. Requests to it hang while hangs says so.
type fakeAgent struct {
	mu    sync.Mutex
	rows  map[string]string // ID → status
	hangs bool
	asked int
	deny  string // the ID of a row that may not be removed
}

func (f *fakeAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.asked++
	hangs := f.hangs
	f.mu.Unlock()
	if hangs {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := httptest.NewRecorder()
	switch id, remove := strings.CutPrefix(r.URL.Path, "/v1/agent/service/deregister/"); {
	case remove && id == f.deny:
		http.Error(w, "Permission denied", http.StatusForbidden)
	case remove:
		delete(f.rows, id)
	case strings.HasSuffix(r.URL.Path, "/services"):
		services := map[string]api.AgentService{}
		for id := range f.rows {
			services[id] = api.AgentService{ID: id, Service: id}
		}
		_ = json.NewEncoder(w).Encode(services)
	default:
		checks := map[string]api.AgentCheck{}
		for id, status := range f.rows {
			checks["service:"+id] = api.AgentCheck{CheckID: "service:" + id, ServiceID: id, Status: status}
		}
		_ = json.NewEncoder(w).Encode(checks)
	}
	return w.Result(), nil
}

func (f *fakeAgent) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAgent) ids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.rows))
}

// adopter adopts what the agent holds for the host n, and calls changed.
func (f *fakeAgent) adopter(t *testing.T, changed func()) (*adopter, *testbed.Log) {
	t.Helper()
	client, err := api.NewClient(&api.Config{HttpClient: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	log := &testbed.Log{}
	named := hclog.New(&hclog.LoggerOptions{Output: log})
	hosts := []string{"n"}
	return &adopter{hosts: hosts, old: newOldAgent(client, hosts, changed, named), log: named, told: map[string]service.Adoption{}}, log
}

// TestAdopter_C97_anAgentThatHangsDelaysNoPass: what our containers do must be written without delay,
// whatever has become of the agent that holds the rows to adopt. They are adopted once it answers.
func TestAdopter_C97_anAgentThatHangsDelaysNoPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent := &fakeAgent{rows: map[string]string{"n:gone:80": "passing", "n:web:80": "passing", "other:web:80": "passing"}, hangs: true}
		var a *adopter
		pass := func() {
			began := time.Now()
			running := []service.Container{{ID: "c0ffee", Name: "web"}}
			a.finish(a.judge(&catalog.Observed{}, service.Plan{}, running))
			if took := time.Since(began); took > 0 {
				t.Errorf("a pass took %s", took)
			}
		}
		a, log := agent.adopter(t, func() { go pass() })
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = a.run(ctx) })
		for range 600 {
			pass()
			time.Sleep(time.Second)
		}
		if n := log.Count("cannot adopt"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log)
		}
		agent.set(func() {
			if agent.hangs = false; agent.asked < 100 || agent.asked > 400 { // two a time, each for 5 s, and a rest of 1 s
				t.Errorf("asked %d times in ten minutes", agent.asked)
			}
		})
		time.Sleep(2 * time.Minute)
		if got := agent.ids(); !slices.Equal(got, []string{"n:web:80", "other:web:80"}) {
			t.Errorf("it still holds %q:\n%s", got, log)
		}
		before := agent.asked
		time.Sleep(time.Hour)
		if agent.asked != before {
			t.Errorf("asked %d times without a pass", agent.asked-before)
		}
		if log.Count("adopted again") != 1 || log.Count("id=n:gone:80 verdict=remove") != 1 || log.Count("id=n:web:80 verdict=leave") != 1 {
			t.Errorf("told:\n%s", log)
		}
		stop()
		running.Wait()
	})
}

// TestAdopter_onlyTheLastPassReleases: while the agent is slow, a pass may find that a row is needed
// after all.
func TestAdopter_onlyTheLastPassReleases(t *testing.T) {
	agent := &fakeAgent{rows: map[string]string{"n:web:80": "passing"}}
	woken := 0
	a, _ := agent.adopter(t, func() { woken++ })
	pass := func(containers ...service.Container) {
		a.finish(a.judge(&catalog.Observed{}, service.Plan{}, containers))
	}
	a.ask(t.Context())
	pass()
	pass(service.Container{ID: "c0ffee", Name: "web"})
	a.ask(t.Context())
	if got := agent.ids(); len(got) != 1 || woken != 1 {
		t.Errorf("it holds %q, told of news %d times", got, woken)
	}
	pass()
	agent.set(func() { agent.hangs = true }) // and what was released before that is judged anew
	hung, cancel := context.WithCancel(t.Context())
	cancel()
	a.ask(hung)
	agent.set(func() { agent.hangs = false })
	a.ask(t.Context())
	if got := agent.ids(); len(got) != 1 || woken != 2 {
		t.Errorf("it holds %q, told of news %d times", got, woken)
	}
	pass()
	a.ask(t.Context())
	if got := agent.ids(); len(got) != 0 {
		t.Errorf("it holds %q", got)
	}
}

// TestAdopter_aRefusalIsToldOnce, and the other rows are removed all the same.
func TestAdopter_aRefusalIsToldOnce(t *testing.T) {
	agent := &fakeAgent{rows: map[string]string{"n:api:80": "passing", "n:web:80": "passing"}, deny: "n:api:80"}
	a, log := agent.adopter(t, func() {})
	for range 3 {
		a.ask(t.Context())
		a.finish(a.judge(&catalog.Observed{}, service.Plan{}, nil))
		a.ask(t.Context())
	}
	if n := log.Count("Permission denied"); n != 1 || !slices.Equal(agent.ids(), []string{"n:api:80"}) {
		t.Errorf("told %d times, left %q:\n%s", n, agent.ids(), log)
	}
}
