package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

func listing(t *testing.T, c *Client) Listing {
	t.Helper()
	ctx, over := context.WithCancel(t.Context()) // as that of a pass ends with it
	defer over()
	l, err := c.Containers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// unread says which containers' answers a client still waits for.
func unread(c *Client) error {
	var names []string
	for _, e := range c.known {
		if e.err != nil {
			names = append(names, fmt.Sprintf("%s: %v", e.container.Name, e.err))
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("unread: %q", names)
	}
	return nil
}

func one(t *testing.T, l Listing, id string) service.Container {
	t.Helper()
	for _, c := range l.Containers {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no container %s in %v", id, l.Containers)
	return service.Container{}
}

func inspected(t *testing.T, f *fakeEngine, want string) {
	t.Helper()
	if got := f.takeInspects(); got != want {
		t.Errorf("inspected %q, want %q", got, want)
	}
}

// TestContainers_inspectsOnlyWhatMayHaveChanged is the proof that reading less misses nothing.
func TestContainers_inspectsOnlyWhatMayHaveChanged(t *testing.T) {
	f := newFakeEngine(t)
	a, b := f.add("a", "10000"), f.add("b", "10001")
	c := f.client(Options{})

	listing(t, c)
	listing(t, c)
	inspected(t, f, "a×2 b×2") // as long as no events are followed, nothing is trusted

	woken := f.watch(c)
	listing(t, c)
	inspected(t, f, "a×1 b×1") // anything may have happened before the stream stood (C100)
	for range 5 {
		listing(t, c)
	}
	inspected(t, f, "")

	f.emit(containerEvent("health_status: healthy", a))
	await(t, woken)
	listing(t, c)
	inspected(t, f, "a×1")

	f.emit(events.Message{Type: events.NetworkEventType, Action: events.ActionConnect, Actor: events.Actor{ID: "n", Attributes: map[string]string{"container": b}}})
	await(t, woken)
	listing(t, c)
	inspected(t, f, "b×1")

	// An event was lost, but the listing shows what it would have told.
	f.change(a, func(c *container.InspectResponse) { c.State.Health = &container.Health{Status: container.Unhealthy} })
	if got := one(t, listing(t, c), a).Health; got != service.Unhealthy {
		t.Errorf("health %q", got)
	}
	inspected(t, f, "a×1")
	f.change(b, func(c *container.InspectResponse) { c.Name = "/c" })
	if got := one(t, listing(t, c), b).Name; got != "c" {
		t.Errorf("name %q", got)
	}
	inspected(t, f, "c×1")

	f.cut() // a new stream: nothing read before counts
	await(t, woken)
	await(t, woken)
	listing(t, c)
	inspected(t, f, "a×1 c×1")
}

// TestContainers_readsAhead answers the listing only when the container that an event named has been
// asked for. One that is only being started is not: the engine would not answer.
func TestContainers_readsAhead(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	listing(t, c)
	inspected(t, f, "a×1")

	b := f.add("b", "10001")
	for _, event := range []events.Message{
		containerEvent(events.ActionPause, a), // known
		{Type: events.NetworkEventType, Action: events.ActionConnect, Actor: events.Actor{ID: "n", Attributes: map[string]string{"container": b}}},
	} {
		f.emit(event)
		await(t, woken)
	}
	listAfter := func(asked string) {
		t.Helper()
		hold := make(chan struct{})
		f.with(func() { f.hold = hold })
		done := make(chan struct{})
		go func() { defer close(done); listing(t, c) }()
		deadline := time.Now().Add(5 * time.Second)
		for got := ""; got != asked; {
			got = strings.TrimSpace(got + " " + f.takeInspects())
			if time.Now().After(deadline) {
				t.Errorf("asked for %q while the listing was on its way, want %q", got, asked)
				break
			}
		}
		f.with(func() { f.hold = nil })
		close(hold)
		<-done
	}
	listAfter("a×1")
	inspected(t, f, "b×1") // since the listing shows it
	f.emit(containerEvent(events.ActionStart, b))
	await(t, woken)
	listAfter("b×1")
	inspected(t, f, "")

	f.with(func() { f.unlisted[b] = true }) // it ends while it is read
	f.emit(containerEvent(events.ActionPause, b))
	await(t, woken)
	if got := listing(t, c); len(got.Containers) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestContainers_inspectsAnewAfterMaxAge(t *testing.T) {
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{MaxAge: time.Nanosecond})
	f.watch(c)
	listing(t, c)
	listing(t, c)
	inspected(t, f, "a×2")
}

func TestContainers_anEventDuringTheReadMakesItStale(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	read := c.memory.stamp()
	listing(t, c)
	f.emit(containerEvent(events.ActionPause, a))
	await(t, woken)
	if c.memory.fresh(a, read) {
		t.Error("a read from before the event counts as fresh")
	}
}

func TestContainers_C91_inspectFails(t *testing.T) {
	f := newFakeEngine(t)
	a, b := f.add("a", "10000"), f.add("b", "10001")
	c := f.client(Options{})
	f.with(func() { f.failing[b] = http.StatusInternalServerError })
	woken := f.watch(c)

	l := listing(t, c)
	if got := one(t, l, b); got.State != service.Unknown || got.Name != "b" {
		t.Errorf("a container that was never read: %+v", got)
	}
	if got := one(t, l, a).State; got != service.Running {
		t.Errorf("the other container: %s", got)
	}
	if l.Failed["b"] == nil || len(l.Failed) != 1 || l.Again <= 0 || l.Again > failedRetryMin {
		t.Errorf("failed %v, again in %s", l.Failed, l.Again)
	}
	f.takeInspects()
	listing(t, c)
	inspected(t, f, "") // it waits before it asks again
	f.emit(containerEvent(events.ActionStart, b))
	await(t, woken)
	listing(t, c)
	inspected(t, f, "b×1") // unless something happens

	f.with(func() { delete(f.failing, b) })
	for deadline := time.Now().Add(5 * time.Second); len(l.Failed) > 0 && time.Now().Before(deadline); {
		l = listing(t, c)
	}
	if got := one(t, l, b).State; got != service.Running || len(l.Failed) != 0 {
		t.Errorf("after the trouble: %s, failed %v", got, l.Failed)
	}

	f.with(func() { f.failing[a] = http.StatusInternalServerError })
	f.emit(containerEvent(events.ActionUpdate, a))
	await(t, woken)
	l = listing(t, c)
	if got := one(t, l, a); got.State != service.Running || len(got.Ports) != 1 || l.Failed["a"] == nil {
		t.Errorf("what was known of it is not kept: %+v, failed %v", got, l.Failed)
	}
}

func TestContainers_goneBetweenListAndInspect(t *testing.T) {
	f := newFakeEngine(t)
	a, b := f.add("a", "10000"), f.add("b", "10001")
	c := f.client(Options{})
	f.with(func() { f.unlisted[a] = true })
	l := listing(t, c)
	if len(l.Containers) != 1 || l.Containers[0].ID != b || len(l.Failed) != 0 {
		t.Errorf("listed %v, failed %v", l.Containers, l.Failed)
	}
}

// TestContainers_C97_oneHangingInspectDoesNotStopTheOthers: they wait for it once, and not for its whole
// time; what it says at last is found.
func TestContainers_C97_oneHangingInspectDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a, b := f.add("a", "10000"), f.add("b", "10001")
	c := f.client(Options{})
	f.watch(c)
	f.with(func() { f.hanging[a] = true })
	started := time.Now()
	l := listing(t, c)
	if one(t, l, b).State != service.Running || one(t, l, a).State != service.Unknown || len(l.Failed) > 0 {
		t.Errorf("listed %v, failed %v", l.Containers, l.Failed)
	}
	if took := time.Since(started); took > inspectTimeout-time.Second {
		t.Errorf("the first took %s", took)
	}
	f.takeInspects()
	waited, told := time.Duration(0), 0
	for until := time.Now().Add(2 * inspectTimeout); time.Now().Before(until); time.Sleep(inspectTimeout / 8) {
		f.change(b, func(d *container.InspectResponse) { d.Name += "b" })
		f.cut() // so that all are read again
		started := time.Now()
		l = listing(t, c)
		waited += time.Since(started)
		if name := one(t, l, b).Name; !strings.HasSuffix(f.containers[b].Name, name) || l.Again > inspectTimeout {
			t.Errorf("b is called %s, again in %s", name, l.Again)
		}
		if err := l.Failed["a"]; err != nil && strings.Contains(err.Error(), "container a: docker does not answer") {
			told++
		} else if told > 0 {
			t.Errorf("it was told and is not any more, though it is as before: %v", err)
		}
	}
	if told == 0 {
		t.Error("nobody was told that it cannot be read")
	}
	if waited > inspectPatience {
		t.Errorf("those after it took %s", waited)
	}
	f.with(func() {
		if n := f.inspects["a"]; n > 3 {
			t.Errorf("a was asked for %d times in %s", n, 2*inspectTimeout)
		}
		f.hanging[a] = false
	})
	testbed.Eventually(t, 2*inspectTimeout, "a is read", func() error {
		l = listing(t, c)
		return unread(c)
	})
	if got := one(t, l, a).State; got != service.Running {
		t.Errorf("a is %s", got)
	}
}

// TestContainers_C97_aSlowContainerIsRead, whether events are followed or not, and though an inspect of it
// always takes longer than others wait.
func TestContainers_C97_aSlowContainerIsRead(t *testing.T) {
	for name, follow := range map[string]bool{"followed": true, "without a stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeEngine(t)
			a := f.add("a", "10000")
			f.slow[a] = tooLong
			c, late := f.lateClient(Options{})
			woken := make(<-chan struct{})
			if follow {
				woken = f.watch(c)
			}
			if l := listing(t, c); one(t, l, a).State != service.Unknown {
				t.Errorf("it is %s", one(t, l, a).State)
			}
			await(t, late)
			if l := listing(t, c); one(t, l, a).State != service.Running || unread(c) != nil {
				t.Errorf("its answer was there: %+v, %v", l, unread(c))
			}
			if follow {
				f.act(woken, a, nil, containerEvent(events.ActionUpdate, a))
			} else { // it is read in a while
				c.known[a].at = time.Now().Add(-blindFor)
			}
			started := time.Now()
			if l := listing(t, c); unread(c) == nil || len(l.Failed) > 0 || time.Since(started) >= inspectPatience {
				t.Errorf("it was waited for again, or told of: %v", l.Failed)
			}
			await(t, late)
		})
	}
}

