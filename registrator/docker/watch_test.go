package docker

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
)

func TestWatch_aCutStreamIsTakenUpWhereItEnded(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	at := time.Now()
	m := containerEvent(events.ActionPause, a)
	m.TimeNano = at.UnixNano()
	f.emit(m)
	await(t, woken)
	f.cut()
	await(t, woken) // it was cut
	await(t, woken) // it stands again
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.since) != 2 {
		t.Fatalf("%d streams", len(f.since))
	}
	if want := fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()); f.since[1] != want {
		t.Errorf("second stream since %s, want %s", f.since[1], want)
	}
	first, err := strconv.ParseFloat(f.since[0], 64)
	if err != nil || time.Since(time.Unix(int64(first), 0)) < lookBack-time.Second {
		t.Errorf("first stream since %s, want %s ago", f.since[0], lookBack)
	}
}

func TestWatch_anEngineThatIsAwayIsTriedAgain(t *testing.T) {
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	f.with(func() { f.down = true })
	f.cut()
	await(t, woken)
	if _, err := c.Containers(t.Context()); err == nil {
		t.Error("no error while the engine is away")
	}
	f.with(func() { f.down = false })
	for deadline := time.Now().Add(5 * time.Second); ; {
		await(t, woken)
		if l, err := c.Containers(t.Context()); err == nil && len(l.Containers) == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("never came back")
		}
	}
}

func TestWatch_C81_signals(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	stopping := func(want bool) {
		t.Helper()
		await(t, woken)
		if got := one(t, listing(t, c), a).Stopping; got != want {
			t.Errorf("stopping %v, want %v", got, want)
		}
	}
	f.emit(containerEvent(events.ActionKill, a, "signal", "1"))
	stopping(false) // C80
	f.emit(containerEvent(events.ActionKill, a, "signal", "15"))
	stopping(true)
	f.emit(containerEvent(events.ActionKill, a, "signal", "1"))
	stopping(true) // another signal in between changes nothing
	f.change(a, runsAnew)
	f.emit(containerEvent(events.ActionStart, a))
	stopping(false)
	f.emit(containerEvent(events.ActionKill, a, "signal", "9"))
	stopping(true)
	f.emit(containerEvent(events.ActionDie, a))
	stopping(true) // as long as it is taken for one that runs
	f.change(a, runsAnew)
	f.emit(containerEvent(events.ActionStart, a))
	stopping(false)

	f.change(a, func(c *container.InspectResponse) { c.Config.StopSignal = "SIGQUIT" })
	f.emit(containerEvent(events.ActionUpdate, a))
	stopping(false)
	f.emit(containerEvent(events.ActionKill, a, "signal", "15"))
	stopping(false) // it is not the stop signal of this one
	f.emit(containerEvent(events.ActionKill, a, "signal", "3"))
	stopping(true)
}

func runsAnew(d *container.InspectResponse) {
	d.State.StartedAt = time.Now().UTC().Format(time.RFC3339Nano)
}

func TestMemory_aContainerThatOutlivesItsStopSignalIsBack(t *testing.T) {
	m := newMemory()
	at := time.Now()
	m.kill("a", 15, at)
	r := run{started: at, stopSignal: 15, stopTimeout: 10 * time.Second}
	until, yes := m.stopping("a", r, at.Add(10*time.Second+stopMargin-1))
	if !yes || !until.Equal(at.Add(10*time.Second+stopMargin)) {
		t.Errorf("stopping %v until %s", yes, until)
	}
	if _, yes := m.stopping("a", r, until); yes {
		t.Error("still stopping")
	}
	for range 1000 { // a container that is told to reopen its logs every minute
		m.kill("a", 1, at)
	}
	if n := len(m.killed["a"]); n != 2 {
		t.Errorf("%d signals kept", n)
	}
	listed := true
	kept := func(after time.Duration) int {
		m.forgetKilled(func(string) bool { return listed }, at.Add(after))
		return len(m.killed["a"])
	}
	m.removed("a")
	if n := kept(2 * killedFor); n != 2 {
		t.Errorf("%d signals kept of a container that is listed", n)
	}
	if listed = false; kept(killedFor) != 2 || kept(killedFor+1) != 0 || len(m.killed) != 0 {
		t.Errorf("signals kept of a container that is no more: %v", m.killed)
	}
}

func TestSignalNumber(t *testing.T) {
	for text, want := range map[string]int{
		"SIGTERM": 15, "TERM": 15, "sigquit": 3, "9": 9, "SIGRTMIN+3": 37, "RTMAX-1": 63,
		"": 0, "SIGNO": 0, "RTMIN+x": 0, "0": 0, "-1": 0,
	} {
		if got, ok := signalNumber(text); ok != (want > 0) || ok && got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, ok, want)
		}
	}
}
