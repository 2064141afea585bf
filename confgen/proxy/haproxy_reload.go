package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"fairway/confgen/proxy/haproxy"
	"fairway/internal/reconcile"
)

// resend is how long to wait for a sign of a reload before it is asked for again: HAProxy 2.6
// loses a signal that comes while it still handles the one before.
const resend = 2 * time.Second

// quickReload is how long a reload is looked at often: a small one takes 50 to 150 ms, and changes of
// servers that have just missed it wait for its end.
const quickReload = 300 * time.Millisecond

// reload asks for a reload until the master lists a new worker and that worker reports the
// generation of t. The first answer of the new worker alone would be too early: the master is
// not ready for the next reload before it lists it.
func (d *haproxyDriver) reload(ctx context.Context, t tree, before status) (attempts int, err error) {
	limited, cancel := context.WithTimeoutCause(ctx, d.timeout, errReloadTimeout)
	defer cancel()
	// What d has seen is its own: an Apply may be at work with it meanwhile.
	own := &haproxyDriver{HAProxy: d.HAProxy, stats: d.stats, master: d.master, timeout: d.timeout, log: d.log, seen: true, mute: d.mute}
	r := &reloading{haproxyDriver: own, want: t, before: before}
	r.announce(limited, t, true)
	if err = r.count(limited); err == nil {
		err = r.run(limited)
	}
	if err != nil {
		r.announce(ctx, t, false)
	}
	if ctx.Err() == nil && limited.Err() != nil {
		err = r.reject(fmt.Sprintf("not confirmed within %s after %d attempts: %s", d.timeout, r.attempts, r.last))
	}
	return r.attempts, err
}

var errReloadTimeout = errors.New("reload was not confirmed in time")

// reloading is one reload on its way.
type reloading struct {
	*haproxyDriver
	want     tree
	before   status
	procs    haproxy.Processes // before the reload
	attempts int
	last     string // what was missing when it was last looked at
}

// count notes the workers that are there before the reload.
func (r *reloading) count(ctx context.Context) error {
	for {
		var err error
		if r.procs, err = r.processes(ctx); err == nil {
			return nil
		}
		if haproxy.Absent(err) && r.gone(ctx) {
			return fmt.Errorf("reload: %w: %w", ErrNotRunning, err)
		}
		r.last = "the master does not answer: " + err.Error()
		if err := reconcile.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func (r *reloading) run(ctx context.Context) error {
	interval, began := 5*time.Millisecond, time.Now()
	var asked time.Time
	for {
		if asked.IsZero() || time.Since(asked) > resend {
			if err := r.ask(ctx); err != nil {
				return err
			}
			asked = time.Now()
		}
		done, silent, err := r.look(ctx)
		if done || err != nil {
			return err
		}
		if silent {
			asked = time.Now() // A master that loads does not answer: it is at work, do not ask again.
		}
		if err := reconcile.Sleep(ctx, interval); err != nil {
			return err
		}
		if time.Since(began) > quickReload {
			interval = min(interval*5/4, 50*time.Millisecond)
		}
	}
}

// ask sends the reload. A master that executes itself refuses connections for a moment.
func (r *reloading) ask(ctx context.Context) error {
	r.attempts++
	if r.MasterSocket == "" {
		if err := r.Signal.Signal(ctx, syscall.SIGUSR2); err != nil {
			return fmt.Errorf("reload: %w", err)
		}
		return nil
	}
	for {
		verdict, err := r.master.Reload(ctx, r.timeout)
		switch {
		case err == nil && verdict.Known && !verdict.Success:
			return r.reject(verdict.Log)
		case err == nil && !verdict.Busy:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case verdict.Busy:
			err = errors.New("another reload is still in progress")
		case !haproxy.Absent(err) && !errors.Is(err, syscall.EPIPE):
			return fmt.Errorf("reload: %w", err)
		case r.gone(ctx):
			return fmt.Errorf("reload: %w: %w", ErrNotRunning, err)
		}
		r.last = err.Error()
		if err := reconcile.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// gone tells a master that is between two lives from one that has ended: after a while its
// worker does not answer either.
func (r *reloading) gone(ctx context.Context) bool {
	_, err := r.status(ctx)
	return errors.Is(err, ErrNotRunning)
}

// look reports whether the reload is done; silent means that the master does not answer now.
func (r *reloading) look(ctx context.Context) (done, silent bool, err error) {
	if r.MasterSocket != "" {
		procs, err := r.processes(ctx)
		if ctx.Err() != nil {
			return false, false, ctx.Err() // What was missing before says more.
		}
		if err != nil {
			r.last = "the master does not answer: " + err.Error()
			return false, !haproxy.Absent(err) || !r.gone(ctx), nil
		}
		if procs.Failed > 0 && procs.Reloads != r.procs.Reloads {
			return false, false, r.reject("the master reports a failed reload; HAProxy's log says why")
		}
		if len(procs.Workers) == 0 || slices.ContainsFunc(procs.Workers, r.known) {
			r.last = "the master lists no new worker"
			return false, false, nil
		}
	}
	info, err := r.workerInfo(ctx)
	if ctx.Err() != nil {
		return false, false, ctx.Err()
	}
	if err != nil {
		r.last = "the new worker does not answer: " + err.Error()
		return false, false, nil
	}
	if instance(info) == r.before.instance {
		r.last = "the old worker still answers"
		return false, false, nil
	}
	if r.want.marked && !r.want.runs(info.Description) {
		r.last = fmt.Sprintf("the new worker reports %q", info.Description)
		return false, false, nil
	}
	return true, false, nil
}

// known reports whether a worker was there before the reload.
func (r *reloading) known(pid int) bool {
	return slices.Contains(r.procs.Workers, pid) || slices.Contains(r.procs.Old, pid)
}

func (r *reloading) reject(output string) error {
	return &RejectedError{By: "reload", Generation: r.want.generation, Output: output}
}
