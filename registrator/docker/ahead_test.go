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

// lateWorld is an engine with one container, which has been listed, and a client that follows its events.
func lateWorld(t *testing.T, opt Options) (f *fakeEngine, a string, c *Client, woken, late chan struct{}) {
	t.Helper()
	f = newFakeEngine(t)
	a = f.add("a", "10000")
	c, late = f.lateClient(opt)
	woken = f.watch(c)
	listing(t, c)
	return f, a, c, woken, late
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
// may be another's by now, whatever ended it.
func TestContainers_C86_theFormerRunOfASlowOne(t *testing.T) {
	for name, exited := range map[string]bool{"what has ended is listed": true, "it is not": false} {
		for name, signals := range map[string][]string{name + ", stopped": {"15"}, name + ", crashed": {}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f, a, c, woken, late := lateWorld(t, Options{Exited: exited})
				f.isSlow(c, woken, late, a)
				for _, signal := range signals {
					f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", signal))
					if r := rowOf(listing(t, c)); r.Status != service.Critical {
						t.Errorf("after its stop signal: %+v", r)
					}
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
}

// TestContainers_C86_theFormerRunForLong: longer than a container is believed to be stopping that runs.
func TestContainers_C86_theFormerRunForLong(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	f.change(a, func(d *container.InspectResponse) { d.State.StartedAt = "2026-01-02T03:04:05Z" })
	c, late := f.lateClient(Options{Exited: true})
	woken := f.watch(c)
	looks(t, c, Unclear)
	f.isSlow(c, woken, late, a)
	f.with(func() { f.hanging[a] = true })
	r := f.restarts(a)
	for _, m := range []events.Message{r.kill, r.die, r.start} {
		m.TimeNano = time.Now().Add(-stopMargin - 11*time.Second).UnixNano()
		f.act(woken, a, nil, m)
	}
	if l := listing(t, c); !one(t, l, a).Stopping || l.Again != 0 {
		t.Errorf("%+v, again in %s", one(t, l, a), l.Again)
	}
}

// TestWatch_C86_byTheOrderOfEvents: where clocks do not tell a signal to the former run from one to this.
func TestWatch_C86_byTheOrderOfEvents(t *testing.T) {
	at := time.Now().Truncate(time.Second).Add(500 * time.Millisecond)
	for name, tt := range map[string]struct {
		killed time.Time
		order  func(restart) []events.Message
	}{
		"a start is written in seconds":           {at.Add(-time.Millisecond), func(r restart) []events.Message { return []events.Message{r.kill, r.die, r.start} }},
		"the clock was set back before the start": {at.Add(time.Hour), func(r restart) []events.Message { return []events.Message{r.kill, r.die, r.start} }},
		"in seconds, and the end is told last":    {at.Add(-time.Millisecond), func(r restart) []events.Message { return []events.Message{r.start, r.die} }},
	} {
		t.Run(name, func(t *testing.T) {
			f, a, c, woken, _ := lateWorld(t, Options{})
			r := f.restarts(a)
			f.change(a, func(d *container.InspectResponse) { d.State.StartedAt = at.UTC().Format(time.RFC3339) })
			r.kill.TimeNano, r.die.TimeNano, r.start.TimeNano = tt.killed.UnixNano(), tt.killed.UnixNano(), at.UnixNano()
			for _, m := range tt.order(r) {
				f.act(woken, a, nil, m)
			}
			if got := rowOf(listing(t, c)); got.Status != service.Passing {
				t.Errorf("%+v", got)
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
	for range 2 {
		listing(t, c)
		f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", "1"))
		await(t, late)
	}
	if l := listing(t, c); one(t, l, a).State != service.Running || l.Again == 0 || l.Again > slowPatience {
		t.Errorf("it is %s, again in %s", one(t, l, a).State, l.Again)
	}
	if l := listing(t, c); l.Again != 0 {
		t.Errorf("again in %s, though the answer wakes", l.Again)
	}
	await(t, late)
	if l := listing(t, c); unread(c) != nil || !c.memory.fresh(a, c.known[a].read) || l.Again != 0 {
		t.Errorf("after it was left alone: %v, again in %s", unread(c), l.Again)
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
			f, a, c, woken, late := lateWorld(t, Options{})
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

// TestContainers_whatIsBehindIsReadAgain, even where nothing else asks for it.
func TestContainers_whatIsBehindIsReadAgain(t *testing.T) {
	f, a, c, _, _ := lateWorld(t, Options{})
	f.takeInspects()
	c.known[a].behind = true
	if l := listing(t, c); l.Again != 0 {
		t.Errorf("again in %s", l.Again)
	}
	inspected(t, f, "a×1")
}

// TestContainers_C97_thePatientAreTold, who do not look again, of what did not answer.
func TestContainers_C97_thePatientAreTold(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	f.hanging[f.add("a", "10000")] = true
	if l := listing(t, f.client(Options{Patient: true})); l.Failed["a"] == nil {
		t.Errorf("told %v", l.Failed)
	}
}

// TestContainers_aLateNotFoundIsNotNews: a container that is listed now and has started since is there.
func TestContainers_aLateNotFoundIsNotNews(t *testing.T) {
	t.Parallel()
	f, a, c, woken, late := lateWorld(t, Options{})
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

// passes looks whenever it is due, as the program does, and returns how often that was and what was told of
// containers that could not be read, each time that it changed.
func (f *fakeEngine) passes(c *Client, late <-chan struct{}, during time.Duration) (n int, told []string) {
	again := time.NewTimer(0)
	for until := time.After(during); ; n++ {
		select {
		case <-late:
			for len(late) > 0 {
				<-late
			}
		case <-again.C:
		case <-until:
			return n, told
		}
		l := listing(f.t, c)
		if again.Stop(); l.Again > 0 {
			again.Reset(l.Again)
		}
		now := fmt.Sprint(l.Failed)
		if len(told) == 0 && len(l.Failed) > 0 || len(told) > 0 && told[len(told)-1] != now {
			told = append(told, now)
		}
	}
}

// TestContainers_C91_oneTroubleIsToldOnce, by one name and with one reason, when an inspect's time is over.
func TestContainers_C91_oneTroubleIsToldOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		takes  time.Duration
		hang   bool
		status int
		want   string
	}{
		"hangs":                 {hang: true, want: "docker does not answer"},
		"fails, and takes long": {takes: tooLong, status: 500, want: `Error response from daemon: {"message":"no"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEngine(t)
			f.add("a", "10000")
			c, late := f.lateClient(Options{})
			woken := f.watch(c)
			looks(t, c, Unclear)
			b := f.add("b", "10001")
			f.with(func() { f.hanging[b], f.slow[b], f.failing[b] = tt.hang, tt.takes, tt.status })
			f.act(woken, b, nil, containerEvent(events.ActionStart, b))
			looks(t, c, Unclear)
			_, told := f.passes(c, late, 3*inspectTimeout)
			if want := "map[b:inspect container b: " + tt.want + "]"; len(told) != 1 || told[0] != want {
				t.Errorf("told %q, want %q", told, want)
			}
		})
	}
}

// TestContainers_C91_whatFailedAndHangsNow is told of still.
func TestContainers_C91_whatFailedAndHangsNow(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	f.failing[a] = 500
	f.watch(c)
	before := listing(t, c)
	f.with(func() { f.hanging[a] = true })
	time.Sleep(before.Again)
	if l := listing(t, c); l.Failed["a"] == nil || l.Failed["a"].Error() != before.Failed["a"].Error() {
		t.Errorf("told %v after %v", l.Failed, before.Failed)
	}
}

// TestContainers_C97_slowIsNoTrouble: what answers, be it late and behind many others, is not told of.
func TestContainers_C97_slowIsNoTrouble(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	for i := range 4 * inspectParallel {
		f.slow[f.add(fmt.Sprint("c", i), "10000")] = tooLong
	}
	c, late := f.lateClient(Options{})
	woken := f.watch(c)
	f.act(woken, "", nil, containerEvent(events.ActionUpdate, fmt.Sprintf("%064x", "c1")))
	if _, told := f.passes(c, late, 3*inspectTimeout); len(told) > 0 {
		t.Errorf("told %q", told)
	}
	if err := unread(c); err != nil {
		t.Error(err)
	}
}

// TestContainers_C97_slowOnesDoNotWakeEachOther for ever, where no events tell that there is nothing to read.
func TestContainers_C97_slowOnesDoNotWakeEachOther(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	for i := range 5 {
		f.slow[f.add(fmt.Sprint("c", i), "10000")] = tooLong + time.Duration(i)*150*time.Millisecond
	}
	c, late := f.lateClient(Options{})
	if n, _ := f.passes(c, late, blindFor-time.Second); n > 8 {
		t.Errorf("%d passes", n)
	}
}

// TestContainers_C101_aSlowOneIsNotPolled for its port: its answer wakes.
func TestContainers_C101_aSlowOneIsNotPolled(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "")
	c, _ := f.lateClient(Options{})
	woken := f.watch(c)
	listing(t, c)
	f.with(func() { f.slow[a] = tooLong })
	f.act(woken, a, nil, containerEvent(events.ActionUpdate, a))
	if l := listing(t, c); l.Again != 0 {
		t.Errorf("again in %s", l.Again)
	}
}

// TestContainers_C97_manyThatHang: those that answer are not kept waiting, neither in the first pass nor in the
// background, and there are few passes.
func TestContainers_C97_manyThatHang(t *testing.T) {
	t.Parallel()
	f, a, c, woken, late := lateWorld(t, Options{})
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
	if n, _ := f.passes(c, late, 2*inspectTimeout); n > 30 {
		t.Errorf("%d passes in %s", n, 2*inspectTimeout)
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

// TestContainers_C78_itsLineSaysThatItHasEnded, or is paused, while the inspect hangs.
func TestContainers_C78_itsLineSaysThatItHasEnded(t *testing.T) {
	paused := func(d *container.InspectResponse) { d.State.Status, d.State.Paused = "paused", true }
	for name, tt := range map[string]struct {
		do    func(*container.InspectResponse)
		event events.Action
		state service.State
		code  int
	}{
		"well":   {func(d *container.InspectResponse) { ends(d); d.State.ExitCode = 0 }, events.ActionDie, service.Exited, 0},
		"badly":  {ends, events.ActionDie, service.Exited, 1},
		"paused": {paused, events.ActionPause, service.Paused, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, a, c, woken, _ := lateWorld(t, Options{Exited: true})
			f.with(func() { f.hanging[a] = true })
			f.act(woken, a, tt.do, containerEvent(tt.event, a))
			if got := one(t, listing(t, c), a); got.State != tt.state || got.ExitCode != tt.code {
				t.Errorf("%s with code %d", got.State, got.ExitCode)
			}
		})
	}
}
