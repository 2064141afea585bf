package ctmpl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

const (
	// pollMin is the least time between two questions for what cannot be, or is not, followed by
	// a blocking query.
	pollMin = 2 * time.Second

	// pollRate bounds how often such questions are asked altogether: one in this time.
	pollRate = 20 * time.Millisecond

	// datacentersEvery is how often the list of datacenters is asked for, which cannot block.
	datacentersEvery = 15 * time.Second
)

// Follower follows the queries that templates use, and no others. The first ones, as many as there
// may be connections, are blocking queries that answer at once when something changes; the ones
// beyond are asked in turn every few seconds, so that a template which asks for a thousand
// services costs Consul no thousand connections.
type Follower struct {
	client *api.Client
	log    hclog.Logger
	wake   func()
	slots  chan struct{} // one for each blocking query
	polls  chan struct{} // bounds polls at one time

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // Of Run: queries begin whenever a template first asks.
	answers map[Query]*answered
	wants   map[any]map[Query]bool // by owner
	group   sync.WaitGroup
}

// answered is what is known of one query.
type answered struct {
	value   any
	version uint64
	state   State
	err     error
	stop    context.CancelFunc
}

// NewFollower returns a Follower that uses at most connections of client. wake is called after
// every change.
func NewFollower(client *api.Client, connections int, log hclog.Logger, wake func()) *Follower {
	const polls = 1 // leaves at least one connection to those beyond
	return &Follower{
		client: client, log: log, wake: wake,
		slots: make(chan struct{}, max(connections-polls, 1)), polls: make(chan struct{}, polls),
		answers: map[Query]*answered{}, wants: map[any]map[Query]bool{},
	}
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	for q := range f.answers {
		f.begin(q)
	}
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.ctx = nil // nothing begins any more
	f.mu.Unlock()
	f.group.Wait()
	return nil
}

// Recall implements Recall.
func (f *Follower) Recall(q Query) (any, uint64, State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.answers[q]
	if a == nil {
		return nil, 0, Pending
	}
	return a.value, a.version, a.state
}

// Want says what an owner's templates use. Only what is complete can say what is used no more.
func (f *Follower) Want(owner any, used []Query, complete bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if complete || f.wants[owner] == nil {
		f.wants[owner] = make(map[Query]bool, len(used))
	}
	for _, q := range used {
		f.wants[owner][q] = true
		if f.answers[q] == nil {
			f.answers[q] = &answered{}
			f.begin(q)
		}
	}
	if complete {
		f.prune()
	}
}

// Leave forgets an owner.
func (f *Follower) Leave(owner any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.wants, owner)
	f.prune()
}

// prune stops what nobody uses.
func (f *Follower) prune() {
	for q, a := range f.answers {
		if slices.ContainsFunc(slices.Collect(maps.Values(f.wants)), func(w map[Query]bool) bool { return w[q] }) {
			continue
		}
		if a.stop != nil {
			a.stop()
		}
		delete(f.answers, q)
	}
}

// Failing says of each query that cannot be answered now, why.
func (f *Follower) Failing() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	failing := map[string]string{}
	for q, a := range f.answers {
		if a.err != nil {
			failing[q.String()] = a.err.Error()
		}
	}
	return failing
}

// begin follows a query, once there is a context to follow it in.
func (f *Follower) begin(q Query) {
	if f.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(f.ctx)
	f.answers[q].stop = stop
	f.group.Go(func() {
		defer stop()
		f.follow(ctx, q)
	})
}

// follow asks a query until ctx ends.
func (f *Follower) follow(ctx context.Context, q Query) {
	for ctx.Err() == nil {
		if q.kind != kindFile && q.kind != kindDatacenters {
			select {
			case f.slots <- struct{}{}:
				f.block(ctx, q)
				<-f.slots
				continue
			default:
			}
		}
		f.poll(ctx, q)
	}
}

// block follows a query by asking Consul to answer when something changes.
func (f *Follower) block(ctx context.Context, q Query) {
	err := consul.Watch(ctx, func(o *api.QueryOptions) (any, *api.QueryMeta, error) {
		return q.fetch(f.client, o)
	}, consul.WatchOptions{
		Failed: func(err error, _ time.Duration) { f.failed(ctx, q, err) },
	}, func(value any, _ *api.QueryMeta) { f.got(ctx, q, value) })
	if err != nil && ctx.Err() == nil {
		f.failed(ctx, q, err)
	}
}

// poll asks once and waits.
func (f *Follower) poll(ctx context.Context, q Query) {
	select {
	case f.polls <- struct{}{}:
	case <-ctx.Done():
		return
	}
	value, _, err := q.fetch(f.client, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	<-f.polls
	if err != nil {
		f.failed(ctx, q, err)
	} else {
		f.got(ctx, q, value)
	}
	f.mu.Lock()
	wait := max(pollMin, time.Duration(len(f.answers))*pollRate)
	f.mu.Unlock()
	if q.kind == kindDatacenters && err == nil {
		wait = datacentersEvery
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// got takes in an answer.
func (f *Follower) got(ctx context.Context, q Query, value any) {
	f.mu.Lock()
	a := f.answers[q]
	if a == nil || ctx.Err() != nil {
		f.mu.Unlock()
		return
	}
	a.err = nil
	state := Known
	if value == nil {
		state = Absent
	}
	if state == Absent && q.kind == kindKeyWait && a.state == Known {
		state, value = Known, a.value // a template that waits for a key keeps what it had
	}
	changed := a.state != state || !reflect.DeepEqual(a.value, value)
	if changed {
		a.value, a.state = value, state
		a.version++
	}
	f.mu.Unlock()
	if changed {
		f.wake()
	}
}

// failed notes that a query cannot be answered; what was known stays.
func (f *Follower) failed(ctx context.Context, q Query, err error) {
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	a := f.answers[q]
	fresh, woken := false, false
	if a != nil {
		fresh = a.err == nil
		a.err = fmt.Errorf("%s: %w", q, err)
		if a.state == Pending && refusedForGood(err) {
			a.state, woken = Refused, true
			a.version++
		}
	}
	f.mu.Unlock()
	if fresh {
		f.log.Warn("what a template uses cannot be read, keeping what was known", "reason", q.String(), "err", err)
	}
	if woken {
		f.wake()
	}
}

// refusedForGood reports whether asking again will hardly help: others do not wait for it.
func refusedForGood(err error) bool {
	var status api.StatusError
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) ||
		errors.As(err, &status) && status.Code < http.StatusInternalServerError && status.Code != http.StatusTooManyRequests
}
