package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"fairway/registrator/service"
)

const (
	// unboundFor is how long after its start a container's port may stay unbound before nobody
	// waits for it any more: networks that publish nothing leave it so for ever.
	unboundFor   = 30 * time.Second
	unboundRetry = 50 * time.Millisecond

	// blindFor is how old what is known of a slow container may be while no events are followed.
	blindFor = 10 * time.Second

	failedRetryMin = 250 * time.Millisecond
	failedRetryMax = 30 * time.Second
)

// Listing is what runs on this node at one moment.
type Listing struct {
	Containers []service.Container // sorted by id

	// Failed says of which containers nothing new could be learned, and why, by name; not of one whose
	// answer is only late. One that was read before is in Containers as it was last known; one that never
	// was is there in state Unknown: it exists, and whatever is registered for it must stay.
	Failed map[string]error

	// Again asks to look again after this long even when nothing wakes: a port is not bound yet,
	// a container outlives its stop signal, an inspect is due to be tried again. Zero for never.
	Again time.Duration
}

// entry is one container as it was last read.
type entry struct {
	read      stamp
	at        time.Time
	summary   string // what the listing said of it then
	container service.Container

	listed  bool // in that state the engine lists it
	run     run
	unbound bool

	late      *reading // one that did not answer in time, and may yet
	pace      pace
	overtaken bool // the last late answer was not the newest any more
	behind    bool // and the last that was taken was not, either

	err     error         // why nothing is known that is newer
	failed  bool          // an inspect has ended with it: it is more than late
	retry   time.Duration // before it is tried again unless something hints at a change
	retryAt time.Time
}

// Containers lists what runs on this node, and what has ended where Options.Exited asks for it.
// The listing itself is read every time; a container is inspected only when it is new, an event
// named it, its line in the listing changed, or its age demands it. An error means that nothing
// is known of any container.
func (c *Client) Containers(ctx context.Context) (Listing, error) {
	read, hot := c.memory.list() // before the listing: what happens from here on makes it stale
	ahead := c.readAhead(hot)
	summaries, err := c.list(ctx)
	if err != nil {
		return Listing{}, err
	}
	known := make(map[string]*entry, len(summaries))
	var due []container.Summary
	now := time.Now()
	for _, s := range summaries {
		e := c.known[s.ID]
		if e == nil {
			e = &entry{container: service.Container{ID: s.ID, State: service.Unknown}}
		}
		if e.container.State == service.Unknown {
			e.container.Name = displayName(s)
		}
		known[s.ID] = e
		e.notice(s)
		if c.isDue(e, s, now) {
			due = append(due, s)
		}
	}
	c.known, c.listed, c.glances = known, read, time.Time{} // containers that are no longer listed are forgotten here
	listed := func(id string) bool { return known[id] != nil }
	c.unfinished.forget(listed)
	c.memory.forgetKilled(listed, now)
	if err := c.inspectAll(ctx, due, ahead, read); err != nil {
		return Listing{}, err
	}
	return c.listing(time.Now()), nil
}

func (c *Client) list(ctx context.Context) ([]container.Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := c.engine.Load().ContainerList(ctx, container.ListOptions{All: c.opt.Exited})
	if err != nil {
		return nil, fmt.Errorf("list docker's containers: %w", err)
	}
	return list, nil
}

func (c *Client) isDue(e *entry, s container.Summary, now time.Time) bool {
	if !c.memory.fresh(s.ID, e.read) {
		// Without events all are read at every look, but for those whose end wakes the next.
		blind := e.pace != prompt && !c.memory.changedSince(s.ID, e.read)
		if !blind || e.err == nil && now.Sub(e.at) >= blindFor {
			return true
		}
	}
	switch {
	case e.late != nil:
		return e.late.over()
	case e.err != nil:
		return !now.Before(e.retryAt)
	case e.behind:
		return true
	}
	aged := c.opt.MaxAge > 0 && now.Sub(e.at) >= c.opt.MaxAge
	return aged || e.summary != fingerprint(s) || e.unbound && now.Sub(e.run.started) < unboundFor
}

// notice takes it from the listing that a container does not run, which no inspect has told yet and one
// that hangs will not.
func (e *entry) notice(s container.Summary) {
	if e.late != nil && e.late.line == "" {
		e.late.line = fingerprint(s)
	}
	state, known := service.State(s.State), e.container.State
	switch state {
	case service.Paused, service.Restarting, service.Exited, service.Removing, service.Dead:
	default:
		return
	}
	if !alive(known) || state == known {
		return
	}
	e.container.State, e.container.ExitCode = state, -1
	if i := strings.IndexByte(s.Status, '('); i >= 0 { // "Exited (1) 5 seconds ago"
		code, _, _ := strings.Cut(s.Status[i+1:], ")")
		if n, err := strconv.Atoi(code); err == nil {
			e.container.ExitCode = n
		}
	}
}

