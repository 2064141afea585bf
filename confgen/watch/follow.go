package watch

import (
	"context"
	"sync"
	"time"

	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
)

// firstReads is how many services that are followed one by one are read for the first time at
// once, where a connection would carry any number.
const firstReads = 32

// follow asks for one service by itself from now on, unless the list of services does not answer:
// a Consul that is away is not asked for a thousand of them.
func (k *keeper) follow(s *service) {
	k.unfollow(s)
	if k.polls[pollServices].err != nil {
		return
	}
	s.silent = true
	k.silent++
	name, w := s.name, k.watcher
	s.stop = k.spawn(func(ctx context.Context) error { return w.follow(ctx, s, name) })
}

// unfollow ends what follow began.
func (k *keeper) unfollow(s *service) {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
	k.spoke(s)
}

// followAll asks for every service anew.
func (k *keeper) followAll() {
	for _, s := range k.services {
		k.follow(s)
	}
}

// follow hands every answer about one service to the keeper until ctx ends.
func (w *Watcher) follow(ctx context.Context, s *service, name string) error {
	query := func(q *api.QueryOptions) (answer, *api.QueryMeta, error) {
		if q.WaitIndex == 0 {
			if err := w.turns.take(q.Context()); err != nil {
				return answer{}, nil, err
			}
		}
		// A blocking query about a service is otherwise answered from the agent's stream of events
		// (use_streaming_backend), which says nothing of whether a leader is known.
		q.Near = "_agent"
		a, meta := w.askService(q.WithContext(w.noticing(q.Context())), name)
		w.turns.heard(a.err, q.WaitIndex == 0)
		return a, meta, a.err
	}
	opt := consul.WatchOptions{Failed: func(err error, _ time.Duration) {
		w.tell(ctx, func(k *keeper) { k.followed(s, answer{err: err}) })
	}}
	return consul.Watch(ctx, query, opt, func(a answer, _ *api.QueryMeta) {
		w.tell(ctx, func(k *keeper) { k.followed(s, a) })
	})
}

// turns bounds how many services are read for the first time at once; fewer when Consul does not
// keep up. Queries that wait for a change take none.
type turns struct {
	mu    sync.Mutex
	pace  pace
	busy  int
	freed chan struct{} // closed, and made anew, when one may have become free
}

func newTurns() *turns { return &turns{pace: newPace(firstReads), freed: make(chan struct{})} }

// take waits for a turn.
func (t *turns) take(ctx context.Context) error {
	for {
		freed, pause := t.try()
		if freed == nil {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-freed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// try takes a turn, or returns what to wait for.
func (t *turns) try() (freed <-chan struct{}, pause time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.pace.allows(now, t.busy) {
		t.busy++
		return nil, 0
	}
	if until := t.pace.pausedUntil(now); !until.IsZero() {
		return t.freed, until.Sub(now)
	}
	return t.freed, time.Minute
}

// heard takes in how a query ended, and gives its turn back.
func (t *turns) heard(err error, turn bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace.heard(err, time.Now())
	if !turn {
		return
	}
	t.busy--
	close(t.freed)
	t.freed = make(chan struct{})
}

// followed takes in what a service looks like, or why that is not known; it is asked for again
// whatever comes.
func (k *keeper) followed(s *service, a answer) {
	k.spoke(s)
	k.counts.Reads++
	if err := s.believes(a); err != nil {
		k.unreadable(s, err)
		return
	}
	k.took(s, a)
}

// spoke notes that nobody waits for a service that is followed by itself.
func (k *keeper) spoke(s *service) {
	if s.silent {
		s.silent = false
		k.silent--
	}
}
