package docker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/go-connections/nat"

	"fairway/registrator/service"
)

// restart is what the engine's events say of one restart, in the order in which they happened.
type restart struct{ kill, die, start events.Message }

// restarts has a container that publishes 10000 end by SIGTERM and start with another host port.
func (f *fakeEngine) restarts(id string) restart {
	f.t.Helper()
	at := time.Now()
	f.change(id, func(d *container.InspectResponse) {
		d.State.StartedAt = at.UTC().Format(time.RFC3339Nano)
		d.NetworkSettings.Ports = nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: "20000"}}}
	})
	r := restart{
		kill:  containerEvent(events.ActionKill, id, "signal", "15"),
		die:   containerEvent(events.ActionDie, id, "exitCode", "143"),
		start: containerEvent(events.ActionStart, id),
	}
	r.kill.TimeNano = at.Add(-2 * time.Millisecond).UnixNano()
	r.die.TimeNano = at.Add(-time.Millisecond).UnixNano()
	r.start.TimeNano = at.Add(time.Millisecond).UnixNano()
	return r
}

// rowOf returns the row that a listing makes for the ID of the container called a.
func rowOf(l Listing) (row service.Registration) {
	opt := service.Defaults()
	opt.Node = service.Node{Name: "n", IPv4: netip.MustParseAddr("192.0.2.1")}
	for _, r := range service.Desired(l.Containers, opt).Registrations {
		if r.ID == "n:a:80" {
			row = r
		}
	}
	return row
}

// TestWatch_C86_theStartIsSeenFirst mixes up the events of a restart. From the start on the container runs,
// at its new port, whoever asks: a glance or a look.
func TestWatch_C86_theStartIsSeenFirst(t *testing.T) {
	for name, order := range map[string]func(restart) []events.Message{
		"start, die":       func(r restart) []events.Message { return []events.Message{r.start, r.die} },
		"kill, start, die": func(r restart) []events.Message { return []events.Message{r.kill, r.start, r.die} },
		"start, kill, die": func(r restart) []events.Message { return []events.Message{r.start, r.kill, r.die} },
		"start, die, kill": func(r restart) []events.Message { return []events.Message{r.start, r.die, r.kill} },
	} {
		for how, ask := range map[string]func(*testing.T, *Client) Listing{"glance": glances, "look": listing} {
			t.Run(name+"/"+how, func(t *testing.T) {
				f := newFakeEngine(t)
				a := f.add("a", "10000")
				c := f.client(Options{})
				woken := f.watch(c)
				looks(t, c, Unclear)
				started := false
				for _, m := range order(f.restarts(a)) {
					f.act(woken, a, nil, m)
					started = started || m.Action == events.ActionStart
					l := ask(t, c)
					if got := rowOf(l); started && (got.Status != service.Passing || got.Port != 20000) {
						t.Errorf("after %s: %+v", m.Action, got)
					}
				}
				f.act(woken, a, nil, containerEvent(events.ActionKill, a, "signal", "15"))
				if got := one(t, ask(t, c), a); !got.Stopping {
					t.Error("a signal to the new run counts no more")
				}
			})
		}
	}
}

// TestWatch_C86_ofAnotherContainer has the successor of a container start under its name, and tells of the
// end of the old one last.
func TestWatch_C86_ofAnotherContainer(t *testing.T) {
	f := newFakeEngine(t)
	old := f.add("a", "10000")
	c := f.client(Options{})
	woken := f.watch(c)
	looks(t, c, Unclear)

	successor := f.add("successor", "20000")
	f.change(successor, func(d *container.InspectResponse) { d.Name, d.Created = "/a", "2026-01-02T03:05:00Z" })
	f.act(woken, old, ends, containerEvent(events.ActionStart, successor))
	if got := rowOf(glances(t, c)); got.Status != service.Passing {
		t.Errorf("a glance at the start sees %+v", got)
	}
	if got := rowOf(listing(t, c)); got.Status != service.Passing || got.Port != 20000 {
		t.Errorf("the look after it sees %+v", got)
	}
	f.act(woken, old, nil, containerEvent(events.ActionDie, old))
	l := looks(t, c, Still) // nobody is known by that id any more
	if got := rowOf(l); got.Status != service.Passing || got.Port != 20000 || len(l.Containers) != 1 {
		t.Errorf("after the old one's end: %+v of %+v", got, l.Containers)
	}
}
