package watch

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Why a Watcher is not ready, or a service keeps its last state.
var (
	errWaiting = errors.New("waiting for the first answers of consul")
	errHidden  = errors.New("ACLs hide every instance of a service that was visible before")
)

// keeper owns everything that is known. All of it is touched by one goroutine, run; the others
// hand it functions.
type keeper struct {
	watcher *Watcher
	log     hclog.Logger
	jobs    chan<- job
	store   *store // nil without a file

	// spawn runs a part of following until it is stopped or the Watcher ends.
	spawn  func(part func(context.Context) error) (stop func())
	mode   Way      // "" before Consul has named the services
	reason string   // for the mode
	stops  []func() // ends the long polls of the mode

	polls      map[string]*pollState
	pollErr    error // of a poll that fails now
	services   map[string]*service
	inCatalog  int // names in the last answer, also without routing
	checks     map[checkID]check
	checksRead bool
	nodes      map[string]*node // nil before the first answer
	overrides  overrides
	hints      hints

	missing int             // services not answered yet
	queue   []string        // of services to read
	reading int             // services being read
	silent  int             // services followed one by one that have not answered yet
	waiting map[string]bool // services that failed and are tried again later
	pace    pace
	sweep   sweep

	latest    *View
	changed   bool      // something was read that latest does not show
	changedAt time.Time // the first time; and
	touchedAt time.Time // the last
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
		polls:    map[string]*pollState{pollServices: {}, pollOverrides: {}},
		services: map[string]*service{}, checks: map[checkID]check{},
		waiting: map[string]bool{},
		pace:    newPace(w.opt.Connections - polls),
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
	sooner(k.losses.next(now))
	sooner(k.heldUntil(now))
	return max(at.Sub(now), 0)
}
