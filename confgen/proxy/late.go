package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"fairway/internal/reconcile"
)

// lateCheck runs the proxy's checker on changes that were applied without it. Server lines are
// validated field by field, and the checker takes longer than the whole change; so it runs
// within a second afterwards, on the newest state only, and what it refuses is taken back from
// disk, so that a restart finds a configuration that loads.
type lateCheck struct {
	target *Target
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // Ends the background check with the target.
	done   sync.WaitGroup

	mu      sync.Mutex
	next    *tree // to be checked
	running bool
	good    *tree // passed last
	refused string
	reason  *RejectedError
}

const lateCheckDelay = time.Second

func (l *lateCheck) init(t *Target) {
	l.target = t
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

func (l *lateCheck) close() {
	l.cancel()
	l.done.Wait()
}

// schedule asks for a check of what was just written.
func (l *lateCheck) schedule(t tree) {
	if !l.target.opt.Check.present() || l.target.opt.Wake == nil || l.ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = &t
	if l.running {
		return
	}
	l.running = true
	l.done.Go(l.run)
}

// passed notes files that were checked beforehand and that the proxy has loaded.
func (l *lateCheck) passed(t tree) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good, l.next, l.refused, l.reason = &t, nil, "", nil
}

func (l *lateCheck) run() {
	for {
		if reconcile.Sleep(l.ctx, lateCheckDelay) != nil {
			return
		}
		l.mu.Lock()
		t := l.next
		l.next = nil
		l.running = t != nil
		l.mu.Unlock()
		if t == nil {
			return
		}
		l.judge(*t, l.target.check(l.ctx, *t, "stage-late"))
	}
}

func (l *lateCheck) judge(t tree, err error) {
	if l.ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var rejected *RejectedError
	switch {
	case err == nil:
		l.good = &t
	case errors.As(err, &rejected) && rejected.Hung:
		// That says nothing of the files; what is checked next is all of them again.
		l.target.log.Warn("late check gave no verdict in time, what was applied stays", "err", err)
	case rejected != nil && l.good != nil:
		l.refused, l.reason = t.sum(), rejected
		l.target.log.Info("late check refuses what was applied, files go back") // The next Apply says why.
		l.target.opt.Wake()
	default:
		l.target.log.Error("late check of an applied change failed", "err", err)
	}
}

// verdict returns why t must not be on disk, and what to have there instead.
func (l *lateCheck) verdict(t tree) (*RejectedError, tree) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason == nil || l.good == nil || l.refused != t.sum() {
		return nil, tree{}
	}
	return l.reason, *l.good
}
