package consul

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/consul/api"
	"golang.org/x/time/rate"
)

// WatchOptions tune Watch. Zero fields take the defaults named.
type WatchOptions struct {
	Wait        time.Duration // how long Consul may hold a query; 1 minute
	MinInterval time.Duration // sustained time from query to query, with room for a burst; 20 ms
	RetryMin    time.Duration // first delay after an error; 100 ms
	RetryMax    time.Duration // longest delay after repeated errors; 10 s
	// Failed is told of every error and of the delay before the next try; nil for no one.
	Failed func(err error, retryIn time.Duration)
}

// rereadEvery bounds how often answers that come early without news lead to a full read.
const rereadEvery = 5 * time.Second

// burst is how many queries may follow each other at once before MinInterval applies.
const burst = 10

// Watch follows one blocking query until ctx ends and then returns an error. It calls got for
// the first answer, for every answer with a new index, and for the first answer after an error.
// The index rules are Consul's (https://developer.hashicorp.com/consul/api-docs/features/blocking):
// an index that went backwards, and an error, start again from a full read; an index is never
// below 1, so that a server that says 0 is not asked in a hot loop. A server whose state is replaced, by a
// restored snapshot, ends the query early with the index of before, and would then say nothing of it until
// the next change: whether it is that, a full read tells, now and then.
//
// A full read is a consistent one (QueryOptions.RequireConsistent), and none but such a read brings an index
// that went backwards: a server that starts again, or has just become the leader, applies its log first, and
// while it does it answers other reads with what was long ago.
func Watch[T any](ctx context.Context, query func(*api.QueryOptions) (T, *api.QueryMeta, error), opt WatchOptions, got func(T, *api.QueryMeta)) error {
	opt = opt.withDefaults()
	limit := rate.NewLimiter(rate.Every(opt.MinInterval), burst)
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = opt.RetryMin, opt.RetryMax
	var index, known uint64 // to wait on, and of what was handed on last; 0 when that must be read again
	var reread time.Time
	for {
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		asked := time.Now()
		value, meta, err := ask(ctx, query, index, opt.Wait)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			index, known = 0, 0
			if !pause(ctx, retry.NextBackOff(), err, opt.Failed) {
				return ctx.Err()
			}
		case index != 0 && max(meta.LastIndex, 1) < known:
			index = 0
		default:
			retry.Reset()
			now := max(meta.LastIndex, 1)
			if now != known {
				got(value, meta)
			}
			early := index != 0 && now == index && time.Since(asked) < opt.Wait
			index, known = now, now
			if early && time.Since(reread) > rereadEvery {
				index, reread = 0, time.Now()
			}
		}
	}
}

// ask makes one query that ends even when the server has gone silent. Consul adds up to a
// sixteenth to the wait.
func ask[T any](ctx context.Context, query func(*api.QueryOptions) (T, *api.QueryMeta, error), index uint64, wait time.Duration) (T, *api.QueryMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+wait/16+10*time.Second)
	defer cancel()
	q := &api.QueryOptions{WaitIndex: index, WaitTime: wait, RequireConsistent: index == 0}
	return query(q.WithContext(ctx))
}

func pause(ctx context.Context, d time.Duration, err error, failed func(error, time.Duration)) bool {
	if failed != nil {
		failed(err, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func (o WatchOptions) withDefaults() WatchOptions {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.Wait, time.Minute)
	set(&o.MinInterval, 20*time.Millisecond)
	set(&o.RetryMin, 100*time.Millisecond)
	set(&o.RetryMax, 10*time.Second)
	return o
}
