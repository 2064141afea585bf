package docker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// lookBack is how far before its start a Watch asks for past events. The engine remembers the
// last few hundred, so a registrator that was restarted in the middle of a `docker stop` still
// learns of the signal.
const lookBack = 3 * time.Minute

// WatchOptions tell how a Watch reports on itself.
type WatchOptions struct {
	Connected func()                                 // the event stream stands
	Failed    func(err error, retryIn time.Duration) // it was cut, or could not be opened
	RetryMin  time.Duration                          // first delay before connecting again; 100 ms when zero
	RetryMax  time.Duration                          // longest delay; 10 s when zero

	// Swarm is called for every change of the Swarm's services and nodes, of which only a manager is
	// told, and for every connection made; nil for no one.
	Swarm func()
}

// Watch follows the engine's events until ctx ends and calls wake for each that can change a
// registration, and for every connection made, because anything may have happened before it.
// A cut stream is opened again from the last event seen.
func (c *Client) Watch(ctx context.Context, opt WatchOptions, wake func()) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, 10*time.Second
	if opt.RetryMin > 0 {
		retry.InitialInterval = opt.RetryMin
	}
	if opt.RetryMax > 0 {
		retry.MaxInterval = opt.RetryMax
	}
	retry.Reset()
	s := stream{client: c, since: time.Now().Add(-lookBack), wake: wake, swarm: opt.Swarm}
	if s.swarm == nil {
		s.swarm = func() {}
	}
	for {
		err := s.follow(ctx, func() {
			retry.Reset()
			if opt.Connected != nil {
				opt.Connected()
			}
			s.swarm()
		})
		c.memory.disconnected()
		if ctx.Err() != nil {
			return
		}
		delay := retry.NextBackOff()
		if opt.Failed != nil {
			opt.Failed(err, delay)
		}
		wake() // Containers must notice that the engine is away, or trust its memory no longer
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		if engine, err := c.dial(); err == nil { // it did succeed in New; only the certificates can have changed
			old := c.engine.Swap(engine)
			_ = old.Close() // closes idle connections, and never fails
		}
	}
}

// stream is one engine's events across connections.
type stream struct {
	client *Client
	since  time.Time
	wake   func()
	swarm  func()
}

// follow opens the stream once and reads it until it ends, which is always an error.
func (s *stream) follow(ctx context.Context, connected func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	engine := s.client.engine.Load()
	if err := reach(ctx, engine); err != nil {
		return err
	}
	messages, errs := engine.Events(ctx, events.ListOptions{
		Since:   sinceParameter(s.since),
		Filters: filter(),
	})
	// Events returns when the engine has answered, or with the error already in errs.
	select {
	case err := <-errs:
		return fmt.Errorf("follow docker's events: %w", err)
	default:
	}
	s.client.memory.connected()
	connected()
	s.wake()
	for {
		select {
		case m := <-messages:
			s.event(m)
		case err := <-errs:
			return fmt.Errorf("follow docker's events: %w", err)
		}
	}
}

// reach fails within the request timeout where the engine hangs; the event stream itself has none.
// It is also what settles the API version before Events reads it: Docker's client does so without
// its own lock.
func reach(ctx context.Context, engine *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := engine.ServerVersion(ctx); err != nil {
		return fmt.Errorf("reach docker: %w", err)
	}
	return nil
}

// event notes what an event says of its container, then wakes. The order matters: whoever is
// woken must find the note.
func (s *stream) event(m events.Message) {
	at := time.Unix(0, m.TimeNano)
	if at.After(s.since) {
		s.since = at
	}
	id := m.Actor.ID
	switch {
	case m.Type == events.ServiceEventType || m.Type == events.NodeEventType:
		s.swarm()
		return
	case m.Type == events.NetworkEventType:
		id = m.Actor.Attributes["container"]
	case m.Action == events.ActionCreate:
		return // only the creation of services is of interest: a container is, once it starts
	}
	if id == "" {
		return
	}
	memory := s.client.memory
	if m.Type == events.ContainerEventType {
		switch m.Action {
		case events.ActionKill:
			if n, err := strconv.Atoi(m.Actor.Attributes["signal"]); err == nil {
				memory.kill(id, n, at)
			}
		case events.ActionDie:
			memory.ended(id, at)
		case events.ActionStart:
			memory.started(id)
		case events.ActionDestroy:
			memory.removed(id)
			s.wake()
			return
		}
	}
	memory.change(id)
	s.wake()
}

// filter asks for the events that can change a registration and for no others: a health check
// by exec alone makes three a probe.
func filter() filters.Args {
	args := filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("type", string(events.NetworkEventType)),
		filters.Arg("type", string(events.ServiceEventType)),
		filters.Arg("type", string(events.NodeEventType)),
	)
	for _, a := range []events.Action{
		events.ActionStart, events.ActionDie, events.ActionKill, events.ActionDestroy,
		events.ActionPause, events.ActionUnPause, events.ActionRename, events.ActionUpdate,
		events.ActionHealthStatus, events.ActionConnect, events.ActionDisconnect,
		events.ActionCreate, events.ActionRemove, // of services; and events.ActionUpdate
	} {
		args.Add("event", string(a))
	}
	return args
}

// sinceParameter writes a time as the engine reads it. An event at exactly that time is sent
// again, which is harmless: notes are facts, and wakes merge.
func sinceParameter(t time.Time) string {
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}
