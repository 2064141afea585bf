package proxy

import (
	"context"
	"errors"
	"time"
)

// loading is a reload on its way: its files are on disk, its journal is open, and the proxy has
// been asked. Until it confirms, or refuses, servers go on being changed: in the files that are being
// loaded, whichever moment they are read, and in the worker that still serves. When it has
// confirmed everything is read back as ever, so what came between two stools is mended then.
type loading struct {
	begun   pass // want is what is on disk by now
	journal *journal
	base    tree
	key     string   // what of want must stay as it was checked
	written []string // when it began
	since   time.Time
	done    chan struct{}

	attempts int // once done is closed
	err      error
}

func (l *loading) under() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

// loadsBeside reports whether a reload need not be waited for. The worker that serves has to be
// known, and to be told from the next one, or it could not be changed meanwhile; and a file that is
// written in place must not be while it is read.
func (p *pass) loadsBeside(base tree) bool {
	return p.opt.Wake != nil && !p.background.closed() && p.driver.live() && !p.atOnce && !p.opt.InPlace &&
		p.sameInstance() && base.marked && p.want.marked && base.generation != p.want.generation
}

// beginLoad asks the proxy to load what was committed, and wakes when that has come to its end.
func (p *pass) beginLoad(ctx context.Context, j *journal, base tree) error {
	l := &loading{
		begun: *p, journal: j, base: base, key: p.checkKey(p.want), written: p.res.Written,
		since: p.res.since, done: make(chan struct{}),
	}
	if l.since.IsZero() {
		l.since = time.Now()
	}
	p.res.Written = nil // It is told with the rest.
	p.loading = l
	want, before := p.want, p.status
	p.background.done.Go(func() {
		l.attempts, l.err = p.driver.reload(p.background.ctx, want, before)
		close(l.done)
		if !p.background.closed() {
			p.opt.Wake()
		}
	})
	p.reached("loading")
	return p.alongside(ctx, l)
}

// attend looks after a reload that an earlier Apply began; over means that it has succeeded, so that
// it is time for what is wanted now.
func (p *pass) attend(ctx context.Context) (over bool, err error) {
	l := p.loading
	if p.disk, err = p.readDisk(p.want); err != nil {
		return false, err
	}
	if l.under() {
		return false, p.alongside(ctx, l)
	}
	p.loading = nil
	p.res.since, p.res.Written = l.since, l.written
	q := l.begun
	q.res, q.disk = p.res, p.disk
	err = q.conclude(ctx, l.journal, l.base, l.attempts, l.err)
	p.status, p.disk = q.status, q.disk
	if _, rejected := errors.AsType[*RejectedError](err); rejected {
		q.reject(err)
		return false, p.refused(ctx, err)
	}
	p.res.Deferred = "" // What is wanted now is seen to at once.
	return err == nil, err
}

// Attend finishes a reload that an earlier Apply began, once the proxy has confirmed or refused it, for
// who cannot say now what is wanted. Apply does it too.
func (t *Target) Attend(ctx context.Context) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	res := Result{Action: None}
	if t.loading == nil || t.loading.under() {
		return res, nil
	}
	p := &pass{Target: t, want: t.loading.begun.want, res: &res}
	if t.loaded != nil {
		p.want = *t.loaded // What runs stays, if it has to.
	}
	res.Generation = t.loading.begun.want.generation
	_, err := p.attend(ctx)
	res.Deferred = "what has changed since is to be applied"
	res.Elapsed = time.Since(res.since)
	return res, err
}

// closeGrace is how long a target that is closed waits for a reload that is on its way. One that
// takes longer is finished, or undone, by the next start.
const closeGrace = time.Second

// awaitLoading waits for a reload that is on its way, for a while.
func (t *Target) awaitLoading(ctx context.Context) {
	t.mu.Lock()
	l := t.loading
	t.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case <-l.done:
	case <-ctx.Done():
	}
}

// alongside changes servers while a reload is on its way.
func (p *pass) alongside(ctx context.Context, l *loading) error {
	p.res.Deferred, p.res.Generation = "the configuration is being loaded", l.begun.want.generation
	var errs []error
	if p.rejected != nil {
		errs = append(errs, p.rejected) // It stands until something better runs.
	}
	if mixed := p.driver.merge(l.begun.want, p.want); !mixed.equal(&l.begun.want) && p.checkKey(mixed) == l.key {
		written, err := p.commit(p.disk, mixed, fleeting)
		p.res.Written = append(p.res.Written, written...)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		l.begun.want = mixed
		p.reached("servers committed")
	}
	return errors.Join(append(errs, p.tell(ctx))...)
}

// tell changes the worker that serves while the next one comes up. It may have gone by then, and
// what it did not get the next one reads.
func (p *pass) tell(ctx context.Context) error {
	if p.loaded == nil {
		return nil
	}
	before := *p.loaded
	now := p.driver.merge(before, p.want)
	if now.equal(&before) || !p.driver.adjustable(before, now) {
		return nil
	}
	done, err := p.driver.sync(ctx, now, &before, false)
	p.count(done, false)
	if err != nil {
		p.loaded = nil
		p.log.Debug("servers wait for the reload that is on its way", "err", err)
		return ctx.Err()
	}
	p.loaded = &now
	p.reached("servers told")
	return nil
}
