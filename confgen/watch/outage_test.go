package watch

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"time"

	"fairway/internal/testbed"
)

func TestWatch_F64_theSecondAddress(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	dead := fmt.Sprintf("127.0.0.1:%d", testbed.Port(t))
	w := follow(t, Options{}, dead, f.URL)
	w.sees("the second answers", instances("web", "10.1.0.1:80 passing"))
}

// Consul comes back to a bounded number of requests: the polls, and the services only if the
// indexes say that something may have changed.
func TestWatch_F62_consulDownAndBack(t *testing.T) {
	eachMode(t, consulDownAndBack)
}

func consulDownAndBack(t *testing.T, opt Options) {
	services := map[string][]string{}
	for i := range 300 {
		services[fmt.Sprintf("web-%d", i)] = []string{"10.1.0.1"}
	}
	f := newFakeConsul(t, services)
	w := follow(t, opt, f.URL)
	w.sees("start", instances("web-299", "10.1.0.1:80 passing"))
	// Services that are followed one by one are each asked for once more when their connection
	// goes, and once when Consul is back, before they wait again.
	allowed := int64(0)
	if opt.mode != Aggregate {
		allowed = 301
	}
	before := f.requests.Load()
	away := func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
		return true
	}
	f.mu.Lock() // without waking anybody, so that nothing has changed when it is back
	f.fault = away
	f.mu.Unlock()
	f.CloseClientConnections()
	down := time.Now()
	testbed.Eventually(t, 5*time.Second, "a second of outage", func() error {
		if s := w.Status(t.Context()); s.Err == "" || time.Since(down) < time.Second {
			return errors.New("not yet")
		}
		return nil
	})
	if n := f.requests.Load() - before; n > allowed+40 {
		t.Errorf("%d requests in a second of outage", n)
	}
	before = f.requests.Load()
	f.mu.Lock()
	f.fault = nil
	f.mu.Unlock()
	testbed.Eventually(t, 15*time.Second, "consul is followed again", func() error {
		if s := w.Status(t.Context()); s.Err != "" {
			return errors.New(s.Err)
		}
		return nil
	})
	if n := f.requests.Load() - before; n > 2*allowed+20 {
		t.Errorf("%d requests after an outage without a change", n)
	}
	if n := w.changes.Load(); n != 1 {
		t.Errorf("%d views", n)
	}
	f.set(func() { f.services["web-299"] = []string{"10.1.0.9"} })
	w.sees("changes are seen", instances("web-299", "10.1.0.9:80 passing"))
}

func TestWatch_F63_aServiceComesAndGoesAThousandTimes(t *testing.T) {
	eachMode(t, aServiceComesAndGoesAThousandTimes)
}

func aServiceComesAndGoesAThousandTimes(t *testing.T, opt Options) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	w := follow(t, opt, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	var routines int
	for i := range 1000 {
		f.set(func() { f.services["guest"] = []string{"10.1.0.2"} })
		f.set(func() { delete(f.services, "guest") })
		if i == 100 {
			routines = runtime.NumGoroutine()
		}
	}
	f.set(func() { f.services["web"] = []string{"10.1.0.3"} })
	v := w.sees("the last state", instances("web", "10.1.0.3:80 passing"))
	if len(v.Snapshot.Services) != 1 {
		t.Errorf("%d services", len(v.Snapshot.Services))
	}
	if n := runtime.NumGoroutine(); n > routines+10 {
		t.Errorf("%d goroutines, %d after the first hundred", n, routines)
	}
	var kept Status
	testbed.Eventually(t, 5*time.Second, "nothing is kept", func() error {
		kept = w.Status(t.Context())
		if kept.Routed != 1 || len(kept.Failing)+len(kept.Missing) > 0 {
			return fmt.Errorf("%+v", kept)
		}
		return nil
	})
}
