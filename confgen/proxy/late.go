package proxy

import (
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

	mu      sync.Mutex
	next    *checking
	running bool
	good    *tree // passed last
	refused string
	reason  *RejectedError
}

const lateCheckDelay = time.Second

// schedule asks for a check of what was just written.
func (l *lateCheck) schedule(t tree) error {
	if !l.target.opt.Check.present() || l.target.opt.Wake == nil || l.target.background.closed() {
		return nil
	}
	next, err := l.target.newChecking(t, "stage-late")
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = next
	if !l.running {
		l.running = true
		l.target.background.done.Go(l.run)
	}
	return nil
}

// passed notes files that were checked beforehand and that the proxy has loaded.
func (l *lateCheck) passed(t tree) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.good, l.next, l.refused, l.reason = &t, nil, "", nil
}

func (l *lateCheck) run() {
	ctx := l.target.background.ctx
	for {
		if reconcile.Sleep(ctx, lateCheckDelay) != nil {
			return
		}
		l.mu.Lock()
		c := l.next
		l.next = nil
		l.running = c != nil
		l.mu.Unlock()
		if c == nil {
			return
		}
		l.judge(c.want, c.run(ctx))
	}
}

func (l *lateCheck) judge(t tree, err error) {
	if l.target.background.closed() {
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
