package watch

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/consul"
	"fairway/internal/testbed"
)

// fakeConsul answers the queries a Watcher makes from a small catalog, and misbehaves on demand.
type fakeConsul struct {
	*httptest.Server
	requests atomic.Int64 // all
	busy     atomic.Int32 // reads of services on their way now
	mostBusy atomic.Int32

	heard chan struct{} // ends what deaf began, when it is closed

	mu       sync.Mutex
	changed  chan struct{}
	index    uint64
	services map[string][]string // addresses by name
	live     map[string]string   // what operators set live
	hints    map[string]hinted   // by key
	output   int

	unlabelled string                                            // service whose instances carry no routing key
	fault      func(w http.ResponseWriter, r *http.Request) bool // true: has answered
}

// hinted is what stands at a hint's key, and since when.
type hinted struct {
	value string
	index uint64
}

// hint says, as registrators do, which services have changed; to be called within set.
func (f *fakeConsul) hint(node, value string) {
	if f.hints == nil {
		f.hints = map[string]hinted{}
	}
	f.hints[consul.HintKey(node)] = hinted{value, f.index}
}

func newFakeConsul(t *testing.T, services map[string][]string) *fakeConsul {
	f := &fakeConsul{index: 10, services: services, changed: make(chan struct{}), heard: make(chan struct{})}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// set changes the catalog and wakes whoever waits.
func (f *fakeConsul) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index++
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeConsul) misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.set(func() { f.fault = fault })
}

func (f *fakeConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	if strings.HasPrefix(r.URL.Path, "/v1/health/service/") {
		now := f.busy.Add(1)
		defer f.busy.Add(-1)
		for most := f.mostBusy.Load(); now > most && !f.mostBusy.CompareAndSwap(most, now); most = f.mostBusy.Load() {
		}
	}
	f.mu.Lock()
	fault, changed, index := f.fault, f.changed, f.index
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	if r.FormValue("index") == fmt.Sprint(index) {
		select {
		case <-changed:
		case <-time.After(time.Minute):
		case <-r.Context().Done():
			return
		}
	}
	f.answer(w, r)
}

func (f *fakeConsul) answer(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var body any
	name, isService := strings.CutPrefix(r.URL.Path, "/v1/health/service/")
	switch {
	case isService:
		body = f.instances(name)
	case r.URL.Path == "/v1/catalog/services":
		names := map[string][]string{"consul": {}}
		for name := range f.services {
			names[name] = []string{}
		}
		body = names
	case r.URL.Path == "/v1/health/state/any":
		var rows []map[string]any
		for name, addresses := range f.services {
			for _, a := range addresses {
				rows = append(rows, map[string]any{"Node": "n1", "CheckID": name + a, "ServiceName": name, "Status": "passing", "ModifyIndex": f.index, "Output": f.output})
			}
		}
		body = rows
	case r.URL.Path == "/v1/catalog/nodes":
		body = []map[string]any{{"Node": "n1", "Address": "10.0.0.1"}}
	case r.URL.Path == "/v1/kv/fairway/override/" && len(f.live) == 0, r.URL.Path == "/v1/kv/fairway/changed/" && len(f.hints) == 0:
		headers(w, f.index)
		w.WriteHeader(http.StatusNotFound)
		return
	case r.URL.Path == "/v1/kv/fairway/override/":
		var pairs []map[string]any
		for path, value := range f.live {
			pairs = append(pairs, map[string]any{"Key": "fairway/override/" + path, "Value": []byte(value)})
		}
		body = pairs
	case r.URL.Path == "/v1/kv/fairway/changed/":
		var pairs []map[string]any
		for key, h := range f.hints {
			pairs = append(pairs, map[string]any{"Key": key, "Value": []byte(h.value), "ModifyIndex": h.index})
		}
		body = pairs
	case r.URL.Path == "/v1/catalog/node-services/n1":
		body = map[string]any{"Services": []int{}}
	default:
		http.Error(w, "the test does not know "+r.URL.Path, http.StatusNotFound)
		return
	}
	headers(w, f.index)
	_ = json.NewEncoder(w).Encode(body)
}

func headers(w http.ResponseWriter, index uint64) {
	w.Header().Set("X-Consul-Index", fmt.Sprint(index))
	w.Header().Set("X-Consul-KnownLeader", "true")
	w.Header().Set("X-Consul-LastContact", "0")
}

// instances returns the rows of a service, in another order each time.
func (f *fakeConsul) instances(name string) []map[string]any {
	rows := []map[string]any{}
	for _, a := range f.services[name] {
		rows = append(rows, map[string]any{
			"Node":    map[string]any{"Node": "n1", "Address": "10.0.0.1"},
			"Service": map[string]any{"ID": name + a, "Address": a, "Port": 80, "Meta": f.meta(name)},
			"Checks":  []map[string]any{{"CheckID": "c", "Status": "passing", "Output": fmt.Sprint(f.output)}},
		})
	}
	if f.index%2 == 0 {
		slices.Reverse(rows)
	}
	return rows
}

