package docker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// glances wants a glance that is clear, and returns it.
func glances(t *testing.T, c *Client) Listing {
	t.Helper()
	ctx, over := context.WithCancel(t.Context())
	defer over()
	l, sight := c.Glance(ctx)
	if sight != Clear {
		t.Fatalf("a glance is %d", sight)
	}
	if l.Again == 0 || l.Again > GlanceThen {
		t.Errorf("a glance asks to look again after %s", l.Again)
	}
	return l
}

// looks wants a glance not to be clear, and a listing in its place.
func looks(t *testing.T, c *Client, want Sight) Listing {
	t.Helper()
	ctx, over := context.WithCancel(t.Context())
	defer over()
	if l, sight := c.Glance(ctx); sight != want {
		t.Errorf("a glance is %d, want %d: %+v", sight, want, l)
	}
	return listing(t, c)
}

// act does something to the world, tells of it, and waits until it has been heard.
func (f *fakeEngine) act(woken <-chan struct{}, id string, do func(*container.InspectResponse), event events.Message) {
	f.t.Helper()
	if do != nil {
		f.change(id, do)
	}
	f.emit(event)
	await(f.t, woken)
}

func ends(d *container.InspectResponse) {
	d.State.Status, d.State.Running, d.State.ExitCode = "exited", false, 1
}

func TestGlance_asksForNothingElse(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear) // the first is always a listing
	inspected(t, f, "a×1")

	b := f.add("b", "10001")
	f.act(woken, b, nil, containerEvent(events.ActionStart, b))
	lists := f.lists
	if got := glances(t, c); len(got.Containers) != 2 || one(t, got, b).State != service.Running {
		t.Errorf("b starts: %+v", got.Containers)
	}
	inspected(t, f, "b×1")
	f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", "15"))
	if got := glances(t, c); !one(t, got, a).Stopping || one(t, got, b).Stopping {
		t.Errorf("a is told to stop: %+v", got.Containers)
	}
	f.act(woken, a, ends, containerEvent(events.ActionDie, a))
	if got := glances(t, c); len(got.Containers) != 1 {
		t.Errorf("a has ended: %+v", got.Containers)
	}
	f.act(woken, b, func(d *container.InspectResponse) { d.Name = "/c" }, containerEvent(events.ActionRename, b))
	if got := glances(t, c); one(t, got, b).Name != "c" {
		t.Errorf("b is called c: %+v", got.Containers)
	}
	if f.lists != lists {
		t.Errorf("%d listings for four glances", f.lists-lists)
	}
	f.takeInspects()
	f.with(func() { delete(f.containers, a) })
	if got := looks(t, c, Still); len(got.Containers) != 1 { // nothing has happened
		t.Errorf("%+v", got.Containers)
	}
	inspected(t, f, "c×1") // the listing says more than an inspect: what it said then was not known
	looks(t, c, Still)
	inspected(t, f, "")
}

func TestGlance_C78_whatHasEndedIsKnown(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{Exited: true})
	woken := f.watch(c)
	looks(t, c, Unclear)
	f.act(woken, a, ends, containerEvent(events.ActionDie, a))
	if got := one(t, glances(t, c), a); got.State != service.Exited || got.ExitCode != 1 {
		t.Errorf("%+v", got)
	}
}

// TestGlance_C97_nothingHoldsItForEver: what it asks for beside the inspect has a deadline, too.
func TestGlance_C97_nothingHoldsItForEver(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	f.add("a", "10000")
	f.imagesHang = true
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	b := f.add("b", "10001")
	f.act(woken, b, func(doc *container.InspectResponse) {
		doc.Config.Image, doc.Image = "cafe", "sha256:cafe" // a name that may be an id: its tags are asked for
	}, containerEvent(events.ActionStart, b))
	ctx, cancel := context.WithTimeout(t.Context(), 10*inspectTimeout)
	defer cancel()
	if l, sight := c.Glance(ctx); sight != Unclear || ctx.Err() != nil {
		t.Errorf("a glance at a container whose image cannot be read is %d: %+v; %v", sight, l, ctx.Err())
	}
}

// TestGlance_C97_aLateAnswerIsWaitedForOnce: neither by the listing that follows, nor is it lost.
func TestGlance_C97_aLateAnswerIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	f := newFakeEngine(t)
	f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	hold := make(chan struct{})
	f.with(func() { f.holdAnswer = hold })
	b := f.add("b", "10001")
	f.act(woken, b, nil, containerEvent(events.ActionStart, b))
	f.takeInspects()
	if l := looks(t, c, Unclear); one(t, l, b).Name != "b" || one(t, l, b).State != service.Unknown || unread(c) == nil {
		t.Errorf("while it does not answer: %+v", l)
	}
	close(hold)
	testbed.Eventually(t, inspectTimeout, "what it says", func() error {
		if l := listing(t, c); one(t, l, b).State != service.Running {
			return unread(c)
		}
		return nil
	})
	inspected(t, f, "b×1")
}

