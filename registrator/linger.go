package main

import (
	"context"
	"time"

	"fairway/registrator/service"
)

const (
	// lingerStep is how often it is looked whether the containers that end with us have ended.
	lingerStep = 100 * time.Millisecond
	// lingerMore is how much longer than --stop-linger that may take. Docker kills after ten seconds.
	lingerMore = 5 * time.Second
)

// linger returns a context that outlives ctx, so that registrator goes on for a moment after it
// was asked to end: where a node is drained or a stack removed, its neighbours are told to stop
// just after it, and nobody else says so to the front ends. It goes on until none of those that
// serve is about to end. Without Docker, or where all rows go anyway, there is nothing to wait for.
func (p *program) linger(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.opt.StopLinger <= 0 || p.opt.Deregister {
		return context.WithCancel(ctx)
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		defer cancel()
		p.outstay(longer)
	})
	return longer, func() { stop(); cancel() }
}

// outstay returns when nothing ends any more.
func (p *program) outstay(ctx context.Context) {
	if err := p.dockerListens(ctx); err != nil {
		return
	}
	p.d.Log.Info("asked to end", "goes_on_for", p.opt.StopLinger.String())
	ctx, cancel := context.WithTimeout(ctx, p.opt.StopLinger+lingerMore)
	defer cancel()
	for wait := p.opt.StopLinger; ; wait = lingerStep {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if p.ending.Load() == 0 {
			return
		}
	}
}

// ending counts the rows of containers that are about to end.
func ending(plan service.Plan) (n int64) {
	for _, r := range plan.Registrations {
		if r.Status == service.Critical && r.Output == service.Stopping {
			n++
		}
	}
	return n
}