func (f *fakeConsul) meta(name string) map[string]string {
	if name == f.unlabelled {
		return nil
	}
	return map[string]string{"fairway-host": name + ".test"}
}

func TestWatch_F4_nothingBeforeEverythingHasAnswered(t *testing.T) {
	eachMode(t, nothingBeforeEverythingHasAnswered)
}

func nothingBeforeEverythingHasAnswered(t *testing.T, opt Options) {
	release := make(chan struct{})
	f := newFakeConsul(t, map[string][]string{"fast": {"10.1.0.1"}, "slow": {"10.1.0.2"}})
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	w := follow(t, opt, f.URL)
	testbed.Eventually(t, 5*time.Second, "the missing one is named", func() error {
		if s := w.Status(t.Context()); !slices.Equal(s.Missing, []string{"slow"}) || s.Err == "" {
			return fmt.Errorf("missing %q, error %q", s.Missing, s.Err)
		}
		return nil
	})
	if v, have := w.Latest(); have {
		t.Errorf("incomplete view %+v", v)
	}
	close(release)
	v := w.sees("complete", instances("slow", "10.1.0.2:80 passing"))
	if v.Version != 1 || len(v.Snapshot.Services) != 2 {
		t.Errorf("%+v", v)
	}
}

func TestWatch_F4_aServiceThatFailsAtTheStartIsWaitedFor(t *testing.T) {
	eachMode(t, aServiceThatFailsAtTheStartIsWaitedFor)
}