// TestGlance_whenItMayNotBeAll lists where an event need not tell everything.
func TestGlance_whenItMayNotBeAll(t *testing.T) {
	started := func(f *fakeEngine, woken chan struct{}, c *Client) {
		f.act(woken, "", nil, containerEvent(events.ActionStart, f.add("b", "10001")))
	}
	id := func(name string) string { return fmt.Sprintf("%064x", name) }
	for name, tt := range map[string]struct {
		want   Sight
		before func(f *fakeEngine, woken chan struct{}, c *Client)
	}{
		"nothing happened": {Still, func(f *fakeEngine, _ chan struct{}, _ *Client) { f.add("b", "10001") }},
		"the stream was cut": {Unclear, func(f *fakeEngine, woken chan struct{}, c *Client) {
			f.cut()
			await(t, woken)
			await(t, woken)
			started(f, woken, c)
		}},
		"a container was removed": {Unclear, func(f *fakeEngine, woken chan struct{}, c *Client) {
			started(f, woken, c)
			f.act(woken, "", nil, containerEvent(events.ActionDestroy, id("gone")))
		}},
		"too many changed": {Unclear, func(f *fakeEngine, woken chan struct{}, c *Client) {
			started(f, woken, c)
			for i := range inspectParallel {
				f.act(woken, "", nil, containerEvent(events.ActionStart, id(fmt.Sprintf("b%d", i))))
			}
		}},
		"glances went on for long": {Unclear, func(f *fakeEngine, woken chan struct{}, c *Client) {
			started(f, woken, c)
			glances(t, c)
			f.act(woken, "", nil, containerEvent(events.ActionPause, id("b")))
			glances(t, c)
			f.act(woken, "", nil, containerEvent(events.ActionUnPause, id("b")))
			c.glances = time.Now().Add(-2 * glanceFor)
		}},
		"one is only about to start": {Still, func(f *fakeEngine, woken chan struct{}, _ *Client) {
			f.emit(events.Message{Type: events.NetworkEventType, Action: events.ActionConnect, Actor: events.Actor{ID: "n", Attributes: map[string]string{"container": f.add("b", "10001")}}})
			await(t, woken)
		}},
		"a task with a network that is new": {Unclear, func(f *fakeEngine, woken chan struct{}, _ *Client) {
			b := f.add("b", "10001")
			f.with(func() { f.networks = []network.Summary{{ID: "n1"}, {ID: "n2"}} })
			f.act(woken, b, func(d *container.InspectResponse) {
				d.Config.Labels = map[string]string{taskID: "t"}
				d.NetworkSettings.Networks["mesh"] = &network.EndpointSettings{NetworkID: "n2", IPAddress: "10.0.0.3"}
			}, containerEvent(events.ActionStart, b))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeEngine(t)
			f.add("a", "10000")
			c := f.client(Options{})
			woken := f.watch(c)
			looks(t, c, Unclear)
			tt.before(f, woken, c)
			if got := looks(t, c, tt.want); one(t, got, id("b")).State != service.Running || len(got.Failed) != 0 {
				t.Errorf("%+v", got)
			}
			f.act(woken, "", nil, containerEvent(events.ActionPause, id("b")))
			glances(t, c) // since it has been listed
		})
	}
}

func TestGlance_C91_inspectFails(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	f.with(func() { f.failing[a] = 500 })
	f.act(woken, "", nil, containerEvent(events.ActionPause, a))
	got := glances(t, c)
	if len(got.Failed) != 1 || one(t, got, a).State != service.Running {
		t.Errorf("%+v", got)
	}
	f.with(func() { clear(f.failing) })
	f.act(woken, a, func(d *container.InspectResponse) { d.State.Status, d.State.Paused = "paused", true }, containerEvent(events.ActionPause, a))
	if got := glances(t, c); len(got.Failed) != 0 || one(t, got, a).State != service.Paused {
		t.Errorf("%+v", got)
	}
}

// A container that nobody has read yet and that cannot be read is for the listing to tell of.
func TestGlance_C91_ofANewContainer(t *testing.T) {
	f := newFakeEngine(t)
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)
	a := f.add("a", "10000")
	f.with(func() { f.failing[a] = 500 })
	f.act(woken, "", nil, containerEvent(events.ActionStart, a))
	if got := looks(t, c, Unclear); one(t, got, a).State != service.Unknown || got.Failed["a"] == nil {
		t.Errorf("%+v", got)
	}
}

