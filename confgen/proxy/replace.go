package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairway/internal/reconcile"
)

// replace loads a new structure: wait for its turn, check, commit, reload, confirm, else restore.
func (p *pass) replace(ctx context.Context, j *journal) error {
	if p.known() {
		p.forgetVerdict()
		return p.refused(ctx, p.rejected)
	}
	if p.verdict == nil || !p.verdict.under() { // Else it was its turn when that began.
		if err := p.turn(ctx); err != nil || p.res.Deferred != "" {
			return err
		}
	}
	base, known := p.base()
	switch {
	case j != nil: // The disk holds what a crashed process could not confirm.
		p.atOnce = true
		before, err := p.before(j)
		if err != nil {
			return err
		}
		base = p.claimed(before)
	case !known:
		base = p.disk
	}
	err := p.examine(ctx, base)
	if p.res.Deferred != "" {
		return err
	}
	if err != nil {
		p.reject(err)
		p.tried = time.Now() // Checks are paced as reloads are.
		return p.refused(ctx, err)
	}
	err = p.load(ctx, base)
	if p.res.Deferred != "" {
		return err
	}
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		return err
	}
	p.reject(rejected)
	return p.refused(ctx, err)
}

// refused goes on with servers and maps while the wanted structure cannot be had.
func (p *pass) refused(ctx context.Context, cause error) error {
	return errors.Join(cause, p.meanwhile(ctx))
}

// turn returns with Deferred set when the reload has to wait: for the interval, or for old
// workers to end. Servers and maps do not wait.
func (p *pass) turn(ctx context.Context) error {
	for {
		last := p.reloaded
		if p.tried.After(last) {
			last = p.tried
		}
		wait := time.Until(last.Add(p.opt.ReloadInterval))
		reason := p.driver.patience(ctx)
		patient := reason != ""
		switch {
		case patient:
			wait = max(wait, time.Second)
		case wait > 0:
			reason = "next reload in " + wait.Round(time.Millisecond).String()
		default:
			p.note("reload has to wait", "")
			return nil
		}
		if patient {
			p.note("reload has to wait", reason)
		}
		if p.opt.Wake != nil {
			err := p.postpone(ctx, reason)
			p.wakeIn(wait)
			return err
		}
		if err := reconcile.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("wait for the turn to reload (%s): %w", reason, err)
		}
		var err error
		if p.status, err = p.driver.status(ctx); err != nil {
			return fmt.Errorf("look at the proxy: %w", err)
		}
	}
}

// examine finds out beforehand, as far as possible, whether the proxy will take the files. With
// Deferred set that takes longer than an Apply.
func (p *pass) examine(ctx context.Context, base tree) error {
	if err := p.approve(ctx); err != nil || p.res.Deferred != "" {
		return err
	}
	return p.driver.probe(ctx, base, p.want)
}

// load commits and reloads; what the proxy does not confirm is taken back.
func (p *pass) load(ctx context.Context, base tree) error {
	j, err := p.begin(base, p.want, p.status.instance)
	if err != nil {
		return err
	}
	p.reached("journal")
	if err := p.announce(p.want); err != nil {
		return errors.Join(err, p.end(false))
	}
	written, err := p.commit(p.disk, p.want, lasting)
	p.res.Written = append(p.res.Written, written...)
	if err != nil {
		return p.takeBack(ctx, j, base, err)
	}
	p.reached("committed")
	p.disk = p.want
	p.reloaded = time.Now()
	if p.loadsBeside(base) {
		return p.beginLoad(ctx, j, base)
	}
	attempts, err := p.driver.reload(ctx, p.want, p.status)
	return p.conclude(ctx, j, base, attempts, err)
}

// conclude acts on how a reload went.
func (p *pass) conclude(ctx context.Context, j *journal, base tree, attempts int, err error) error {
	p.reloaded = time.Now()
	p.res.Reloads += attempts
	p.res.Action = Reload
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("reload: %w", ctx.Err()) // The journal stays: the next start finishes it.
	case errors.Is(err, ErrNotRunning):
		p.loaded = nil
		return errors.Join(p.own(p.want), p.end(true), err)
	case err != nil:
		return p.takeBack(ctx, j, base, err)
	}
	return p.settle(ctx)
}

// settle finishes a reload that the proxy has confirmed, and reads everything back.
func (p *pass) settle(ctx context.Context) error {
	p.rejected = nil
	p.reached("reloaded")
	if err := errors.Join(p.own(p.want), p.end(true)); err != nil {
		return err
	}
	p.reached("closed")
	var err error
	if p.status, err = p.driver.status(ctx); err != nil {
		return fmt.Errorf("look at the proxy: %w", err)
	}
	if p.opt.Check.present() {
		p.late.passed(*p.checked)
		if !p.checked.equal(&p.want) {
			if err := p.late.schedule(p.want); err != nil {
				return err
			}
		}
	}
	done, err := p.driver.sync(ctx, p.want, &p.want, true)
	p.count(done, true)
	switch {
	case ctx.Err() != nil:
		p.loaded = nil
		return ctx.Err()
	case err != nil:
		// The worker has read nothing but these files. That it cannot be asked is no reason to
		// reload it again.
		p.log.Warn("loaded configuration cannot be read back", "err", err)
	}
	p.remember(p.want, true)
	p.res.Action = Reload
	if p.outdated {
		p.res.Deferred = "a newer configuration is to be checked"
		p.wakeIn(p.opt.ReloadInterval)
	}
	return nil
}

// takeBack puts the previous files back after a failed commit or reload. After most failures the
// proxy still runs them; when it does not, they are loaded.
func (p *pass) takeBack(ctx context.Context, j *journal, base tree, cause error) error {
	if err := p.putBack(j); err != nil {
		return errors.Join(cause, err) // The journal stays, so the next Apply tries again.
	}
	p.disk = base
	if err := p.end(false); err != nil {
		return errors.Join(cause, err)
	}
	p.log.Info("previous files restored", "generation", p.want.generation) // Why, the caller says.
	before := p.status
	now, err := p.driver.status(ctx)
	if err != nil {
		return errors.Join(cause, fmt.Errorf("look at the proxy after restoring: %w", err))
	}
	p.status = now
	if base.runs(now.generation) || !base.marked && now.instance == before.instance || !base.has(base.main) {
		return cause
	}
	attempts, err := p.driver.reload(ctx, base, now)
	p.res.Reloads += attempts
	p.reloaded = time.Now()
	if err != nil {
		return errors.Join(cause, fmt.Errorf("load restored files: %w", err))
	}
	if p.status, err = p.driver.status(ctx); err != nil {
		return errors.Join(cause, fmt.Errorf("look at the proxy after restoring: %w", err))
	}
	return cause
}
