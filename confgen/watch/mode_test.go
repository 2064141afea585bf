package watch

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// eachMode runs a test in every mode: what is seen may not depend on how.
func eachMode(t *testing.T, test func(*testing.T, Options)) {
	t.Helper()
	for _, mode := range []Way{Aggregate, Direct, HTTP2} {
		t.Run(string(mode), func(t *testing.T) {
			opt := Options{mode: mode}
			if mode != Aggregate {
				opt.Connections = 400 // the tests' server has no HTTP/2
			}
			test(t, opt)
		})
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		services, connections int
		multiplexed           bool
		now, want             Way
	}{
		{0, 8, false, "", Direct},
		{5, 8, false, "", Direct},
		{6, 8, false, "", Aggregate},
		{6, 8, false, Direct, Aggregate},
		{5, 8, false, Direct, Direct},
		{5, 8, false, Aggregate, Aggregate}, // or it would go to and fro
		{3, 8, false, Aggregate, Direct},
		{2, 5, false, "", Direct},
		{3, 5, false, "", Aggregate},
		{7, 8, true, "", HTTP2},
		{1000, 8, true, "", HTTP2},
		{1001, 8, true, HTTP2, Aggregate},
		{800, 8, true, Aggregate, Aggregate},
		{750, 8, true, Aggregate, HTTP2},
		{601, 4, true, "", Aggregate}, // as many queries as 4 connections carry, less one
		{300, 8, false, HTTP2, Aggregate},
	} {
		mode, reason := choose(c.services, c.connections, c.multiplexed, c.now)
		if mode != c.want || !strings.Contains(reason, fmt.Sprint(c.services)) {
			t.Errorf("%+v: %s because %s", c, mode, reason)
		}
	}
}

// The mode follows the number of services, and nothing is lost on the way.
func TestWatch_modeFollowsTheCatalog(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	w := follow(t, Options{}, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	is := func(want Way) {
		t.Helper()
		testbed.Eventually(t, 5*time.Second, "the mode is "+string(want), func() error {
			if s := w.Status(t.Context()); s.Mode != want || s.Err != "" {
				return fmt.Errorf("%s because %s, error %q", s.Mode, s.Reason, s.Err)
			}
			return nil
		})
	}
	is(Direct)
	for round := range 3 {
		address := fmt.Sprintf("10.2.0.%d", round+1)
		f.set(func() {
			f.services["web"] = []string{address}
			for i := range 20 {
				f.services[fmt.Sprintf("more-%d", i)] = []string{"10.1.0.9"}
			}
		})
		v := w.sees("many", instances("more-19", "10.1.0.9:80 passing"))
		if len(v.Snapshot.Services) != 21 {
			t.Errorf("%d services: a part was shown", len(v.Snapshot.Services))
		}
		w.sees("what changed with it", instances("web", address+":80 passing"))
		is(Aggregate)
		f.set(func() { f.services["web"] = []string{"10.3.0.1"} })
		w.sees("a change among many", instances("web", "10.3.0.1:80 passing"))
		f.set(func() {
			for i := range 20 {
				delete(f.services, fmt.Sprintf("more-%d", i))
			}
		})
		w.sees("few", func(v View) error {
			if len(v.Snapshot.Services) != 1 {
				return errors.New("still many")
			}
			return nil
		})
		is(Direct)
		f.set(func() { f.services["web"] = []string{"10.4.0.1"} })
		w.sees("a change among few", instances("web", "10.4.0.1:80 passing"))
	}
}

// What is asked of Consul while nothing happens: nothing but the waiting queries.
func TestWatch_directAsksNothingOfAQuietConsul(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}, "api": {"10.1.0.2"}})
	w := follow(t, Options{}, f.URL)
	w.sees("start", instances("web", "10.1.0.1:80 passing"))
	f.set(func() { f.services["web"] = []string{"10.1.0.3"} })
	w.sees("a change", instances("web", "10.1.0.3:80 passing"))
	// Three services with that of Consul itself, the list of them, and what operators set live: each
	// asked twice and waited for once at most.
	if n := f.requests.Load(); n > 15 {
		t.Errorf("%d requests", n)
	}
}