func aServiceThatFailsAtTheStartIsWaitedFor(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"good": {"10.1.0.1"}, "bad": {"10.1.0.2"}})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/bad") {
			return false
		}
		http.Error(w, "rpc error", http.StatusInternalServerError)
		return true
	})
	w := follow(t, opt, f.URL)
	testbed.Eventually(t, 5*time.Second, "the failure is shown", func() error {
		if s := w.Status(t.Context()); s.Failing["bad"] == "" || !slices.Equal(s.Missing, []string{"bad"}) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if v, have := w.Latest(); have {
		t.Errorf("incomplete view %+v", v)
	}
	f.set(func() { f.fault = nil })
	w.sees("complete", instances("bad", "10.1.0.2:80 passing"))
	if v, _ := w.Latest(); v.Version != 1 {
		t.Errorf("version %d", v.Version)
	}
}

func TestWatch_badAnswersKeepTheLastState(t *testing.T) {
	eachMode(t, badAnswersKeepTheLastState)
}

func badAnswersKeepTheLastState(t *testing.T, opt Options) {
	opt.Grace = 10 * time.Millisecond
	cases := map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"F11_noLeader": func(w http.ResponseWriter, _ *http.Request) bool {
			headers(w, 99)
			w.Header().Set("X-Consul-KnownLeader", "false")
			fmt.Fprint(w, "{}")
			return true
		},
		"F11_oldContact": func(w http.ResponseWriter, _ *http.Request) bool {
			headers(w, 99)
			w.Header().Set("X-Consul-LastContact", "61000") // milliseconds
			fmt.Fprint(w, "{}")
			return true
		},
		"F15_missingHeaders": func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "{}"); return true },
		"F15_notJSON": func(w http.ResponseWriter, _ *http.Request) bool {
			headers(w, 99)
			fmt.Fprint(w, "<html>")
			return true
		},
		"F15_cutBody": func(w http.ResponseWriter, _ *http.Request) bool {
			headers(w, 99)
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"consul":[],`)
			return true
		},
		"F17_500": func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
			return true
		},
		"F9_nothing": func(w http.ResponseWriter, _ *http.Request) bool { headers(w, 99); fmt.Fprint(w, "{}"); return true },
	}
	for name, fault := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
			w := follow(t, opt, f.URL)
			w.sees("start", instances("web", "10.1.0.1:80 passing"))
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/catalog/services" {
					return false
				}
				return fault(w, r)
			})
			testbed.Eventually(t, 5*time.Second, "it is shown", func() error {
				// An empty answer is held; all others are errors and change nothing.
				if s := w.Status(t.Context()); (s.Held != "") != (name == "F9_nothing") || (s.Err == "") == (s.Held == "") {
					return fmt.Errorf("error %q, held %q", s.Err, s.Held)
				}
				return nil
			})
			if err := instances("web", "10.1.0.1:80 passing")(must(w.Latest())); err != nil {
				t.Error(err)
			}
			f.set(func() { f.fault = nil; f.services["web"] = []string{"10.1.0.2"} })
			w.sees("recovers by itself", instances("web", "10.1.0.2:80 passing"))
		})
	}
}

// What a leader says that has its log still to apply, of a service alone.
func TestWatch_F11_thePastOfAServiceIsNotBelieved(t *testing.T) {
	eachMode(t, func(t *testing.T, opt Options) {
		opt.Grace = 10 * time.Millisecond
		f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
		w := follow(t, opt, f.URL)
		w.sees("start", instances("web", "10.1.0.1:80 passing"))
		before := w.changes.Load()
		f.set(func() {
			f.services["web"] = []string{"10.1.0.2"}
			f.fault = func(w http.ResponseWriter, r *http.Request) bool {
				past := strings.HasSuffix(r.URL.Path, "/web") && !r.URL.Query().Has("consistent")
				if past {
					headers(w, 5)
					fmt.Fprint(w, "[]")
				}
				return past
			}
		})
		w.sees("the present", instances("web", "10.1.0.2:80 passing"))
		if n := w.changes.Load() - before; n != 1 {
			t.Errorf("%d views, want one", n)
		}
	})
}

func must(v View, _ bool) View { return v }

// An emptied catalog that names no reason is believed after the grace time.
func TestWatch_F9_emptiedCatalogIsBelievedAfterTheGraceTime(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	w := follow(t, Options{Grace: 300 * time.Millisecond}, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	began := time.Now()
	f.set(func() { f.services = map[string][]string{} })
	w.sees("believed", instances("web"))
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("believed after %s", took)
	}
}

func TestWatch_F16_oneServiceRefused(t *testing.T) {
	eachMode(t, oneServiceRefused)
}

func oneServiceRefused(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}, "secret": {"10.1.0.9"}})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/secret") {
			http.Error(w, "Permission denied", http.StatusForbidden)
			return true
		}
		return false
	})
	w := follow(t, opt, f.URL)
	w.sees("the others go on", instances("web", "10.1.0.1:80 passing"))
	f.set(func() { f.services["web"] = []string{"10.1.0.2"} })
	w.sees("and change", instances("web", "10.1.0.2:80 passing"))
	if s := w.Status(t.Context()); !strings.Contains(s.Failing["secret"], "Permission denied") {
		t.Errorf("failing: %v", s.Failing)
	}
	f.set(func() { f.fault = nil })
	w.sees("the right is given back", instances("secret", "10.1.0.9:80 passing"))
}

func TestWatch_F17_refusalForLoadLowersConcurrency(t *testing.T) {
	eachMode(t, refusalForLoadLowersConcurrency)
}

func refusalForLoadLowersConcurrency(t *testing.T, opt Options) {
	services := map[string][]string{}
	for i := range 50 {
		services[fmt.Sprintf("web-%d", i)] = []string{"10.1.0.1"}
	}
	var refusals atomic.Int32
	f := newFakeConsul(t, services)
	began := time.Now()
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/health/service/web") && time.Since(began) < 600*time.Millisecond {
			code := []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[refusals.Add(1)%2]
			http.Error(w, "rate limit", code)
			return true
		}
		return false
	})
	w := follow(t, opt, f.URL)
	testbed.Eventually(t, 20*time.Second, "all are read in the end", func() error {
		if v, have := w.Latest(); !have || len(v.Snapshot.Services) != 50 {
			return errors.New("not yet")
		}
		return nil
	})
	most := int32(12)
	if opt.mode != Aggregate {
		most = 2 * firstReads // which may all be on their way when the first is refused
	}
	if n := refusals.Load(); n < 2 || n > most {
		t.Errorf("%d refusals in 600 ms: want a few, with pauses between them", n)
	}
}

func TestWatch_F18_answersAtOnceWithoutAChange(t *testing.T) {
	eachMode(t, answersAtOnceWithoutAChange)
}

func answersAtOnceWithoutAChange(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1", "10.1.0.2"}})
	w := follow(t, opt, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing", "10.1.0.2:80 passing"))
	before := f.requests.Load()
	// Every query returns at once and with another index each time, but nothing differs.
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		f.index++
		f.output++
		f.mu.Unlock()
		f.answer(w, r)
		return true
	})
	testbed.Eventually(t, 5*time.Second, "a second of storm", func() error {
		if w.Status(t.Context()).Counts.Reads < 40 {
			return errors.New("not yet")
		}
		return nil
	})
	if n := w.changes.Load(); n != 1 {
		t.Errorf("%d views of an unchanged world", n)
	}
	// Three polls at 50 a second, each causing at most one read and one probe.
	if n := f.requests.Load() - before; n > 1000 {
		t.Errorf("%d requests", n)
	}
}

func TestWatch_F20_orderMeansNothing(t *testing.T) {
	eachMode(t, orderMeansNothing)
}

func orderMeansNothing(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1", "10.1.0.2", "10.1.0.3"}})
	w := follow(t, opt, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing", "10.1.0.2:80 passing", "10.1.0.3:80 passing"))
	reads := w.Status(t.Context()).Counts.Reads
	f.set(func() {}) // an odd index: the other order
	testbed.Eventually(t, 5*time.Second, "read again", func() error {
		if w.Status(t.Context()).Counts.Reads == reads {
			return errors.New("not yet")
		}
		return nil
	})
	if n := w.changes.Load(); n != 1 {
		t.Errorf("%d views", n)
	}
}

func TestWatch_F13_manyChangesAreOneView(t *testing.T) {
	services := map[string][]string{}
	for i := range 200 {
		services[fmt.Sprintf("web-%d", i)] = []string{"10.1.0.1"}
	}
	f := newFakeConsul(t, services)
	w := follow(t, Options{publishWithin: time.Minute}, f.URL)
	w.sees("start", instances("web-0", "10.1.0.1:80 passing"))
	f.set(func() {
		for name := range f.services {
			f.services[name] = []string{"10.1.0.2"}
		}
	})
	v := w.sees("all changed", instances("web-0", "10.1.0.2:80 passing"))
	for _, s := range v.Snapshot.Services {
		if v.Version == 2 && s.Instances[0].Address != "10.1.0.2" {
			t.Fatalf("a subset was published: %s is still %s", s.Name, s.Instances[0].Address)
		}
	}
}

// Services that are followed one by one each tell of their change; they are still shown together,
// as far as they come together.
func TestWatch_F13_manyChangesAreFewViews(t *testing.T) {
	services := map[string][]string{}
	for i := range 200 {
		services[fmt.Sprintf("web-%d", i)] = []string{"10.1.0.1"}
	}
	f := newFakeConsul(t, services)
	w := follow(t, Options{mode: HTTP2, Connections: 400}, f.URL)
	w.sees("start", instances("web-0", "10.1.0.1:80 passing"))
	f.set(func() {
		for name := range f.services {
			f.services[name] = []string{"10.1.0.2"}
		}
	})
	for name := range services {
		w.sees("all changed", instances(name, "10.1.0.2:80 passing"))
	}
	if n := w.changes.Load(); n > 40 {
		t.Errorf("%d views of 200 changes", n)
	}
}

func TestWatch_boundedConnections_F60(t *testing.T) {
	services := map[string][]string{}
	for i := range 100 {
		services[fmt.Sprintf("web-%d", i)] = []string{"10.1.0.1"}
	}
	f := newFakeConsul(t, services)
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v1/health/service/") {
			<-time.After(2 * time.Millisecond)
		}
		return false
	})
	w := follow(t, Options{Connections: 8}, f.URL)
	w.sees("start", instances("web-99", "10.1.0.1:80 passing"))
	if n := f.mostBusy.Load(); n != 3 {
		t.Errorf("%d reads at once over 8 connections of which polls hold 5", n)
	}
	if _, err := New(Options{Connections: 5}); err == nil {
		t.Error("5 connections accepted: polls would starve every read")
	}
}

func TestWatch_unusableFileIsNoSnapshot(t *testing.T) {
	for name, content := range map[string]string{
		"garbage": "{", "another version": `{"version":99,"snapshot":{"services":[{"name":"x"}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "snapshot.json")
			if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
			f.misbehave(func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, "away", 500); return true })
			w := follow(t, Options{File: file}, f.URL)
			testbed.Eventually(t, 5*time.Second, "the outage is shown", func() error {
				if strings.Contains(w.Status(t.Context()).Err, "away") {
					return nil
				}
				return errors.New(w.Status(t.Context()).Err)
			})
			if v, have := w.Latest(); have {
				t.Errorf("view %+v", v)
			}
			f.set(func() { f.fault = nil })
			w.sees("consul is back", instances("web", "10.1.0.1:80 passing"))
			w.stop()
			if v, err := load(file); err != nil || len(v.Snapshot.Services) != 1 {
				t.Errorf("not saved anew: %v, %v", v, err)
			}
		})
	}
}

// A service whose answer does not come holds up the others' changes for publishWithin at most.
func TestWatch_aHangingServiceHoldsUpNobodyForLong(t *testing.T) {
	eachMode(t, aHangingServiceHoldsUpNobodyForLong)
}

func aHangingServiceHoldsUpNobodyForLong(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}, "slow": {"10.1.0.9"}})
	w := follow(t, opt, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	release := make(chan struct{})
	defer close(release)
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	began := time.Now()
	f.set(func() { f.services["web"] = []string{"10.1.0.2"} })
	w.sees("the other changes", instances("web", "10.1.0.2:80 passing"))
	if took := time.Since(began); took > publishWithin+time.Second {
		t.Errorf("held up for %s", took)
	}
}
