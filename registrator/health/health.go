// Package health runs the active checks of this node's services and remembers what came of them.
//
// It is level-triggered: every pass hands the plan to Fill, which starts what is new, forgets what
// is gone, and answers the plan with the verdicts as they are. A new verdict wakes the next pass.
// Checks run on a bounded number of goroutines, and each at a moment of its interval that only its
// name decides, so that a node with hundreds of them asks evenly.
package health

import (
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"fairway/registrator/service"
)

// parallel is how many checks run at the same time. A check that hangs holds its place until its
// timeout.
const parallel = 64

// Exec runs a command for /bin/sh in a container and returns its exit code and what it printed.
type Exec func(ctx context.Context, container, command string, env []string) (code int, output string, err error)

// Options are what checks need.
type Options struct {
	Exec    Exec
	Changed func() // called when a status changed, from any goroutine

	// Handed says which checks somebody else runs, as a Consul agent does. Of those only the first
	// verdict is found out here. Nil for none.
	Handed func(service.Check) bool
}

// Runner runs checks. Fill and Run may be called at the same time.
type Runner struct {
	opt    Options
	poked  chan struct{} // there may be something to run earlier than thought
	places chan struct{}

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one check on its way.
type entry struct {
	check   service.Check // with its status and output as they are now
	owner   string        // the mark of the container and port it is for
	env     []string
	next    time.Time
	phase   time.Duration // of its interval, at which it runs
	running context.CancelFunc

	successes, failures int // in a row

	handed, known, fresh bool // see follow
}

// New returns a runner that runs nothing yet.
func New(opt Options) *Runner {
	return &Runner{opt: opt, poked: make(chan struct{}, 1), places: make(chan struct{}, parallel), entries: map[string]*entry{}}
}

// Fill makes the checks of a plan those that run, and returns the plan with the verdicts as they
// are. What was never run has the status the catalog holds for it, so that a restart of registrator
// changes nothing, else its initial one. A row that has been critical for its deregister time is
// left out, also when it became critical before this start, and so is a new one that waits for the
// first verdict on a check of somebody else's; again is when the next is due for that, zero for none.
func (r *Runner) Fill(plan service.Plan, observed []service.Registration, now time.Time) (filled service.Plan, again time.Duration) {
	held := make(map[string]service.Registration, len(observed))
	for _, row := range observed {
		held[row.ID] = row
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	entries := make(map[string]*entry, len(r.entries))
	filled = plan
	filled.Registrations = nil
	for _, row := range plan.Registrations {
		row.Checks = slices.Clone(row.Checks)
		gone := false
		for i := range row.Checks {
			id := row.ID + ":" + string(row.Checks[i].Kind)
			e := r.entries[id]
			if e == nil || !e.sameAs(row, row.Checks[i]) {
				e = newEntry(id, row, row.Checks[i], held[row.ID], now)
			}
			e.check.Suspended = row.Checks[i].Suspended
			entries[id] = e
			if r.opt.Handed != nil && r.opt.Handed(e.check) {
				_, there := held[row.ID]
				gone = gone || !e.follow(held[row.ID]) && !there && !e.check.Suspended
			}
			row.Checks[i] = e.check
			left, counts := e.untilGone(now)
			gone = gone || counts && left <= 0
			if counts && left > 0 && (again == 0 || left < again) {
				again = left
			}
		}
		if !gone {
			filled.Registrations = append(filled.Registrations, row)
		}
	}
	for id, e := range r.entries {
		if entries[id] != e && e.running != nil {
			e.running()
		}
	}
	r.entries = entries
	r.poke()
	return filled, again
}

func newEntry(id string, row service.Registration, check service.Check, held service.Registration, now time.Time) *entry {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(id)) // a hash never fails to write
	e := &entry{
		check: check, owner: row.Meta[service.Owner], next: now, env: envOf(row),
		phase: time.Duration(hash.Sum64() % uint64(check.Interval)),
	}
	if held.Meta[service.Owner] == e.owner || check.Shared {
		for _, k := range held.Checks {
			if k.Kind == check.Kind && k.SameWay(check) {
				e.check.Status, e.check.Output, e.check.CriticalSince = k.Status, k.Output, k.CriticalSince
			}
		}
	}
	if e.check.Status != service.Critical {
		e.check.CriticalSince = time.Time{}
	} else if since := e.check.CriticalSince; since.IsZero() || since.After(now) { // no clock of ours wrote the latter
		e.check.CriticalSince = kept(now)
	}
	return e
}

// sameAs reports whether an entry is for a check as it is wanted now.
func (e *entry) sameAs(row service.Registration, k service.Check) bool {
	k.Suspended = e.check.Suspended
	return (e.owner == row.Meta[service.Owner] || k.Shared) && k.Local == e.check.Local && k.SameWay(e.check) && slices.Equal(e.env, envOf(row))
}

// kept is a time as the catalog keeps it.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

// untilGone is how long a critical check may stay so before its row goes.
func (e *entry) untilGone(now time.Time) (left time.Duration, counts bool) {
	if e.check.DeregisterAfter <= 0 || e.check.CriticalSince.IsZero() {
		return 0, false
	}
	return e.check.CriticalSince.Add(e.check.DeregisterAfter).Sub(now), true
}

// Run runs checks until ctx ends, and returns when the last of them has.
func (r *Runner) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.poked:
		}
		for {
			id, e, wait := r.first(time.Now())
			if e == nil {
				timer.Reset(wait)
				break
			}
			select {
			case <-ctx.Done():
				return
			case r.places <- struct{}{}:
			}
			if probe := r.begin(ctx, id, e); probe != nil {
				running.Go(func() { defer func() { <-r.places }(); probe() })
			} else {
				<-r.places
			}
		}
	}
}

