package watch

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/testbed"

	"github.com/hashicorp/go-hclog"
)

// addresses returns n of them.
func addresses(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("10.1.0.%d", i+1))
	}
	return list
}

// served says how many instances of a service are shown, and how many of them are held.
func served(v View, name string) (all, held int) {
	for _, s := range v.Snapshot.Services {
		if s.Name != name {
			continue
		}
		for _, in := range s.Instances {
			all++
			if in.Held {
				held++
			}
		}
	}
	return all, held
}

func (f *follower) holds(what, name string, all, held int) {
	f.t.Helper()
	f.sees(what, func(v View) error {
		if a, h := served(v, name); a != all || h != held {
			return fmt.Errorf("%d instances, %d of them held; want %d and %d", a, h, all, held)
		}
		return nil
	})
}

// Ten instances vanish at once: they stay for the grace time and are gone then.
func TestGuard_F10_aServiceFallsToNothing(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": addresses(10), "other": {"10.2.0.1"}})
	w := follow(t, Options{Losses: Losses{Policy: Policy{Grace: time.Second}}}, f.URL)
	w.holds("start", "web", 10, 0)
	began := time.Now()
	f.set(func() { delete(f.services, "web") })
	w.holds("held", "web", 10, 10)
	s := w.Status(t.Context())
	if len(s.Losses) != 1 || s.Losses[0].Service != "web" || len(s.Losses[0].Lost) != 10 || s.Losses[0].Left != 0 || !s.Losses[0].Until.After(began) {
		t.Errorf("status does not tell: %+v", s.Losses)
	}
	f.set(func() { f.services["other"] = []string{"10.2.0.2"} })
	w.sees("others go on meanwhile", instances("other", "10.2.0.2:80 passing"))
	w.holds("and it is still held", "web", 10, 10)
	w.holds("believed", "web", 0, 0)
	if took := time.Since(began); took < time.Second {
		t.Errorf("believed after %s", took)
	}
	if s := w.Status(t.Context()); len(s.Losses) != 0 {
		t.Errorf("status still tells of %+v", s.Losses)
	}
}

// A loss whose time has come while something else keeps the catalog from being believed waits
// without looking again and again.
func TestGuard_F10_F9_noBusyLoop(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": addresses(2), "other": {"10.2.0.1"}})
	w := follow(t, Options{Grace: time.Hour, Losses: Losses{Policy: Policy{Grace: 300 * time.Millisecond}}}, f.URL)
	w.holds("start", "web", 2, 0)
	f.set(func() { delete(f.services, "web") })
	w.holds("held", "web", 2, 2)
	f.set(func() { delete(f.services, "other") })
	testbed.Eventually(t, 10*time.Second, "the loss is overdue, and the emptied catalog is held", func() error {
		s := w.Status(t.Context())
		if s.Held == "" || len(s.Losses) != 1 || time.Now().Before(s.Losses[0].Until) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	rest := make(chan time.Duration, 1)
	w.tell(t.Context(), func(k *keeper) { rest <- k.due(time.Now()) })
	if d := <-rest; d < 10*time.Millisecond {
		t.Errorf("looks again after %s", d)
	}
	w.holds("nothing is lost meanwhile", "web", 2, 2)
	if _, err := w.Approve(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.holds("approved", "web", 0, 0)
}

// An operator ends it, where the mode says so nobody else.
func TestGuard_F10_approved(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": addresses(3), "shop": addresses(5)[3:], "other": {"10.2.0.1"}})
	losses := Losses{Policy: Policy{Grace: time.Hour}, Services: map[string]Policy{"shop": {Grace: time.Millisecond, Mode: Approve}}}
	w := follow(t, Options{Losses: losses}, f.URL)
	w.holds("start", "web", 3, 0)
	if _, err := w.Approve(t.Context(), nil); !errors.Is(err, ErrNotHeld) {
		t.Errorf("approved before anything is held: %v", err)
	}
	f.set(func() { delete(f.services, "web"); delete(f.services, "shop") })
	w.holds("held", "web", 3, 3)
	w.holds("held", "shop", 2, 2)
	if _, err := w.Approve(t.Context(), []string{"web", "sohp"}); !errors.Is(err, ErrNotHeld) || !strings.Contains(err.Error(), "held are: shop, web") {
		t.Errorf("a misspelt service: %v", err)
	}
	w.holds("and nothing is approved", "web", 3, 3)
	if names, err := w.Approve(t.Context(), []string{"web"}); err != nil || !slices.Equal(names, []string{"web"}) {
		t.Errorf("%v, %v", names, err)
	}
	w.holds("believed", "web", 0, 0)
	w.holds("but not the other, whatever the time", "shop", 2, 2)
	if s := w.Status(t.Context()); len(s.Losses) != 1 || !s.Losses[0].Until.IsZero() {
		t.Errorf("status: %+v", s.Losses)
	}
	if names, err := w.Approve(t.Context(), nil); err != nil || !slices.Equal(names, []string{"shop"}) {
		t.Errorf("%v, %v", names, err)
	}
	w.holds("believed", "shop", 0, 0)
}

// The whole catalog is emptied; an operator says that this is right.
func TestGuard_F9_emptiedCatalogApproved(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": addresses(3)})
	w := follow(t, Options{Grace: time.Hour, Losses: Losses{Policy: Policy{Grace: time.Hour, Mode: Approve}}}, f.URL)
	w.holds("start", "web", 3, 0)
	f.set(func() { delete(f.services, "web") })
	testbed.Eventually(t, 5*time.Second, "held", func() error {
		if w.Status(t.Context()).Held == "" {
			return errors.New("not yet")
		}
		return nil
	})
	approve := func() { _, _ = w.Approve(t.Context(), nil) } // The services are held only when the catalog no longer is.
	approve()
	testbed.Eventually(t, 5*time.Second, "believed", func() error {
		if v, _ := w.Latest(); len(v.Snapshot.Services) > 0 {
			approve()
			return fmt.Errorf("%+v", v)
		}
		return nil
	})
}

// A node goes and comes back: nothing that is shown loses a server.
func TestGuard_F12_aNodeFlaps(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"a": addresses(1), "b": addresses(5)[1:], "elsewhere": {"10.9.0.1"}})
	w := follow(t, Options{Losses: Losses{Policy: Policy{Grace: time.Hour}}}, f.URL)
	w.holds("start", "b", 4, 0)
	for range 5 {
		f.set(func() { delete(f.services, "a"); delete(f.services, "b") })
		w.holds("away", "a", 1, 1)
		w.holds("away", "b", 4, 4)
		f.set(func() { f.services["a"], f.services["b"] = addresses(1), addresses(5)[1:] })
		w.holds("back", "a", 1, 0)
		w.holds("back", "b", 4, 0)
	}
	if s := w.Status(t.Context()); len(s.Losses) != 0 {
		t.Errorf("still held: %+v", s.Losses)
	}
}

// No leader, and an answer of a server that has not heard of one for long: nothing shrinks.
func TestGuard_F11_answersThatAreNotToBeTrusted(t *testing.T) {
	for name, header := range map[string][2]string{
		"no leader":   {"X-Consul-KnownLeader", "false"},
		"old contact": {"X-Consul-LastContact", "120000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeConsul(t, map[string][]string{"web": addresses(2)})
			w := follow(t, Options{}, f.URL) // no guard that would hold it
			w.holds("start", "web", 2, 0)
			f.misbehave(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v1/catalog/services" {
					return false
				}
				headers(rw, 99)
				rw.Header().Set(header[0], header[1])
				fmt.Fprint(rw, `{"consul":[]}`)
				return true
			})
			testbed.Eventually(t, 5*time.Second, "it is shown", func() error {
				if w.Status(t.Context()).Err == "" {
					return errors.New("not yet")
				}
				return nil
			})
			w.holds("nothing shrinks", "web", 2, 0)
		})
	}
}

