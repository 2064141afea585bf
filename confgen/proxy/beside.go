package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// background is what a target does beside its Applies. Nothing of it touches the target: what it
// needs is taken before, what it found out is asked for by an Apply.
type background struct {
	ctx    context.Context //nolint:containedctx // Ends all of it with the target.
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func newBackground() *background {
	b := &background{}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (b *background) closed() bool { return b.ctx.Err() != nil }

// end stops everything and waits for it. The caller sees to it that nothing is begun meanwhile.
func (b *background) end() {
	b.cancel()
	b.done.Wait()
}

// verdict is what the proxy's checker says of files that are to be loaded. It takes its time, up to
// seconds for 50,000 servers, in which servers go on being changed in the structure that runs.
type verdict struct {
	tree   tree
	key    string
	since  time.Time
	second bool // the one before was given up, since something else was wanted by then
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done is closed
}

// under reports whether the checker is still at work.
func (v *verdict) under() bool {
	select {
	case <-v.done:
		return false
	default:
		return true
	}
}

// beginCheck has the checker look at what is wanted, and wakes when it has.
func (t *Target) beginCheck(want tree, second bool) error {
	t.checks++
	c, err := t.newChecking(want, fmt.Sprintf("stage-%d", t.checks))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.background.ctx)
	v := &verdict{tree: want, key: t.checkKey(want), since: time.Now(), second: second, cancel: cancel, done: make(chan struct{})}
	t.background.done.Go(func() {
		v.err = c.run(ctx)
		given := ctx.Err() == nil
		cancel()
		close(v.done)
		if given {
			t.opt.Wake()
		}
	})
	t.verdict = v
	return nil
}

// forgetVerdict gives up a check: what it would say is of no use any more.
func (t *Target) forgetVerdict() {
	if t.verdict != nil {
		t.verdict.cancel()
		t.verdict = nil
	}
}

// checkKey is the same for trees that pass the checker or do not pass it together. They differ in
// which servers there are, none of which has options that are new; that is validated field by
// field, so that a change of it is not checked beforehand elsewhere either.
func (t *Target) checkKey(x tree) string {
	words := []string{t.driver.shape(x)}
	for _, f := range x.files {
		if f.path != x.main {
			words = append(words, f.path, f.digest())
		}
	}
	return digestOf(words...)
}

// approve finds out what the checker says of what is wanted. Where servers can be changed meanwhile
// it works beside, and Deferred is set until it has come to its end.
//
// When something else is wanted by then, the newest is checked. That happens once; the second check
// is of use whatever is wanted, so that a structure which never rests is loaded at some time: as it
// was when it passed, with the servers of now. A refusal is another matter: whom it blames is
// looked for in what is wanted now, which is asked at once then.
func (p *pass) approve(ctx context.Context) error {
	if !p.checksBeside() {
		return p.approveNow(ctx)
	}
	v, overtaken := p.verdict, false
	if v != nil && p.overtaken(v) && !v.second {
		p.forgetVerdict()
		v, overtaken = nil, true
	}
	if v == nil {
		if err := p.beginCheck(p.want, overtaken); err != nil {
			return fmt.Errorf("stage configuration: %w", err)
		}
		v = p.verdict
	}
	if v.under() {
		return p.postpone(ctx, "the configuration is being checked")
	}
	p.verdict = nil
	return p.obey(ctx, v)
}

// checksBeside reports whether there is anything to do while a check is made, and somebody who
// comes back after it. What a crash has left is mended first.
func (p *pass) checksBeside() bool {
	return p.opt.Check.present() && p.opt.Wake != nil && !p.background.closed() && p.driver.live() && !p.atOnce
}

// overtaken reports whether a verdict is not on what is wanted. As long as the checker is at work
// the structure tells, which is cheap.
func (p *pass) overtaken(v *verdict) bool {
	return v.tree.generation != p.want.generation || !v.under() && v.key != p.checkKey(p.want)
}

// obey acts on a verdict.
func (p *pass) obey(ctx context.Context, v *verdict) error {
	rejected, refused := errors.AsType[*RejectedError](v.err)
	switch {
	case v.err == nil && !p.overtaken(v):
		p.checked, p.res.since = &v.tree, v.since
		return nil
	case v.err == nil:
		if mixed := p.driver.merge(v.tree, p.want); p.checkKey(mixed) == v.key {
			p.want, p.checked, p.outdated = mixed, &v.tree, true
			p.res.Generation, p.res.since = mixed.generation, v.since
			return nil
		}
	case !refused:
		return v.err
	case rejected.Hung, v.tree.equal(&p.want):
		return v.err
	}
	return p.approveNow(ctx)
}

// approveNow runs the checker and waits for it.
func (p *pass) approveNow(ctx context.Context) error {
	if err := p.check(ctx, p.want, "stage"); err != nil {
		return err
	}
	p.checked = &p.want
	return nil
}

// postpone says why a reload has to wait, and keeps servers up to date until it need not.
func (p *pass) postpone(ctx context.Context, reason string) error {
	p.res.Deferred = reason
	err := p.meanwhile(ctx)
	if p.rejected != nil {
		err = errors.Join(p.rejected, err) // It stands until something better runs.
	}
	return err
}