// inspectAll reads the containers that are due, a few at a time. What fails is noted in the
// container's entry; only the end of ctx is an error.
func (c *Client) inspectAll(ctx context.Context, due []container.Summary, ahead ahead, read stamp) error {
	if err := c.learnNetworks(ctx, due); err != nil {
		return err
	}
	var gone sync.Map
	var hurry hurry
	var group errgroup.Group
	group.SetLimit(inspectParallel)
	for _, s := range due {
		e := c.known[s.ID]
		group.Go(func() error {
			r, err := c.inspect(ctx, e, ahead, fingerprint(s), &hurry)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errdefs.IsNotFound(err):
				gone.Store(s.ID, true) // it ended between the listing and here
			case err != nil:
				e.fail(err, read)
			default:
				c.take(e, r)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("inspect docker's containers: %w", err)
	}
	maps.DeleteFunc(c.known, func(id string, _ *entry) bool { _, yes := gone.Load(id); return yes })
	return nil
}

// fail keeps what was last known and puts the next try off, longer each time; one that is under way wakes
// who gave it up. What is told of a container stays until it has been read.
func (e *entry) fail(err error, read stamp) {
	if e.read = read; e.late != nil {
		e.err = cmp.Or(e.err, err)
		return
	}
	e.err, e.failed = err, true
	e.retry = min(max(2*e.retry, failedRetryMin), failedRetryMax)
	e.retryAt = time.Now().Add(e.retry)
}

// take brings an entry up to date with what was read of its container.
func (c *Client) take(e *entry, r *reading) {
	e.container = convert(r.doc, c.ingress)
	e.container.RepoTags = r.tags
	if c.opt.KeepInspect {
		e.container.Inspect = r.doc
	}
	e.listed = c.opt.Exited || r.doc.State.Running
	e.run.stopSignal, e.run.stopTimeout = stopSettings(r.doc.Config)
	e.run.read, e.run.started = r.begun, parseTime(r.doc.State.StartedAt)
	e.unbound = unbound(e.container)
	e.read, e.at, e.summary, e.err, e.failed, e.retry = r.begun, time.Now(), r.line, nil, false, 0
}

// learnNetworks finds out which networks are Swarm's routing mesh, which may bear any name. Only
// a network never seen before costs a request, and only where a Swarm task is attached to it:
// nothing else ever is on the mesh.
func (c *Client) learnNetworks(ctx context.Context, due []container.Summary) error {
	var unknown bool
	for _, s := range due {
		if s.NetworkSettings == nil || s.Labels[taskID] == "" {
			continue
		}
		for _, n := range s.NetworkSettings.Networks {
			if n != nil {
				_, seen := c.ingress[n.NetworkID]
				unknown = unknown || !seen
			}
		}
	}
	if !unknown {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := c.engine.Load().NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return fmt.Errorf("list docker's networks: %w", err)
	}
	clear(c.ingress)
	for _, n := range list {
		c.ingress[n.ID] = n.Ingress
	}
	return nil
}

// listing puts together what is known, fresh or not.
func (c *Client) listing(now time.Time) Listing {
	l := Listing{Containers: make([]service.Container, 0, len(c.known)), Failed: map[string]error{}}
	for _, id := range slices.Sorted(maps.Keys(c.known)) {
		e := c.known[id]
		c.note(&l, e, now)
		running := e.container
		if until, yes := c.memory.stopping(id, e.run, now); yes && alive(running.State) {
			running.Stopping = true
			if !until.IsZero() {
				l.lookAgain(until.Sub(now))
			}
		}
		l.Containers = append(l.Containers, running)
	}
	return l
}

// note says of an entry what could not be learned, and when to look again. The end of a reading that is
// late wakes.
func (c *Client) note(l *Listing, e *entry, now time.Time) {
	switch {
	case e.err == nil && e.behind:
		l.lookAgain(slowPatience)
	case e.err == nil && e.unbound && now.Sub(e.run.started) < unboundFor:
		l.lookAgain(unboundRetry)
	case e.err != nil && e.late == nil:
		l.lookAgain(e.retryAt.Sub(now))
	}
	if e.failed || e.err != nil && c.opt.Patient {
		l.Failed[e.container.Name] = fmt.Errorf("inspect container %s: %w", e.container.Name, e.err)
	}
}

// lookAgain asks to look again after d at the latest.
func (l *Listing) lookAgain(d time.Duration) {
	if d = max(d, time.Millisecond); l.Again == 0 || d < l.Again {
		l.Again = d
	}
}

func alive(s service.State) bool { return s == service.Running || s == service.Paused }

// fingerprint is all that a line of the listing says that can matter, without the words that
// change with time ("Up 5 minutes").
func fingerprint(s container.Summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %s", s.State, s.Names, s.HostConfig.NetworkMode)
	for status := s.Status; ; { // "Exited (1) 5 seconds ago", "Up 2 hours (healthy)"
		_, rest, found := strings.Cut(status, "(")
		if !found {
			break
		}
		inner, rest, _ := strings.Cut(rest, ")")
		fmt.Fprintf(&b, " (%s)", inner)
		status = rest
	}
	ports := make([]string, 0, len(s.Ports))
	for _, p := range s.Ports {
		ports = append(ports, fmt.Sprintf("%s:%d:%d/%s", p.IP, p.PublicPort, p.PrivatePort, p.Type))
	}
	slices.Sort(ports)
	fmt.Fprintf(&b, " %q", ports)
	if s.NetworkSettings != nil {
		for _, name := range slices.Sorted(maps.Keys(s.NetworkSettings.Networks)) {
			if n := s.NetworkSettings.Networks[name]; n != nil {
				fmt.Fprintf(&b, " %s=%s/%s/%s/%d", name, n.NetworkID, n.IPAddress, n.GlobalIPv6Address, n.GwPriority)
			}
		}
	}
	return b.String()
}

// displayName is how a person calls a container.
func displayName(s container.Summary) string {
	for _, n := range s.Names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") { // others are legacy link aliases
			return n
		}
	}
	return s.ID
}