// TestGlance_C81_whatEndsMeanwhile has one of two that are stopping end while the other is read: it must
// not seem to run again.
func TestGlance_C81_whatEndsMeanwhile(t *testing.T) {
	for _, event := range []events.Action{events.ActionDie, events.ActionDestroy} {
		f := newFakeEngine(t)
		a, b := f.add("a", "10000"), f.add("b", "10001")
		c := f.client(Options{})
		woken := f.watch(c)
		looks(t, c, Unclear)
		for _, id := range []string{a, b} {
			f.act(woken, "", nil, containerEvent(events.ActionKill, id, "signal", "15"))
		}
		glances(t, c)
		f.act(woken, a, ends, containerEvent(events.ActionDie, a))
		hold := make(chan struct{})
		f.with(func() { f.holdInspect = hold })
		seen := make(chan Listing, 1)
		go func() { l, _ := c.Glance(t.Context()); seen <- l }()
		f.act(woken, b, ends, containerEvent(event, b))
		close(hold)
		for _, running := range (<-seen).Containers {
			if running.State == service.Running && !running.Stopping {
				t.Errorf("after %s a container that has ended seems to run: %+v", event, running)
			}
		}
	}
}

// TestGlance_isWhatAListingSays lets a random world go by, and holds each glance, and each listing
// after some, against somebody who looks for the first time.
func TestGlance_isWhatAListingSays(t *testing.T) {
	for _, exited := range []bool{false, true} {
		f := newFakeEngine(t)
		c := f.client(Options{Exited: exited})
		woken := f.watch(c)
		listing(t, c)
		random := rand.New(rand.NewPCG(1, 2))
		seen, n := 0, 0
		for range 300 {
			for range 1 + random.IntN(3) {
				f.something(woken, random, &n)
			}
			c.glances = time.Time{} // the clock stands still
			got, sight := c.Glance(t.Context())
			ok := sight == Clear
			if ok {
				seen++
			}
			if !ok || random.IntN(3) == 0 {
				got = listing(t, c)
			}
			want := listing(t, f.client(Options{Exited: exited}))
			if diff := cmp.Diff(want.Containers, got.Containers, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Fatalf("exited=%t, clear=%t (-a first look +this one):\n%s", exited, ok, diff)
			}
		}
		if seen < 100 {
			t.Errorf("only %d of 300 glances were clear", seen)
		}
	}
}

// something happens to a container, of which events tell.
func (f *fakeEngine) something(woken <-chan struct{}, random *rand.Rand, n *int) {
	var ids []string
	for id := range f.containers {
		ids = append(ids, id)
	}
	if len(ids) < 3 {
		*n++
		id := f.add(fmt.Sprintf("c%d", *n), "10000")
		f.act(woken, "", nil, containerEvent(events.ActionStart, id))
		return
	}
	id := ids[random.IntN(len(ids))]
	running := f.containers[id].State.Running
	status := func(to string) func(*container.InspectResponse) {
		return func(d *container.InspectResponse) { d.State.Status = to }
	}
	switch what := random.IntN(6); {
	case !running && what < 3:
		f.act(woken, id, func(d *container.InspectResponse) { d.State.Status, d.State.Running = "running", true }, containerEvent(events.ActionStart, id))
	case !running:
		f.with(func() { delete(f.containers, id) })
		f.act(woken, "", nil, containerEvent(events.ActionDestroy, id))
	case what < 2:
		f.act(woken, id, ends, containerEvent(events.ActionDie, id))
	case what == 2:
		f.act(woken, id, status("paused"), containerEvent(events.ActionPause, id))
	case what == 3:
		f.act(woken, id, status("running"), containerEvent(events.ActionUnPause, id))
	case what == 4:
		*n++
		f.act(woken, id, func(d *container.InspectResponse) { d.Name = fmt.Sprintf("/r%d", *n) }, containerEvent(events.ActionRename, id))
	default:
		f.act(woken, id, func(d *container.InspectResponse) {
			d.NetworkSettings.Networks = map[string]*network.EndpointSettings{"bridge": {NetworkID: "n1", IPAddress: "172.17.0." + strings.TrimLeft(fmt.Sprint(random.IntN(200)+2), "0")}}
		}, events.Message{Type: events.NetworkEventType, Action: events.ActionConnect, Actor: events.Actor{ID: "n", Attributes: map[string]string{"container": id}}})
	}
}
