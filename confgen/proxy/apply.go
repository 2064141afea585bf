package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairway/confgen/render"
)

// pass is one Apply: what is wanted, what is on disk, and what the proxy says of itself.
type pass struct {
	*Target
	want   tree
	disk   tree
	status status
	res    *Result

	atOnce   bool  // a check is waited for: servers cannot be changed meanwhile, or must not
	checked  *tree // what the checker has seen of want: its structure and options
	outdated bool  // something newer is wanted than want
}

func (t *Target) apply(ctx context.Context, files []render.File, res *Result) error {
	if err := t.claim(); err != nil {
		return err
	}
	want, err := t.prepare(files)
	if err != nil {
		return err
	}
	if t.pin != nil {
		res.Pinned = t.pin.Structure
		if want, err = t.held(want); err != nil {
			return err
		}
	}
	return t.applyTree(ctx, want, res)
}

// applyTree makes disk and proxy equal to a tree.
func (t *Target) applyTree(ctx context.Context, want tree, res *Result) (err error) {
	res.Generation = want.generation
	p := &pass{Target: t, want: want, res: res}
	if t.loading != nil {
		if over, err := p.attend(ctx); !over {
			return err
		}
	}
	if p.disk, err = t.readDisk(want); err != nil {
		return err
	}
	p.status, err = t.driver.status(ctx)
	if errors.Is(err, ErrNotRunning) {
		return p.offline(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("look at the proxy: %w", err)
	}
	j, err := t.readJournal()
	if err != nil {
		return err
	}
	if p.current(j) {
		return p.confirmed(ctx, j != nil)
	}
	return p.replace(ctx, j)
}

// current reports whether the proxy already runs the structure that is wanted.
func (p *pass) current(j *journal) bool {
	if j != nil && p.status.instance == j.Instance {
		return false // A crash came between commit and reload.
	}
	if p.want.marked {
		return p.want.runs(p.status.generation)
	}
	if p.sameInstance() {
		return p.loaded.generation == p.want.generation
	}
	// Without a mark the proxy cannot tell. What was on disk when it loaded last is what it runs.
	return p.driver.structure(p.disk) == p.want.generation
}

// confirmed handles the cheap case: the structure runs, and only servers and maps may differ.
func (p *pass) confirmed(ctx context.Context, interrupted bool) error {
	if interrupted {
		if err := p.end(true); err != nil {
			return err
		}
	}
	if !p.driver.adjustable(p.disk, p.want) || p.edited() && !p.sameInstance() {
		return p.replace(ctx, nil)
	}
	err := p.adjust(ctx, p.want)
	switch {
	case errors.Is(err, errNeedsReload):
		p.note("change needs a reload", err.Error())
		p.atOnce = true
		return p.replace(ctx, nil)
	case err == nil:
		p.forgetVerdict()
		p.rejected = nil
		p.note("change needs a reload", "")
	}
	return err
}

// edited reports whether somebody changed the structure of the files by hand. They may have been
// loaded since, unless the proxy is the one that was verified.
func (p *pass) edited() bool {
	return p.disk.has(p.disk.main) && p.driver.structure(p.disk) != p.driver.structure(p.want)
}

func (p *pass) sameInstance() bool {
	return p.loaded != nil && p.instance == p.status.instance
}

// adjust makes disk and proxy equal to t, whose structure runs: files first, so that a restart
// at any moment finds the same state.
func (p *pass) adjust(ctx context.Context, t tree) error {
	if rejected, good := p.late.verdict(t); rejected != nil {
		written, err := p.commit(p.disk, good, lasting)
		p.res.Written = append(p.res.Written, written...)
		return errors.Join(rejected, err)
	}
	if p.opt.Wake == nil && !p.disk.equal(&t) {
		if err := p.check(ctx, t, "stage"); err != nil {
			return err
		}
	}
	if err := p.write(t, fleeting); err != nil {
		return err
	}
	changed := !p.sameInstance() || !p.loaded.equal(&t)
	age := time.Since(p.verified)
	// A change does not wait until those that are gone have been cleared away.
	full := !p.sameInstance() || age > fullEvery || p.retired > 0 && age > p.clearEvery() && !changed
	began := time.Now()
	done, err := p.driver.sync(ctx, t, p.loaded, full)
	if full {
		p.lookTook = time.Since(began)
	}
	p.count(done, full)
	if err != nil && changed {
		return p.halfDone(ctx, err)
	}
	if err != nil {
		return err
	}
	p.remember(t, full)
	return nil
}

// count adds up what was done at run time. Only a full look sees all servers that still have to
// be deleted.
func (p *pass) count(done synced, full bool) {
	p.res.Commands += done.commands
	if done.commands > 0 && p.res.Action == None {
		p.res.Action = Runtime
	}
	if full || done.retired > p.retired {
		p.retired = done.retired
	}
	if p.res.Retired = p.retired; p.retired > 0 {
		p.wakeIn(p.clearEvery())
	}
}

// clearEvery is how often retired servers are tried again. It takes a look at every server there
// is, so it is seldom enough to be a small part of the work.
func (p *pass) clearEvery() time.Duration {
	return min(max(20*p.lookTook, time.Second), fullEvery)
}

// halfDone handles a change that broke off: some commands may have been carried out, so that
// everything has to be compared next time. Twice in a row, a reload is the way: the files are
// right, and it reads nothing else.
func (p *pass) halfDone(ctx context.Context, err error) error {
	p.loaded = nil
	p.failures++
	if ctx.Err() == nil && p.failures > 1 && !errors.Is(err, errNeedsReload) {
		return fmt.Errorf("%w: %w", errNeedsReload, err)
	}
	return err
}

// write commits t, announces its files as ours and removes those that are stale.
func (p *pass) write(t tree, lasting bool) error {
	if err := p.announce(t); err != nil {
		return err
	}
	written, err := p.commit(p.disk, t, lasting)
	p.res.Written = append(p.res.Written, written...)
	if err != nil {
		return err
	}
	if len(written) > 0 {
		if err := p.late.schedule(t); err != nil {
			return err
		}
	}
	if err := p.own(t); err != nil {
		return err
	}
	p.disk = t
	return nil
}

func (p *pass) remember(t tree, full bool) {
	p.loaded, p.instance = &t, p.status.instance
	p.failures = 0
	if full {
		p.verified = time.Now()
	}
}

// base is the last tree that is known to run: what to go back to, and what to go on with while a
// new structure has to wait. It may be unknown, when the proxy runs something of somebody else.
func (p *pass) base() (tree, bool) {
	if p.sameInstance() {
		return *p.loaded, true
	}
	disk := p.claimed(p.disk)
	return disk, disk.marked
}

// claimed marks a tree as what the proxy runs if it carries what the proxy reports.
func (p *pass) claimed(t tree) tree {
	for _, f := range t.files {
		if p.status.generation != "" && f.contains(p.status.generation) {
			t.marked, t.generation = true, p.status.generation
		}
	}
	return t
}

// meanwhile keeps servers and maps up to date in the structure that runs.
func (p *pass) meanwhile(ctx context.Context) error {
	base, known := p.base()
	if !known {
		return nil
	}
	mixed := p.driver.merge(base, p.want)
	if !p.driver.adjustable(base, mixed) {
		return nil
	}
	err := p.adjust(ctx, mixed)
	if errors.Is(err, errNeedsReload) {
		return nil // It will come with the reload that is due anyway.
	}
	return err
}

// offline commits files for a proxy that does not run, so that it starts with them.
func (p *pass) offline(ctx context.Context, cause error) error {
	p.loaded = nil
	p.forgetVerdict()
	if p.disk.equal(&p.want) {
		return errors.Join(p.write(p.want, lasting), cause) // Modes may differ.
	}
	if p.known() {
		return errors.Join(p.rejected, cause)
	}
	if err := p.check(ctx, p.want, "stage"); err != nil {
		p.reject(err)
		return errors.Join(err, cause)
	}
	if err := p.write(p.want, lasting); err != nil {
		return err
	}
	return errors.Join(p.end(true), cause)
}

// reject remembers that what is wanted cannot be had.
func (p *pass) reject(err error) {
	var rejected *RejectedError
	if !errors.As(err, &rejected) {
		return
	}
	p.rejected = rejected
	p.rejected.at = time.Now()
	if p.rejected.key == "" { // A checker says itself what it refuses.
		p.rejected.key = p.driver.shape(p.want)
	}
}

// hungRetry is how long files are left alone after a checker that gave no verdict on them: what
// hangs may use a whole processor, and nginx, which has nothing to change meanwhile, waits for it.
const hungRetry = 2 * time.Minute

// known reports whether what is wanted was rejected before.
func (p *pass) known() bool {
	if p.rejected != nil && p.rejected.Hung && time.Since(p.rejected.at) > hungRetry {
		return false
	}
	return p.rejected != nil && (p.rejected.key == p.want.sum() || p.rejected.key == p.driver.shape(p.want))
}