// TestContainers_C97_anEventEndsTheWaitAfterAHang: what is tried again only in a while is read as soon as
// something happens to it.
func TestContainers_C97_anEventEndsTheWaitAfterAHang(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	f.with(func() { f.hanging[a] = true })
	listing(t, c)
	<-c.known[a].late.done // the engine will not say anything any more, and nobody has seen that yet
	c.known[a].retry = failedRetryMax
	f.with(func() { f.hanging[a] = false })
	f.act(woken, a, nil, containerEvent(events.ActionStart, a))
	testbed.Eventually(t, inspectTimeout, "it is read", func() error { listing(t, c); return unread(c) })
}

// TestContainers_C97_anEngineThatHangsIsNotStormed: it is asked for a few at a time, however many do not
// answer, and for all of them in the end.
func TestContainers_C97_anEngineThatHangsIsNotStormed(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	for i := range 5 * inspectParallel {
		f.hanging[f.add(fmt.Sprint("c", i), "10000")] = true
	}
	c := f.client(Options{})
	f.watch(c)
	listing(t, c)
	f.with(func() { f.mostAsked = 0 })
	for until := time.Now().Add(inspectTimeout); time.Now().Before(until); {
		listing(t, c)
		time.Sleep(failedRetryMin)
	}
	f.with(func() {
		if most := inspectParallel * (1 + len(c.lanes)); f.mostAsked > most {
			t.Errorf("%d inspects at once, want %d at most", f.mostAsked, most)
		}
		clear(f.hanging)
	})
	testbed.Eventually(t, 10*inspectTimeout, "all are read", func() error { listing(t, c); return unread(c) })
}

