package docker

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/go-connections/nat"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// tooLong is how long an inspect takes that others do not wait for.
const tooLong = inspectPatience + 200*time.Millisecond

// lateClient is one of which each answer that came late is told.
func (f *fakeEngine) lateClient(opt Options) (c *Client, late chan struct{}) {
	late = make(chan struct{}, 1000)
	opt.Late = func() { late <- struct{}{} }
	return f.client(opt), late
}

// isSlow has a container be asked for that takes too long, and then be read.
func (f *fakeEngine) isSlow(c *Client, woken, late <-chan struct{}, id string) {
	f.t.Helper()
	f.with(func() { f.slow[id] = tooLong })
	f.act(woken, id, nil, containerEvent(events.ActionUpdate, id))
	listing(f.t, c)
	await(f.t, late)
	listing(f.t, c)
	if e := c.known[id]; e.pace != slow || e.err != nil {
		f.t.Fatalf("pace %d, %v", e.pace, e.err)
	}
}

// TestReading_inTimeIsNoNews: a wake for each answer would be a pass for nothing.
func TestReading_inTimeIsNoNews(t *testing.T) {
	r := &reading{asked: time.Now(), done: make(chan struct{})}
	if r.wait(t.Context(), 0) || !r.givenUp.Load() {
		t.Error("who gives up is to be told of the end")
	}
	r = &reading{asked: time.Now(), done: make(chan struct{})}
	close(r.done)
	if !r.wait(t.Context(), 0) || r.givenUp.Load() {
		t.Error("who has the answer is told of it once more")
	}
}

func unhealthy(d *container.InspectResponse) {
	d.State.Health = &container.Health{Status: container.Unhealthy}
}

// TestGlance_C97_isNotClearOfASlowOne: what an event told of it would be lost.
func TestGlance_C97_isNotClearOfASlowOne(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a, b := f.add("a", "10000"), f.add("b", "10001")
	c, late := f.lateClient(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	f.isSlow(c, woken, late, a)
	f.with(func() { f.slow[a] = 0 })
	f.act(woken, a, ends, containerEvent(events.ActionDie, a))
	f.act(woken, b, nil, containerEvent(events.ActionPause, b))
	if got := looks(t, c, Unclear); len(got.Containers) != 1 {
		t.Errorf("a has ended: %+v", got.Containers)
	}
	f.act(woken, b, nil, containerEvent(events.ActionUnPause, b))
	glances(t, c)
}

// TestGlance_C97_twoThatHangAreWaitedForOnce, both together, and asked for once.
func TestGlance_C97_twoThatHangAreWaitedForOnce(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	f.takeInspects()
	for _, name := range []string{"b", "c"} {
		id := f.add(name, "10001")
		f.with(func() { f.hanging[id] = true })
		f.act(woken, id, nil, containerEvent(events.ActionStart, id))
	}
	started := time.Now()
	looks(t, c, Unclear)
	if took := time.Since(started); took > inspectPatience+inspectPatience/2 {
		t.Errorf("it took %s", took)
	}
	inspected(t, f, "b×1 c×1")
}

// TestContainers_C86_theFormerRunOfASlowOne: after a restart it does not seem to run at its old port, which
// may be another's by now.
func TestContainers_C86_theFormerRunOfASlowOne(t *testing.T) {
	for name, exited := range map[string]bool{"what has ended is listed": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEngine(t)
			a := f.add("a", "10000")
			c, late := f.lateClient(Options{Exited: exited})
			woken := f.watch(c)
			looks(t, c, Unclear)
			f.isSlow(c, woken, late, a)
			f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", "15"))
			if r := rowOf(listing(t, c)); r.Status != service.Critical {
				t.Errorf("after its stop signal: %+v", r)
			}
			f.act(woken, a, func(d *container.InspectResponse) {
				runsAnew(d)
				d.NetworkSettings.Ports = nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "20000"}}}
			}, containerEvent(events.ActionDie, a))
			f.act(woken, a, nil, containerEvent(events.ActionStart, a))
			for range 3 { // the answer that was awaited is of its former run: it is asked for again
				if r := rowOf(listing(t, c)); r.Port == 20000 {
					break
				} else if r.Status == service.Passing {
					t.Fatalf("passing as in its former run: %+v", r)
				}
				await(t, late)
			}
			if r := rowOf(listing(t, c)); r.Port != 20000 || r.Status != service.Passing {
				t.Errorf("in its present run: %+v", r)
			}
		})
	}
}

// TestContainers_C97_aSlowAndBusyOneIsRead, although no answer is ever the newest.
func TestContainers_C97_aSlowAndBusyOneIsRead(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c, late := f.lateClient(Options{})
	woken := f.watch(c)
	f.slow[a] = tooLong
	for range 3 {
		listing(t, c)
		f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", "1"))
		await(t, late)
	}
	if l := listing(t, c); one(t, l, a).State != service.Running {
		t.Errorf("it is %s", one(t, l, a).State)
	}
	await(t, late) // what has happened since is being read already
	listing(t, c)
	if e := c.known[a]; e.err != nil || !c.memory.fresh(a, e.read) {
		t.Errorf("after it was left alone: %v", e.err)
	}
}

