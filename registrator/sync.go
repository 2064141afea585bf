package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/health"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

// containers is what runs on this node.
type containers interface {
	Containers(ctx context.Context) (docker.Listing, error)
	Glance(ctx context.Context) (docker.Listing, docker.Sight)
}

// rows is this node's part of the catalog.
type rows interface {
	Observed(ctx context.Context) (catalog.Observed, error)
	Apply(ctx context.Context, o catalog.Observed, changes service.Changes) (catalog.Result, error)
}

// syncer makes the catalog equal to the containers, one pass at a time. It is the program; all
// else wakes it, watches it or tells about it.
type syncer struct {
	options service.Options
	docker  containers
	swarm   *swarm.Directory
	catalog rows
	checks  *health.Runner
	report  *report
	words   words
	adopter *adopter // nil without --adopt

	dockerPart, consulPart, synced part
	ending                         *atomic.Int64 // rows of containers that are about to end

	remembered *catalog.Observed // as the last pass left it; nil where it is not known for certain
	glanced    time.Time         // when a glance was last acted upon

	again *time.Timer // asks for a pass later
}

// pass is one look at both worlds and the writing of their difference. A failed read writes
// nothing: it is never an empty world. Where events say what has happened, a glance at that comes
// first and is acted upon by what the last pass knew: a front end hears of a container that starts,
// or is about to end, as soon as can be. What a glance does not see, or gets wrong since the
// catalog is not what it was, the look finds that follows it. That one waits a moment, for which who
// is waiting for what was written has the processors to himself.
func (s *syncer) pass(ctx context.Context) error {
	if s.remembered != nil {
		started := time.Now()
		switch listing, sight := s.docker.Glance(ctx); sight {
		case docker.Clear:
			s.glanced = started
			if err := s.act(ctx, started, listing, *s.remembered); !errors.Is(err, errOutdated) {
				return err
			}
		case docker.Still:
			if rest := s.glanced.Add(docker.GlanceThen).Sub(started); rest > 0 {
				s.again.Reset(rest) // whatever woke us waits for the look that is owed
				return nil
			}
		case docker.Unclear:
		}
	}
	return s.lookAndAct(ctx)
}

func (s *syncer) lookAndAct(ctx context.Context) error {
	started := time.Now()
	s.glanced = time.Time{} // this is the look that was owed: none is waited for any more
	listing, observed, err := s.look(ctx)
	if err != nil {
		s.remembered = nil
		return s.report.failed(err)
	}
	return s.act(ctx, started, listing, observed)
}

// owesLook reports whether a glance was acted upon and the look that makes up for it has not come.
func (s *syncer) owesLook() bool { return !s.glanced.IsZero() }

// errOutdated says that what was remembered is not enough to act by, or that Consul did not take
// what would have been right for it.
var errOutdated = errors.New("the catalog is not what it was")

// act makes the catalog, which holds what was observed, equal to the containers.
func (s *syncer) act(ctx context.Context, started time.Time, listing docker.Listing, observed catalog.Observed) error {
	patience := s.swarm.Fill(listing.Containers, started)
	plan := service.Desired(s.swarm.Mesh(listing.Containers, s.options), s.options)
	plan, expiry := s.checks.Fill(plan, observed.Rows, started)
	s.ending.Store(ending(plan))
	adopt := s.adopter.judge(&observed, plan, listing.Containers)
	changes := service.Diff(observed.Rows, plan)
	if observed.Blind(changes) {
		return errOutdated
	}
	fresh := s.words.freshen(changes, plan, started)
	result, err := s.catalog.Apply(ctx, observed, fresh)
	after, certain := observed.After(fresh, result)
	if s.remembered = nil; certain && err == nil && s.adopter == nil {
		s.remembered = &after
	}
	if s.consulPart.Set(err); err != nil {
		return s.report.failed(err)
	}
	p := pass{started, s.options.Node.Name, listing, plan, observed, changes, result}
	if observed.Remembered && len(result.Refused) > 0 {
		s.report.written(p)
		return errOutdated
	}
	s.adopter.finish(adopt)
	s.synced.Set(nil)
	s.report.done(p)
	s.lookAgain(listing.Again, result.Again, expiry, patience)
	return nil
}

// look reads both worlds, at the same time: neither answer depends on the other.
func (s *syncer) look(ctx context.Context) (docker.Listing, catalog.Observed, error) {
	var observed catalog.Observed
	var unread error
	var reading sync.WaitGroup
	reading.Go(func() { observed, unread = s.catalog.Observed(ctx) })
	listing, unlisted := s.docker.Containers(ctx)
	reading.Wait()
	s.dockerPart.Set(unlisted)
	s.consulPart.Set(unread)
	return listing, observed, errors.Join(unlisted, unread)
}

// lookAgain asks for a pass after the shortest of some delays; zero is none.
func (s *syncer) lookAgain(delays ...time.Duration) {
	var least time.Duration
	for _, d := range delays {
		if d > 0 && (least == 0 || d < least) {
			least = d
		}
	}
	if least == 0 {
		s.again.Stop()
		return
	}
	s.again.Reset(least)
}
