package watch

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/testbed"
)

func overriding(want ...route.Override) func(View) error {
	return func(v View) error {
		if !slices.Equal(v.Snapshot.Overrides, want) {
			return fmt.Errorf("overrides are %v, want %v", v.Snapshot.Overrides, want)
		}
		return nil
	}
}

func TestWatch_F46_overrides(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	f.set(func() { f.live = map[string]string{"web/weight": "5", "web/": ""} })
	file := filepath.Join(t.TempDir(), "snapshot.json")
	w := follow(t, Options{File: file}, f.URL)
	five := route.Override{Path: "web/weight", Value: "5"}
	w.sees("in the first view", overriding(five))
	six := route.Override{Path: "web/share", Value: "6"}
	f.set(func() { f.live["web/share"] = "6" })
	w.sees("a new one", overriding(six, five))
	f.set(func() { delete(f.live, "web/weight") })
	w.sees("one taken back", overriding(six))
	f.set(func() { f.live = nil })
	w.sees("the last one taken back", overriding())
}

// A token that may not read overrides, or not any more, changes nothing.
func TestWatch_F46_overridesThatMayNotBeRead(t *testing.T) {
	refusals := map[string]func(w http.ResponseWriter){
		"403": func(w http.ResponseWriter) { http.Error(w, "Permission denied", http.StatusForbidden) },
		"filtered": func(w http.ResponseWriter) {
			headers(w, 99)
			w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
			w.WriteHeader(http.StatusNotFound)
		},
	}
	for name, refuse := range refusals {
		t.Run(name, func(t *testing.T) {
			f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
			f.set(func() { f.live = map[string]string{"web/weight": "5"} })
			w := follow(t, Options{}, f.URL)
			five := route.Override{Path: "web/weight", Value: "5"}
			w.sees("start", overriding(five))
			f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/v1/kv/") || r.FormValue("index") == "99" {
					return false
				}
				refuse(w)
				return true
			})
			testbed.Eventually(t, 5*time.Second, "the refusal is shown", func() error {
				if w.Status(t.Context()).Failing[pollOverrides] == "" {
					return errors.New("not yet")
				}
				return nil
			})
			f.set(func() { f.services["new"] = []string{"10.1.0.2"} })
			v := w.sees("others go on", instances("new", "10.1.0.2:80 passing"))
			if err := overriding(five)(v); err != nil {
				t.Error(err)
			}
		})
	}
}

// The first view does not wait for what may not be read.
func TestWatch_F46_overridesRefusedFromTheStart(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	f.misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/kv/") {
			return false
		}
		http.Error(w, "Permission denied", http.StatusForbidden)
		return true
	})
	w := follow(t, Options{}, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	if w.Status(t.Context()).Err != "" {
		t.Error("not ready without overrides")
	}
}