// first is the check that is due for the longest time, or how long none will be.
func (r *Runner) first(now time.Time) (id string, e *entry, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, other := range r.entries {
		if other.running != nil || other.check.Suspended || other.handed && other.known {
			continue
		}
		if e == nil || other.next.Before(e.next) {
			id, e = name, other
		}
	}
	if e == nil {
		return "", nil, time.Hour // until poked
	}
	if wait = e.next.Sub(now); wait > 0 {
		return "", nil, wait
	}
	return id, e, 0
}

// begin returns what runs a check once, nil when the check is not wanted any more.
func (r *Runner) begin(ctx context.Context, id string, e *entry) (probe func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries[id] != e || e.running != nil || e.check.Suspended {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.check.Timeout)
	e.running = cancel
	check, env := e.check, e.env
	return func() {
		status, output := r.ask(ctx, check, env)
		cancel()
		if r.done(id, e, status, output, time.Now()) {
			r.opt.Changed()
		}
	}
}

// done takes a verdict and reports whether the check's status changed.
func (r *Runner) done(id string, e *entry, status service.Status, output string, now time.Time) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.running = nil
	if r.entries[id] != e || e.check.Suspended { // gone, or its container was stopped meanwhile
		return false
	}
	e.next = now.Truncate(e.check.Interval).Add(e.phase)
	for !e.next.After(now) {
		e.next = e.next.Add(e.check.Interval)
	}
	r.poke()
	if e.handed {
		e.take(status, output)
		return true
	}
	before, first := e.check.Status, e.check.Output == service.Unchecked
	if verdict := e.judge(status); verdict == status || verdict != before {
		e.check.Status, e.check.Output = verdict, output
	}
	if e.check.Status == before {
		return first && e.check.Output != service.Unchecked
	}
	e.check.CriticalSince = time.Time{}
	if e.check.Status == service.Critical {
		e.check.CriticalSince = kept(now)
	}
	return true
}

// judge counts a result in and says what the check is now: one odd answer does not change it where
// its owner asked for several.
func (e *entry) judge(status service.Status) service.Status {
	if status == service.Critical {
		e.successes = 0
		e.failures++
		switch {
		case e.failures >= e.check.FailuresBeforeCritical:
			return service.Critical
		case e.failures >= e.check.FailuresBeforeWarning:
			return service.Warning
		}
		return e.check.Status
	}
	e.failures = 0
	if e.successes++; e.successes >= e.check.SuccessBeforePassing {
		return status
	}
	return e.check.Status
}

// poke makes Run look again.
func (r *Runner) poke() {
	select {
	case r.poked <- struct{}{}:
	default:
	}
}