// Somebody takes the routing labels off: that is no loss.
func TestGuard_F10_labelsTakenOff(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": addresses(2), "other": {"10.2.0.1"}})
	w := follow(t, Options{Losses: Losses{Policy: Policy{Grace: time.Hour}}}, f.URL)
	w.holds("start", "web", 2, 0)
	f.set(func() { f.unlabelled = "web" })
	w.holds("gone at once", "web", 0, 0)
}

// What the guard decides, step by step. Each step is what the catalog says after a time; "=" is
// what is shown, with held instances in brackets.
func TestGuard_F10_decisions(t *testing.T) {
	minute := Losses{Policy: Policy{Grace: time.Minute}}
	cases := map[string]struct {
		policy Losses
		steps  string
	}{
		"a partial loss is believed at once": {minute, "a1 a2 a3 = a1 a2 a3; +1s a1 = a1"},
		"all are lost":                       {minute, "a1 a2 = a1 a2; +1s b1 = (a1) (a2) b1; +59s b1 = (a1) (a2) b1; +1s b1 = b1"},
		"one by one: the last stays":         {minute, "a1 a2 = a1 a2; +1s a1 = a1; +1s b1 = (a1) b1"},
		"let go in an orderly way":           {minute, "a1 a2 = a1 a2; +1s a1! a2! = a1! a2!; +1s b1 = b1"},
		"some let go, the last killed":       {minute, "a1 a2! = a1 a2!; +1s b1 = (a1) b1"},
		"back":                               {minute, "a1 a2 = a1 a2; +1s b1 = (a1) (a2) b1; +1s a1 a2 b1 = a1 a2 b1; +1h b1 = b1 (a1) (a2)"},
		"others come in its place":           {minute, "a1 a2 a3 a4 = a1 a2 a3 a4; +1s b1 = (a1) (a2) (a3) (a4) b1; +1s a5 b1 = (a1) (a2) (a3) (a4) a5 b1; +1s a5 a6 b1 = a5 a6 b1"},
		"one comes in the place of one":      {minute, "a1 = a1; +1s b1 = (a1) b1; +1s a2 b1 = a2 b1"},
		"another service has the address":    {minute, "a1 a2 = a1 a2; +1s b1 = (a1) (a2) b1; +1s b1 b2@a2 = (a1) b1 b2@a2"},
		"a share": {
			Losses{Policy: Policy{Grace: time.Minute, Share: 50}},
			"a1 a2 a3 a4 = a1 a2 a3 a4; +1s a1 a2 a3 = a1 a2 a3; +1s a1 a2 = a1 a2 (a3); +1s a1 = a1 (a2) (a3); +1s a1 a4 a5 = a1 a4 a5",
		},
		"a share over a longer time": {
			Losses{Policy: Policy{Grace: time.Minute, Share: 50}},
			"a1 a2 a3 a4 = a1 a2 a3 a4; +1s a1 a2 a3 = a1 a2 a3; +2m a1 a2 = a1 a2",
		},
		"of the whole catalog": {
			Losses{Policy: Policy{Grace: time.Minute}, Total: 50},
			"a1 a2 b1 b2 = a1 a2 b1 b2; +1s a1 b1 = a1 (a2) b1 (b2); +1m a1 b1 = a1 b1",
		},
		"a service of its own policy": {
			Losses{Policy: Policy{Grace: time.Minute}, Services: map[string]Policy{"b": {}}},
			"a1 b1 = a1 b1; +1s c1 = (a1) c1",
		},
		"off": {Losses{}, "a1 b1 = a1 b1; +1s b1 = b1"},
		"approval only": {
			Losses{Policy: Policy{Grace: time.Minute, Mode: Approve}},
			"a1 b1 = a1 b1; +1s b1 = (a1) b1; +9h b1 = (a1) b1",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g := newLossGuard(c.policy, hclog.NewNullLogger())
			now := time.Unix(1_700_000_000, 0)
			shown := route.Snapshot{}
			for step := range strings.SplitSeq(c.steps, "; ") {
				catalog, want, _ := strings.Cut(step, "=")
				words := strings.Fields(catalog)
				if d, isTime := strings.CutPrefix(words[0], "+"); isTime {
					pause, err := time.ParseDuration(d)
					if err != nil {
						t.Fatal(err)
					}
					now, words = now.Add(pause), words[1:]
				}
				shown = g.look(shown, guarded(words), false, 0, now)
				if got, want := words2(shown), words2(guarded(strings.Fields(want))); got != want {
					t.Fatalf("%s:\n got %s\nwant %s", step, got, want)
				}
			}
		})
	}
}

