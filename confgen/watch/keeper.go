package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// Why a Watcher is not ready, or a service keeps its last state.
var (
	errWaiting = errors.New("waiting for the first answers of consul")
	errHidden  = errors.New("ACLs hide every instance of a service that was visible before")
)

// publishWithin bounds how long services that are still being read hold up those that have been:
// long enough for hundreds that changed together to be shown together, short enough that one whose
// answer does not come holds up nobody for long. An isolated change waits for nothing.
const publishWithin = 500 * time.Millisecond

// service is what is known of one name in the catalog.
type service struct {
	name      string
	answered  bool             // has been read, or refused, once
	instances []route.Instance // nil unless routed
	unrouted  bool             // has instances, none of which carries a routing key
	dirty     bool             // must be read
	reading   bool             // is being read; what it answers may be from before it became dirty
	err       error
	failures  int
	retryAt   time.Time
}

func (s *service) on(node string) bool {
	return slices.ContainsFunc(s.instances, func(in route.Instance) bool { return in.Node == node })
}

// keeper owns everything that is known. All of it is touched by one goroutine, run; the others
// hand it functions.
type keeper struct {
	watcher *Watcher
	log     hclog.Logger
	jobs    chan<- job
	store   *store // nil without a file

	polls      map[string]*pollState
	pollErr    error // of a poll that fails now
	services   map[string]*service
	inCatalog  int // names in the last answer, also without routing
	checks     map[checkID]check
	checksRead bool
	nodes      map[string]*node // nil before the first answer
	overrides  overrides

	missing int             // services not answered yet
	queue   []string        // of services to read
	reading int             // services being read
	waiting map[string]bool // services that failed and are tried again later
	pace    pace
	sweep   sweep

	latest    *View
	changed   bool // something was read that latest does not show
	changedAt time.Time
	freshAt   time.Time // when everything was known and true last; zero before
	guard     guard
	losses    lossGuard
	counts    Counts
	reported  bool // condErr has been handed on
	condErr   error
}

func newKeeper(w *Watcher, jobs chan<- job) *keeper {
	k := &keeper{
		watcher: w, log: w.opt.Log, jobs: jobs,
		polls:    map[string]*pollState{pollServices: {}, pollChecks: {}, pollNodes: {}, pollOverrides: {}},
		services: map[string]*service{}, checks: map[checkID]check{},
		waiting: map[string]bool{},
		pace:    newPace(w.opt.Connections - (MinConnections - 1)),
		guard:   guard{grace: w.opt.Grace, log: w.opt.Log},
		losses:  newLossGuard(w.opt.Losses, w.opt.Log),
		changed: true,
	}
	k.losses.unrouted = func(name string) bool { s := k.services[name]; return s != nil && s.unrouted }
	if w.opt.File != "" {
		k.store = newStore(w.opt.File, w.opt.Log)
	}
	return k
}

// run is the keeper's only goroutine: it takes in what happened, hands out what to ask, and
// publishes what is complete.
func (k *keeper) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var ask chan<- job
		j, ok := k.next(time.Now())
		if ok {
			ask = k.jobs
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-k.watcher.events:
			f(k)
		case ask <- j:
			k.asked(j)
		case <-timer.C:
		}
		now := time.Now()
		k.retries(now)
		k.sweep.turn(now, k.nodes)
		k.publish(now)
		k.report(k.condition())
		timer.Reset(k.due(now))
	}
}

// want has a service read that the catalog lists.
func (k *keeper) want(name string) {
	s := k.services[name]
	if s == nil || s.dirty {
		return
	}
	s.dirty = true
	if !s.reading && !k.waiting[name] { // else queued when the answer or the time has come
		k.queue = append(k.queue, name)
	}
}

// next returns the next question without taking it; dirty services go before the sweep.
func (k *keeper) next(now time.Time) (job, bool) {
	for len(k.queue) > 0 && !k.readable(k.queue[0]) {
		k.queue = k.queue[1:]
	}
	if !k.ready() || !k.pace.allows(now, k.reading+k.sweep.asking) {
		return job{}, false
	}
	if len(k.queue) > 0 {
		return job{service: k.services[k.queue[0]]}, true
	}
	return k.sweep.next(k.nodes)
}

// readable reports whether a queued name is still there, still dirty and not being read.
func (k *keeper) readable(name string) bool {
	s := k.services[name]
	return s != nil && s.dirty && !s.reading
}

// ready reports whether services may be read: only after every poll has answered, since a change
// between a read and the first answer of a poll would otherwise be missed, and only while the
// polls do answer, since a Consul that is away is not asked for a thousand services.
func (k *keeper) ready() bool {
	for _, p := range k.polls {
		if !p.answered || p.err != nil {
			return false
		}
	}
	return true
}

