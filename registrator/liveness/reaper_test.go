package liveness

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

const (
	testTTL  = 10 * time.Second
	testReap = time.Hour
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func held(node string, index uint64) *api.KVPair {
	return &api.KVPair{Key: nodePrefix + node, ModifyIndex: index, Session: "s-" + node, Value: []byte("{}")}
}

func unheld(node string, index uint64) *api.KVPair {
	p := held(node, index)
	p.Session = ""
	return p
}

func lost(node string, index uint64, at time.Time) *api.KVPair {
	p := unheld(node, index)
	p.Value, _ = json.Marshal(life{Lost: at})
	return p
}

func judged(t *testing.T, r *register, at time.Time, want ...verdict) {
	t.Helper()
	got, next := r.judge(at)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(verdict{})); diff != "" {
		t.Fatalf("verdicts at t0+%s (-want +got):\n%s", at.Sub(t0), diff)
	}
	if next <= 0 {
		t.Fatalf("next look in %s", next)
	}
}

func TestRegister_C103_aLapsedSessionGetsTheGrace(t *testing.T) {
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{held("a", 1), held("b", 2)}, t0)
	judged(t, r, t0.Add(time.Hour))
	r.update(api.KVPairs{unheld("a", 3), held("b", 2)}, t0.Add(time.Minute))
	judged(t, r, t0.Add(time.Minute+grace-1))
	judged(t, r, t0.Add(time.Minute+grace), verdict{node: "a", index: 3})
}

func TestRegister_C103_aNewReaperWaitsAFullTTL(t *testing.T) {
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{unheld("a", 1)}, t0)
	judged(t, r, t0.Add(testTTL-1))
	// Another answer, in which nothing happened to the key, does not start the time anew.
	r.update(api.KVPairs{unheld("a", 1), held("b", 2)}, t0.Add(testTTL-1))
	judged(t, r, t0.Add(testTTL), verdict{node: "a", index: 1})
}

func TestRegister_C103_aNodeThatIsBackIsLeftAlone(t *testing.T) {
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{held("a", 1)}, t0)
	r.update(api.KVPairs{unheld("a", 2)}, t0.Add(time.Second))
	r.update(api.KVPairs{held("a", 3)}, t0.Add(time.Second+grace/2))
	judged(t, r, t0.Add(time.Hour))
	r.update(api.KVPairs{unheld("a", 4)}, t0.Add(time.Hour))
	judged(t, r, t0.Add(time.Hour+grace/2))
}

func TestRegister_C103_aNodeThatStaysAwayIsRemoved(t *testing.T) {
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{lost("a", 5, t0)}, t0.Add(time.Minute))
	judged(t, r, t0.Add(testReap-1))
	judged(t, r, t0.Add(testReap), verdict{node: "a", index: 5, remove: true})

	never := newRegister(testTTL, 0)
	never.update(api.KVPairs{lost("a", 5, t0)}, t0)
	judged(t, never, t0.Add(1000*testReap))
}

func TestRegister_C102_aNodeStoppedOnPurposeGetsItsTime(t *testing.T) {
	stopped := func(p *api.KVPair) *api.KVPair {
		p.Value = []byte(`{"stopped_for":"10m0s"}`)
		return p
	}
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{stopped(held("a", 1)), stopped(unheld("b", 2))}, t0) // b was stopped before this reaper looked
	judged(t, r, t0.Add(10*time.Minute-1))
	r.update(api.KVPairs{stopped(unheld("a", 3)), stopped(unheld("b", 2))}, t0.Add(time.Minute))
	judged(t, r, t0.Add(10*time.Minute), verdict{node: "b", index: 2})
	r.update(api.KVPairs{stopped(unheld("a", 3)), lost("b", 4, t0.Add(10*time.Minute))}, t0.Add(10*time.Minute))
	judged(t, r, t0.Add(11*time.Minute-1))
	judged(t, r, t0.Add(11*time.Minute), verdict{node: "a", index: 3})
}

func TestRegister_ignoresWhatIsNoNode(t *testing.T) {
	r := newRegister(testTTL, testReap)
	r.update(api.KVPairs{{Key: nodePrefix}, {Key: nodePrefix + "a/b"}}, t0)
	judged(t, r, t0.Add(time.Hour))
}
