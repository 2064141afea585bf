// Package watch follows Consul's catalog and holds the latest complete snapshot of the services
// that carry routing keys.
//
// # Few connections, however many services
//
// A blocking query for each service (Direct) tells of a change soonest: its answer is the change.
// It costs one connection each, so that it is for a few services only: at 1,000 services Consul's
// default limit of 200 connections refuses the rest. Where Consul speaks HTTP/2, as its HTTPS
// listener does, one connection carries 250 of them (HTTP2), which is good for hundreds.
//
// For any number (Aggregate), long polls see every change instead:
//
//   - catalog/services: every change of an instance's definition; its answer names services only;
//   - health/state/any: every check change; its rows name the service and carry an index;
//   - catalog/nodes: every change of a node's address;
//   - kv/fairway/changed/: the names of the services that registrators have changed (hints.go);
//   - kv/fairway/override/: what operators set live, which is all in the answer.
//
// The mode follows from the number of services and from what the connections can carry. Direct and
// HTTP2 need the first poll for the names of services, and the last.
//
// The first four only mark services as dirty. Dirty services are read with health/service/X, which gives
// instances and checks of one moment, over the connections the polls leave free. Measured with
// Consul 1.19 on two cores:
//
//	                              1,000 × 3 instances   5,000 × 10 instances, 100 nodes
//	catalog/services              3 ms      19 KB       20 ms     0.1 MB
//	health/state/any              12 ms    1.4 MB      240 ms      24 MB
//	… filter=Status!="passing"     2 ms      2 B        40 ms       2 B
//	health/service/X              0.4 ms    1–17 KB
//	catalog/node-services/N        1 ms     20 KB        6 ms     360 KB
//	… filter=ID==""              0.5 ms                  1.7 ms    (its index alone)
//	internal/ui/nodes (all)       56 ms    4.3 MB      730 ms      72 MB
//
// So up to narrowAbove checks the rows of health/state/any name what is dirty: one request, then
// one for each dirty service. Above it, and with more services than that from the start, only rows
// that are not passing are asked for, and what they do not name is found by the sweep.
//
// # Which services carry routing keys
//
// catalog/services answers with tags but no meta. A filter on it can test for one given meta key
// but not for a prefix, and named routes make the keys unknowable (fairway-api-host). So each
// service is read once on first sight, and one without routing keys is then remembered by name
// alone. internal/ui/nodes would answer in one request but is no public interface and grows to
// 72 MB.
//
// # The sweep
//
// A definition that changed without a check that says so (a new weight, a label, an instance
// without checks, in narrow mode any new passing instance) is named by no answer. After each
// change of catalog/services that no hint explains every node is therefore probed: catalog/node-services/N with a
// filter that nothing passes answers with a few bytes and an index, which Consul keeps for each
// node (where it does not, more is read than needed). Only a node with a newer index is read, and
// its rows' own indexes name the services. A sweep begins at once, where the check rows are not
// likely to explain the change, with the nodes that changed last, and is over when it has found
// what carries the index of the change; it gives way to dirty services. All nodes are probed a
// second later, once for all changes until then, and the next time not before sweepRest times as
// long as that took.
//
// # What is believed
//
// Nothing is published before everything asked for has answered once. An answer without a known
// leader, an error and a refusal leave the last state in place. A catalog that loses its last
// routed instance is believed only after it has said so for a grace time, and never when Consul
// hides rows behind ACLs. A service that loses all its instances at once keeps them for a while,
// marked as held (losses.go): a registrator that is replaced, a node that flaps and a mistake in
// Consul then cost nothing, and instances that are really gone are found out by the proxy's own
// checks. A partial loss is believed at once by default, since the others serve.
package watch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fairway/confgen/route"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// polls is how many long polls there are in Aggregate.
const polls = 5

// MinConnections is what a Watcher needs: its long polls and a connection to read with.
const MinConnections = polls + 1

// DefaultGrace is how long an emptied catalog must hold before it is believed.
const DefaultGrace = 30 * time.Second

// Options tell a Watcher whom to follow and whom to tell. Client is required.
type Options struct {
	Client      *api.Client
	Prefix      string        // of routing keys, in meta "<prefix>-" and in tags "<prefix>."; "fairway"
	Connections int           // as many as Client may open; at least MinConnections, 8
	Grace       time.Duration // of an emptied catalog: DefaultGrace
	Losses      Losses        // what else is not believed at once
	File        string        // where the snapshot is kept; "" keeps none
	Log         hclog.Logger
	Changed     func()      // Latest has something new; called from one goroutine, must not block
	Condition   func(error) // nil when Consul answers and everything has been read

	// Set by tests.
	narrowAbove   int // checks
	mode          Way
	publishWithin time.Duration
}

// View is one complete snapshot.
type View struct {
	Snapshot route.Snapshot
	Version  uint64    // grows by one with each View
	Time     time.Time // when it was read from Consul
	Restored bool      // from the file, because Consul has not answered yet
}

// Watcher follows Consul while Run runs.
type Watcher struct {
	opt     Options
	events  chan func(*keeper)
	latest  atomic.Pointer[View]
	narrow  atomic.Bool
	turns   *turns // of services that are followed one by one
	stopped chan struct{}

	multiplexed atomic.Bool // connections carry many queries each
}

// New returns a Watcher that has not begun to follow.
func New(opt Options) (*Watcher, error) {
	if opt.Prefix == "" {
		opt.Prefix = "fairway"
	}
	if opt.Connections == 0 {
		opt.Connections = 8
	}
	if opt.Connections < MinConnections {
		return nil, fmt.Errorf("%d connections to Consul are too few: at least %d", opt.Connections, MinConnections)
	}
	if err := opt.Losses.Validate(); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	if opt.Grace == 0 {
		opt.Grace = DefaultGrace
	}
	if opt.narrowAbove == 0 {
		opt.narrowAbove = narrowAbove
	}
	if opt.publishWithin == 0 {
		opt.publishWithin = publishWithin
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	if opt.Changed == nil {
		opt.Changed = func() {}
	}
	if opt.Condition == nil {
		opt.Condition = func(error) {}
	}
	return &Watcher{
		opt: opt, events: make(chan func(*keeper)),
		turns: newTurns(), stopped: make(chan struct{}),
	}, nil
}

// Latest returns the newest View; false when there is none yet.
func (w *Watcher) Latest() (View, bool) {
	v := w.latest.Load()
	if v == nil {
		return View{}, false
	}
	return *v, true
}

// Run follows Consul until ctx ends and then returns nil. It must be called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer close(w.stopped)
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	keep := newKeeper(w, jobs)
	keep.spawn = func(part func(context.Context) error) func() {
		ctx, stop := context.WithCancel(ctx)
		g.Go(func() error {
			if err := part(ctx); ctx.Err() == nil {
				return err
			}
			return nil // its end was wanted
		})
		return stop
	}
	g.Go(func() error { return keep.run(ctx) })
	g.Go(func() error { return w.pollServices(ctx) })
	g.Go(func() error { return w.pollOverrides(ctx) })
	for range w.opt.Connections - polls {
		g.Go(func() error { return w.read(ctx, jobs) })
	}
	if keep.store != nil {
		g.Go(func() error { return keep.store.run(ctx, w.Latest) })
	}
	err := g.Wait()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// tell hands f to the keeper's goroutine. What comes from a part that the keeper has stopped is
// not heard.
func (w *Watcher) tell(ctx context.Context, f func(*keeper)) {
	heard := func(k *keeper) {
		if ctx.Err() == nil {
			f(k)
		}
	}
	select {
	case w.events <- heard:
	case <-ctx.Done():
	}
}
