package watch

import (
	"fmt"
	"testing"
	"time"
)

// sweeping drives a sweep by a clock of its own.
type sweeping struct {
	sweep
	now   time.Time
	nodes map[string]*node
}

func newSweeping(nodes int) *sweeping {
	s := &sweeping{now: time.Now(), nodes: map[string]*node{}}
	for i := range nodes {
		name := fmt.Sprintf("n%02d", i)
		s.nodes[name] = &node{name: name, since: uint64(1 + i)}
	}
	return s
}

// asks returns the next node that is probed now; "" for none.
func (s *sweeping) asks() string {
	s.turn(s.now, s.nodes)
	j, ok := s.sweep.next(s.nodes)
	if !ok {
		return ""
	}
	s.asked()
	s.answered(nil)
	s.now = s.now.Add(time.Millisecond)
	return j.node
}

// all returns how many nodes are probed until nothing is due.
func (s *sweeping) all() int {
	n := 0
	for s.asks() != "" {
		n++
	}
	return n
}

func TestSweep_endsWhenTheChangeIsFound(t *testing.T) {
	s := newSweeping(10)
	s.look(100, true, s.now)
	if got := s.asks(); got != "n09" {
		t.Errorf("begins with %q, not where something changed last", got)
	}
	s.found(99, s.now) // something else
	if got := s.asks(); got != "n08" {
		t.Errorf("goes on with %q", got)
	}
	s.found(100, s.now)
	if n := s.all(); n != 0 {
		t.Errorf("%d more nodes asked for what is found", n)
	}
	s.now = s.now.Add(sweepLazy)
	if n := s.all(); n != 10 {
		t.Errorf("%d nodes asked a while later: what changed together with it may be on any", n)
	}
	s.now = s.now.Add(time.Minute)
	if n := s.all(); n != 0 {
		t.Errorf("%d nodes asked without a reason", n)
	}
}

func TestSweep_waitsForOthersToExplain(t *testing.T) {
	s := newSweeping(10)
	s.look(100, false, s.now)
	if got := s.asks(); got != "" {
		t.Errorf("asks %s at once", got)
	}
	s.found(100, s.now)
	s.now = s.now.Add(sweepHold)
	if got := s.asks(); got != "" {
		t.Errorf("asks %s for what is explained", got)
	}
	s.look(200, false, s.now)
	s.now = s.now.Add(sweepHold)
	if n := s.all(); n != 10 {
		t.Errorf("%d nodes asked for what nothing explains", n)
	}
	s.found(300, s.now) // what comes before the list of services tells of it
	s.now = s.now.Add(time.Minute)
	s.all()
	s.look(300, true, s.now)
	if got := s.asks(); got != "" {
		t.Errorf("asks %s for what is known", got)
	}
}

// Changes that follow each other without end do not keep any node from being probed.
func TestSweep_noNodeIsLeftOut(t *testing.T) {
	s := newSweeping(50)
	last := map[string]time.Time{}
	began := s.now
	for index := uint64(100); s.now.Before(began.Add(20 * time.Second)); index++ {
		s.look(index, true, s.now)
		last[s.asks()] = s.now
		s.found(index, s.now) // always on the first node
		s.now = s.now.Add(time.Millisecond)
	}
	for name := range s.nodes {
		if s.now.Sub(last[name]) > 5*time.Second {
			t.Errorf("%s was last asked after %s", name, last[name].Sub(began))
		}
	}
}

func TestSweep_aNewNodeGoesFirst(t *testing.T) {
	s := newSweeping(5)
	s.nodes["new"] = &node{name: "new"}
	s.look(100, true, s.now)
	if got := s.asks(); got != "new" {
		t.Errorf("begins with %q", got)
	}
}