// TestContainers_aLateAnswerIsOlderThanTheListing, though no event said so.
func TestContainers_aLateAnswerIsOlderThanTheListing(t *testing.T) {
	for name, first := range map[string]func(*testing.T, *Client){
		"begun by a listing": func(t *testing.T, c *Client) { t.Helper(); listing(t, c) },
		"begun by a glance":  func(t *testing.T, c *Client) { t.Helper(); looks(t, c, Clear) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEngine(t)
			a := f.add("a", "10000")
			c, late := f.lateClient(Options{})
			woken := f.watch(c)
			listing(t, c)
			hold := make(chan struct{})
			f.with(func() { f.holdAnswer = hold })
			f.act(woken, a, nil, containerEvent(events.ActionUpdate, a))
			first(t, c)
			f.with(func() { f.holdAnswer = nil })
			f.change(a, unhealthy) // and an event was lost
			close(hold)
			for range 3 {
				await(t, late)
				if got := one(t, listing(t, c), a).Health; got == service.Unhealthy {
					return
				} else if unread(c) == nil {
					t.Fatalf("health %q, and nobody looks again", got)
				}
			}
			t.Error("it is never read")
		})
	}
}

// TestContainers_aLateNotFoundIsNotNews: a container that is listed now and has started since is there.
func TestContainers_aLateNotFoundIsNotNews(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c, late := f.lateClient(Options{})
	woken := f.watch(c)
	listing(t, c)
	hold := make(chan struct{})
	f.with(func() { f.holdInspect, f.unlisted[a] = hold, true })
	f.act(woken, a, nil, containerEvent(events.ActionUpdate, a))
	listing(t, c)
	f.act(woken, a, nil, containerEvent(events.ActionStart, a))
	close(hold)
	await(t, late)
	f.with(func() { f.holdInspect, f.unlisted[a] = nil, false })
	testbed.Eventually(t, tooLong, "it is read", func() error {
		if l := listing(t, c); len(l.Containers) != 1 {
			t.Error("it is not there")
		}
		return unread(c)
	})
}

// TestContainers_C91_oneTroubleIsToldOnce, by one name and with one reason, when an inspect's time is over.
func TestContainers_C91_oneTroubleIsToldOnce(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	b := f.add("b", "10001")
	f.with(func() { f.hanging[b] = true })
	f.act(woken, b, nil, containerEvent(events.ActionStart, b))
	began := time.Now()
	texts := map[string]bool{}
	for l := looks(t, c, Unclear); time.Since(began) < 3*inspectTimeout; l = listing(t, c) {
		for name, err := range l.Failed {
			texts[name+": "+err.Error()] = true
			if time.Since(began) < inspectTimeout {
				t.Errorf("told after %s: %v", time.Since(began), err)
			}
		}
		time.Sleep(inspectTimeout / 20)
	}
	if want := "b: inspect container b: docker does not answer"; len(texts) != 1 || !texts[want] {
		t.Errorf("told %v, want %q", texts, want)
	}
}

// TestContainers_C97_manyThatHang: those that answer are not kept waiting, neither in the first pass nor in the
// background, and there are few passes.
func TestContainers_C97_manyThatHang(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c, late := f.lateClient(Options{})
	woken := f.watch(c)
	listing(t, c)
	f.isSlow(c, woken, late, a)
	for i := range 10 * inspectParallel {
		f.hanging[f.add(fmt.Sprint("c", i), "10000")] = true
	}
	pass := func() time.Duration {
		started := time.Now()
		listing(t, c)
		return time.Since(started)
	}
	if took := pass(); took > 2*inspectPatience {
		t.Errorf("the first pass took %s", took)
	}
	passes, retry := 0, time.NewTimer(0)
	until := time.After(2 * inspectTimeout)
	for over := false; !over; {
		select {
		case <-late:
			for len(late) > 0 {
				<-late
			}
		case <-retry.C:
		case <-until:
			over = true
		}
		if l := listing(t, c); l.Again > 0 {
			retry.Reset(l.Again)
		}
		passes++
	}
	if passes > 30 {
		t.Errorf("%d passes in %s", passes, 2*inspectTimeout)
	}
	for len(late) > 0 {
		<-late
	}
	f.act(woken, a, unhealthy, containerEvent("health_status: unhealthy", a))
	testbed.Eventually(t, 2*tooLong, "what a says, which answers, as those do that do not", func() error {
		if got := one(t, listing(t, c), a).Health; got != service.Unhealthy {
			return fmt.Errorf("health %q", got)
		}
		return nil
	})
}

// TestContainers_C78_itsLineSaysThatItHasEnded while the inspect hangs.
func TestContainers_C78_itsLineSaysThatItHasEnded(t *testing.T) {
	for _, code := range []int{0, 1} {
		t.Run(fmt.Sprint("with ", code), func(t *testing.T) {
			t.Parallel()
			f := newFakeEngine(t)
			a := f.add("a", "10000")
			c := f.client(Options{Exited: true})
			woken := f.watch(c)
			listing(t, c)
			f.with(func() { f.hanging[a] = true })
			f.act(woken, a, func(d *container.InspectResponse) { ends(d); d.State.ExitCode = code }, containerEvent(events.ActionDie, a))
			if got := one(t, listing(t, c), a); got.State != service.Exited || got.ExitCode != code {
				t.Errorf("%s with code %d", got.State, got.ExitCode)
			}
		})
	}
}