// TestContainers_aLateAnswerIsNotNews: what came late may be from before the container changed.
func TestContainers_aLateAnswerIsNotNews(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	listing(t, c)
	hold := make(chan struct{})
	f.with(func() { f.holdAnswer = hold })
	f.act(woken, a, func(d *container.InspectResponse) { d.Name = "/old" }, containerEvent(events.ActionRename, a))
	if l := listing(t, c); unread(c) == nil {
		t.Fatalf("read in time: %v", l.Containers)
	}
	f.with(func() { f.holdAnswer = nil })
	f.act(woken, a, func(d *container.InspectResponse) { d.Name = "/new" }, containerEvent(events.ActionRename, a))
	close(hold)
	testbed.Eventually(t, inspectTimeout, "its name", func() error {
		if name := one(t, listing(t, c), a).Name; name != "new" {
			if name == "old" {
				t.Error("it was called as it is not any more")
			}
			return errors.New(name)
		}
		return nil
	})
}

func TestContainers_aFailedListIsNoEmptyNode(t *testing.T) {
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{})
	listing(t, c)
	f.with(func() { f.down = true })
	if l, err := c.Containers(t.Context()); err == nil {
		t.Fatalf("listed %v", l.Containers)
	}
}

func TestContainers_C101_lookedAtAgainUntilBound(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "")
	c := f.client(Options{})
	f.watch(c)
	l := listing(t, c)
	if got := one(t, l, a).Ports[0].Bindings; len(got) != 1 || got[0].Port != 0 {
		t.Fatalf("bindings %v", got)
	}
	if l.Again <= 0 || l.Again > unboundRetry {
		t.Errorf("again in %s", l.Again)
	}
	f.change(a, func(c *container.InspectResponse) {
		c.NetworkSettings.Ports["80/tcp"] = []nat.PortBinding{{HostIP: "0.0.0.0", HostPort: "10000"}}
	})
	l = listing(t, c)
	if got := one(t, l, a).Ports[0].Bindings; len(got) != 1 || got[0].Port != 10000 || l.Again != 0 {
		t.Errorf("bindings %v, again in %s", got, l.Again)
	}

	// A network that publishes nothing leaves the port unbound for ever: that is not waited for.
	f.change(a, func(c *container.InspectResponse) {
		c.NetworkSettings.Ports["80/tcp"] = nil
		c.State.StartedAt = time.Now().Add(-unboundFor).UTC().Format(time.RFC3339Nano)
	})
	f.cut()
	l = listing(t, c)
	if l.Again != 0 {
		t.Errorf("still waiting after %s, again in %s", unboundFor, l.Again)
	}
}