// asked notes that j is on its way.
func (k *keeper) asked(j job) {
	if j.node != "" {
		k.sweep.asked()
		k.counts.Probes++
		return
	}
	k.queue = k.queue[1:]
	j.service.dirty, j.service.reading = false, true
	k.reading++
	k.counts.Reads++
}

// answered takes in what a service looks like.
func (k *keeper) answered(j job, a answer) {
	k.reading--
	k.heard(a.err)
	s := j.service
	if k.services[s.name] != s {
		return // gone meanwhile, and perhaps back under the same name
	}
	s.reading = false
	if a.err == nil && a.filtered && len(a.instances) == 0 && len(s.instances) > 0 {
		a.err = errHidden
	}
	if a.err != nil {
		k.failed(s, a.err)
		return
	}
	s.unrouted = a.others
	k.took(s, a.instances)
	if s.dirty {
		k.queue = append(k.queue, s.name)
	}
}

// heard lets the pace know how a question ended.
func (k *keeper) heard(err error) {
	if k.pace.heard(err, time.Now()) {
		k.log.Warn("consul does not keep up, asking less until it does", "err", err)
	}
}

// took stores what was read.
func (k *keeper) took(s *service, instances []route.Instance) {
	if s.err != nil && !strained(s.err) {
		k.log.Info("service can be read again", "service", s.name)
	}
	s.err, s.failures = nil, 0
	k.first(s)
	if !same(s.instances, instances) {
		s.instances = instances
		k.touch()
	}
}

// first notes that a service has answered.
func (k *keeper) first(s *service) {
	if !s.answered {
		s.answered = true
		k.missing--
	}
}

func (k *keeper) touch() {
	if !k.changed {
		k.changed, k.changedAt = true, time.Now()
	}
}

// forget drops a service that the catalog lists no more.
func (k *keeper) forget(s *service) {
	if !s.answered {
		k.missing--
	}
	delete(k.services, s.name)
	delete(k.waiting, s.name)
	if len(s.instances) > 0 {
		k.touch()
	}
}

// failed notes that a service could not be read, and when to try again.
func (k *keeper) failed(s *service, err error) {
	if (s.err == nil || strained(s.err)) && !strained(err) {
		k.log.Warn("service cannot be read, keeping what was known", "service", s.name, "err", err)
	}
	s.err = fmt.Errorf("read service %s: %w", s.name, err)
	s.failures++
	if refused(err) {
		k.first(s) // the others do not wait for what will not come
	}
	s.dirty = true
	s.retryAt = time.Now().Add(backoff(s.failures))
	k.waiting[s.name] = true
}

// retries queues the services whose time has come.
func (k *keeper) retries(now time.Time) {
	for name := range k.waiting {
		s := k.services[name]
		if s != nil && now.Before(s.retryAt) {
			continue
		}
		delete(k.waiting, name)
		if s != nil {
			k.queue = append(k.queue, name)
		}
	}
}

// readAll has everything read again; what Consul says at index is not news then.
func (k *keeper) readAll(index uint64) {
	for name := range k.services {
		k.want(name)
	}
	for _, n := range k.nodes {
		n.since = index
	}
}

// condition returns nil when everything is known and followed.
func (k *keeper) condition() error {
	switch {
	case k.pollErr != nil:
		return k.pollErr
	case k.freshAt.IsZero():
		return errWaiting
	}
	return nil
}

// report hands on a condition that is new. Waiting for the first answers is none yet.
func (k *keeper) report(err error) {
	if k.reported && errors.Is(err, k.condErr) || !k.reported && errors.Is(err, errWaiting) {
		return
	}
	k.reported, k.condErr = true, err
	k.watcher.opt.Condition(err)
}

// due returns how long nothing needs doing by the clock.
func (k *keeper) due(now time.Time) time.Duration {
	at := now.Add(time.Minute)
	sooner := func(t time.Time) {
		if t.Before(at) && !t.IsZero() {
			at = t
		}
	}
	for name := range k.waiting {
		if s := k.services[name]; s != nil {
			sooner(s.retryAt)
		}
	}
	sooner(k.pace.pausedUntil(now))
	sooner(k.sweep.due())
	sooner(k.guard.until())
	sooner(k.losses.until())
	if k.changed && k.latest != nil && !k.changedAt.IsZero() {
		if limit := k.changedAt.Add(publishWithin); limit.After(now) {
			sooner(limit)
		}
	}
	return max(at.Sub(now), 0)
}
