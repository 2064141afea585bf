// Package reconcile runs the loop that both programs are: wake, settle, one pass, and again.
// It owns the only timers of the decision path. A wake carries no information, so wakes may be
// lost into each other but never lost altogether.
package reconcile

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Wake asks for a pass. The zero value is not usable; make one with NewWake.
type Wake chan struct{}

// NewWake returns a Wake that remembers one request.
func NewWake() Wake { return make(Wake, 1) }

// Now asks for a pass and never blocks. Requests made while one is pending are one request.
func (w Wake) Now() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// drain forgets a pending request: the pass about to start answers it.
func (w Wake) drain() {
	select {
	case <-w:
	default:
	}
}

// Options set the pace of a Loop. Zero fields mean: no settling, no minimum interval, no
// resync, and a retry backoff from 100 ms to 30 s.
type Options struct {
	Settle    time.Duration // a pass waits for this much quiet after a wake …
	SettleMax time.Duration // … but never longer than this after the first wake
	Interval  time.Duration // at least this long from the start of one pass to the next …
	Burst     int           // … but so many in a row may start at once after a quiet time; 1 when zero
	Resync    time.Duration // a pass at least this often, with ±10 % jitter
	RetryMin  time.Duration // first delay after a failed pass
	RetryMax  time.Duration // longest delay after repeated failures
	Failed    func(err error, retryIn time.Duration)
}

// Loop runs pass once at once and then after every wake, resync and failure, never two at a
// time, until ctx ends; it returns nil then. A failed pass is run again after a delay that grows
// with jitter; a wake does not shorten that delay below RetryMin, so that a storm of events
// cannot turn an outage into a stampede.
func Loop(ctx context.Context, wake Wake, opt Options, pass func(context.Context) error) error {
	l := newLoop(opt)
	for {
		wake.drain()
		l.begun(time.Now())
		err := pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !l.wait(ctx, wake, err) {
			return nil
		}
	}
}

type loop struct {
	opt   Options
	retry *backoff.ExponentialBackOff
	spent time.Time // when the passes begun so far would end, were each as long as the interval
}

func newLoop(opt Options) *loop {
	if opt.RetryMin == 0 {
		opt.RetryMin = 100 * time.Millisecond
	}
	if opt.RetryMax == 0 {
		opt.RetryMax = 30 * time.Second
	}
	opt.SettleMax = max(opt.SettleMax, opt.Settle)
	opt.Burst = max(opt.Burst, 1)
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = opt.RetryMin, opt.RetryMax, 2
	b.Reset()
	return &loop{opt: opt, retry: b}
}

// begun counts a pass that begins now.
func (l *loop) begun(now time.Time) {
	if l.spent.Before(now) {
		l.spent = now
	}
	l.spent = l.spent.Add(l.opt.Interval)
}

// due is when the next pass may begin.
func (l *loop) due() time.Time {
	return l.spent.Add(-time.Duration(l.opt.Burst-1) * l.opt.Interval)
}

// wait blocks until the next pass is due; it returns false when ctx ended first.
func (l *loop) wait(ctx context.Context, wake Wake, err error) bool {
	if err != nil {
		return l.waitRetry(ctx, wake, err)
	}
	l.retry.Reset()
	if !l.waitWake(ctx, wake) {
		return false
	}
	if !l.settle(ctx, wake) {
		return false
	}
	return Sleep(ctx, time.Until(l.due())) == nil
}

func (l *loop) waitRetry(ctx context.Context, wake Wake, err error) bool {
	d := max(l.retry.NextBackOff(), l.opt.RetryMin)
	if l.opt.Failed != nil {
		l.opt.Failed(err, d)
	}
	if Sleep(ctx, l.opt.RetryMin) != nil {
		return false
	}
	t := time.NewTimer(d - l.opt.RetryMin)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return true
}

func (l *loop) waitWake(ctx context.Context, wake Wake) bool {
	var resync <-chan time.Time
	if l.opt.Resync > 0 {
		t := time.NewTimer(jitter(l.opt.Resync))
		defer t.Stop()
		resync = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-resync:
	}
	return true
}

// settle waits until no wake has come for Settle, at most SettleMax.
func (l *loop) settle(ctx context.Context, wake Wake) bool {
	if l.opt.Settle <= 0 {
		return true
	}
	limit := time.NewTimer(l.opt.SettleMax)
	defer limit.Stop()
	quiet := time.NewTimer(l.opt.Settle)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-limit.C:
			return true
		case <-quiet.C:
			return true
		case <-wake:
			quiet.Reset(l.opt.Settle)
		}
	}
}

// Sleep waits for d, which may be nothing; it returns the error of a context that ended first.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// jitter spreads d by ±10 %.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)/5*float64(d))
}