func TestContainers_C110_theMeshIsKnownByWhatItIs(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	f.networks = []network.Summary{{ID: "mesh", Name: "my-mesh", Ingress: true}, {ID: "n1", Name: "bridge"}}
	f.change(a, func(c *container.InspectResponse) {
		c.Config.Labels = map[string]string{taskID: "t", "com.docker.swarm.service.name": "stack_web"}
		c.NetworkSettings.Networks["my-mesh"] = &network.EndpointSettings{NetworkID: "mesh", IPAddress: "10.0.0.3"}
	})
	got := one(t, listing(t, f.client(Options{})), a)
	if len(got.Networks) != 2 || got.Networks[0].Ingress || !got.Networks[1].Ingress {
		t.Errorf("networks %+v", got.Networks)
	}
	if got.Task.ID != "t" || got.Task.ServiceName != "stack_web" {
		t.Errorf("task %+v", got.Task)
	}
}

// TestContainers_aNetworkWithoutWords: engines that are only like Docker answer null where Docker never does.
func TestContainers_aNetworkWithoutWords(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	f.change(a, func(doc *container.InspectResponse) {
		doc.Config.Labels = map[string]string{taskID: "t1"}
		doc.NetworkSettings.Networks = map[string]*network.EndpointSettings{"x": nil}
	})
	if got := one(t, listing(t, f.client(Options{})), a); got.State != service.Running || len(got.Networks) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestContainers_forgetsCommandsOfContainersThatAreGone: a node that lives for months sees many.
func TestContainers_forgetsCommandsOfContainersThatAreGone(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	c.giveUp(a+"\x00hang", "exec1")
	c.giveUp("gone\x00hang", "exec2")
	listing(t, c)
	if len(c.unfinished.ids) != 1 || c.unfinished.ids[a+"\x00hang"] == "" {
		t.Errorf("remembered: %v", c.unfinished.ids)
	}
}
