package watch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// deaf makes all long polls but that of the hints wait, whatever changes, from their next question on.
func deaf(f *fakeConsul) {
	f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
		polled := []string{"/v1/catalog/services", "/v1/health/state/any", "/v1/catalog/nodes"}
		if !slices.Contains(polled, r.URL.Path) || r.FormValue("index") == "" {
			return false
		}
		select {
		case <-r.Context().Done():
			return true
		case <-f.heard:
			return false
		}
	})
}

func TestWatch_aHintIsEnough(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}, "api": {"10.2.0.1"}})
	f.set(func() { f.hint("n1", `{"node":"n1","time":"2026-01-01T00:00:00Z","services":{"api":0}}`) })
	w := follow(t, Options{mode: Aggregate}, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	deaf(f)
	reads := func() int { return int(w.Status(t.Context()).Counts.Reads) }
	quiet(t, w)
	before := reads()
	f.set(func() {
		f.services["web"] = append(f.services["web"], "10.1.0.2")
		f.services["api"] = append(f.services["api"], "10.2.0.2")
		f.hint("n1", `{"node":"n1","time":"2026-01-01T00:00:01Z","services":{"web":0,"unheard-of":0,"api":1000}}`)
	})
	v := w.sees("what the hint names", instances("web", "10.1.0.1:80 passing", "10.1.0.2:80 passing"))
	if err := instances("api", "10.2.0.1:80 passing")(v); err != nil {
		t.Errorf("the test proves nothing, something else was heard: %v", err)
	}
	if n := reads() - before; n != 1 {
		t.Errorf("%d services read, want the one of the hint", n)
	}
	close(f.heard)
	v = w.sees("what no hint names", instances("api", "10.2.0.1:80 passing", "10.2.0.2:80 passing"))
	if err := instances("web", "10.1.0.1:80 passing", "10.1.0.2:80 passing")(v); err != nil {
		t.Error(err)
	}
}

// quiet waits until the polls that were on their way have been answered.
func quiet(t *testing.T, w *follower) {
	t.Helper()
	last, since := Counts{}, time.Now()
	testbed.Eventually(t, 5*time.Second, "nothing is asked any more", func() error {
		if now := w.Status(t.Context()).Counts; now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) < 200*time.Millisecond {
			return fmt.Errorf("still at %+v", last)
		}
		return nil
	})
}

// What is no hint, or may not be read, costs nothing but time.
func TestWatch_withoutHints(t *testing.T) {
	for name, hinder := range map[string]func(*fakeConsul){
		"somebody else's words": func(f *fakeConsul) { f.set(func() { f.hint("n1", "web") }) },
		"refused": func(f *fakeConsul) {
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/v1/kv/fairway/changed/") {
					http.Error(w, "Permission denied", http.StatusForbidden)
					return true
				}
				return false
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
			f.set(func() { f.hint("n1", `{"node":"n1","time":"2026-01-01T00:00:00Z","services":{"web":0}}`) })
			hinder(f)
			w := follow(t, Options{mode: Aggregate}, f.URL)
			w.sees("start", instances("web", "10.1.0.1:80 passing"))
			f.set(func() {
				f.services["web"] = []string{"10.1.0.2"}
				f.hint("n1", "web")
			})
			w.sees("the change", instances("web", "10.1.0.2:80 passing"))
			if err := w.Status(t.Context()).Err; err != "" {
				t.Errorf("not ready: %s", err)
			}
			if name != "refused" {
				return
			}
			testbed.Eventually(t, 5*time.Second, "status tells", func() error {
				if w.Status(t.Context()).Failing[pollHints] == "" {
					return errors.New("not yet")
				}
				return nil
			})
		})
	}
}