// guarded makes a snapshot of words: a2 is the instance 2 of service a, a2! one that fails, (a2)
// one that is held, b1@a2 one at the address of another.
func guarded(words []string) route.Snapshot {
	by := map[string][]route.Instance{}
	for _, w := range words {
		id := strings.Trim(w, "()!")
		id, at, _ := strings.Cut(id, "@")
		if at == "" {
			at = id
		}
		in := route.Instance{Node: "n", ID: id, Address: at, Port: 80, Status: route.Passing, Held: strings.HasPrefix(w, "(")}
		if strings.HasSuffix(w, "!") {
			in.Status = route.Critical
		}
		by[id[:1]] = append(by[id[:1]], in)
	}
	var s route.Snapshot
	for _, name := range []string{"a", "b", "c"} {
		if list := by[name]; len(list) > 0 {
			slices.SortFunc(list, func(x, y route.Instance) int { return strings.Compare(x.ID, y.ID) })
			s.Services = append(s.Services, route.Service{Name: name, Instances: list})
		}
	}
	return s
}

func words2(s route.Snapshot) string {
	var out []string
	for _, service := range s.Services {
		for _, in := range service.Instances {
			out = append(out, fmt.Sprint(service.Name, "/", in.ID, "@", in.Address, " ", in.Status, " ", in.Held))
		}
	}
	return strings.Join(out, ", ")
}

func TestLosses_validate(t *testing.T) {
	for _, bad := range []Losses{
		{Policy: Policy{Share: 101}},
		{Policy: Policy{Grace: -1}},
		{Policy: Policy{Mode: "ask"}},
		{Total: -1},
		{Services: map[string]Policy{"web": {Share: -1}}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is accepted", bad)
		}
		if _, err := New(Options{Losses: bad}); err == nil {
			t.Errorf("%+v is accepted by New", bad)
		}
	}
}

// After a start, what the saved snapshot knows counts only if it is not old: what was removed
// while confgen did not run for an hour was not lost at once.
func TestGuard_F10_afterAStart(t *testing.T) {
	known := guarded([]string{"a1", "b1"})
	raw := guarded([]string{"b1"})
	now := time.Now()
	for age, held := range map[time.Duration]bool{10 * time.Second: true, time.Hour: false} {
		g := newLossGuard(Losses{Policy: Policy{Grace: time.Minute}}, hclog.NewNullLogger())
		next := g.look(known, raw, false, age, now)
		if (len(next.Services) == 2) != held {
			t.Errorf("%s old: %v", age, next)
		}
	}
}
