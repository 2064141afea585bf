// Package load asks a front end for the same page over and over, from several
// clients at once, and counts what went wrong.
//
// It never asks twice for one answer. net/http's Transport silently repeats an
// idempotent request whose kept connection turned out to be dead, and so hides
// exactly the failures that a reload or a vanishing server causes. Here each
// worker owns one net.Conn, writes one request and reads one answer; whatever
// goes wrong in between is a failure, and is counted under its kind.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what to ask for, how hard, and for how long.
type Options struct {
	// Address is the host:port to connect to, without any scheme.
	Address string
	// Host is the Host header; empty means Address.
	Host string
	// Path is the path and query to ask for; empty means "/".
	Path string

	// KeepAlive is the number of workers that send request after request over
	// one connection, for as long as the server keeps it open.
	KeepAlive int
	// NewConn is the number of workers that open a connection for each request.
	NewConn int

	// Requests ends the run after so many requests; 0 means no such bound.
	Requests int64
	// Duration ends the run after so long; 0 means no such bound.
	Duration time.Duration
	// Rate is the number of requests a second that all workers together start,
	// on average, at random moments, as independent clients do: evenly spaced
	// ones fall into step with a round robin. 0 means as many as they can.
	Rate float64
	// Timeout bounds one request, connecting included; 0 means ten seconds.
	Timeout time.Duration

	// ServedBy names the answer's header by which answers are counted per
	// server; empty means X-Served-By.
	ServedBy string
}

// withDefaults fills what was left empty and refuses what cannot be run.
func (o Options) withDefaults() (Options, error) {
	if _, _, err := net.SplitHostPort(o.Address); err != nil {
		return o, fmt.Errorf("address: %w", err)
	}
	if o.KeepAlive < 0 || o.NewConn < 0 || o.KeepAlive+o.NewConn == 0 {
		return o, errors.New("at least one worker is needed, and no number of workers may be negative")
	}
	if o.Requests < 0 || o.Duration < 0 || o.Rate < 0 || o.Timeout < 0 {
		return o, errors.New("requests, duration, rate and timeout must not be negative")
	}
	if o.Host == "" {
		o.Host = o.Address
	}
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.ServedBy == "" {
		o.ServedBy = "X-Served-By"
	}
	return o, nil
}

// request is the bytes that a worker sends, the same each time.
func (o Options) request(closing bool) ([]byte, error) {
	target, err := url.ParseRequestURI(o.Path)
	if err != nil || target.Host != "" {
		return nil, fmt.Errorf("path %q: must begin with a slash and be a valid request target", o.Path)
	}
	request := &http.Request{
		Method: http.MethodGet, URL: target, Host: o.Host,
		Header: http.Header{"User-Agent": {"fairway-load"}, "Accept": {"*/*"}},
		Close:  closing,
	}
	var text bytes.Buffer
	if err := request.Write(&text); err != nil {
		return nil, fmt.Errorf("request for host %q: %w", o.Host, err)
	}
	return text.Bytes(), nil
}

// Run is a load under way.
type Run struct {
	opt      Options
	starting context.Context    // ends when no further request is to be started
	stop     context.CancelFunc // ends starting
	turns    *turns             // nil without a rate
	tickets  atomic.Int64       // requests started
	workers  sync.WaitGroup
	tally    tally
}

// Start begins to ask and returns at once. Ending ctx aborts the run: requests
// under way are cut and not counted. Stop ends it properly.
func Start(ctx context.Context, opt Options) (*Run, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	kept, err := opt.request(false)
	if err != nil {
		return nil, err
	}
	single, err := opt.request(true)
	if err != nil {
		return nil, err
	}

	r := &Run{opt: opt}
	if opt.Duration > 0 {
		r.starting, r.stop = context.WithTimeout(ctx, opt.Duration)
	} else {
		r.starting, r.stop = context.WithCancel(ctx)
	}
	if opt.Rate > 0 {
		r.turns = &turns{mean: time.Duration(float64(time.Second) / opt.Rate)}
	}
	r.tally.begin(time.Now())
	for range opt.KeepAlive {
		r.workers.Go(func() { r.work(ctx, &worker{opt: opt, client: KeepAlive, request: kept, keep: true}) })
	}
	for range opt.NewConn {
		r.workers.Go(func() { r.work(ctx, &worker{opt: opt, client: NewConnection, request: single}) })
	}
	return r, nil
}

// Requests is how many requests have been counted so far.
func (r *Run) Requests() int64 { return r.tally.requests() }

// Stop starts no further request, waits for those under way and returns what
// was counted.
func (r *Run) Stop() Report {
	r.stop()
	return r.Wait()
}

// Wait returns what was counted once the run has reached one of its bounds, or
// was stopped or aborted.
func (r *Run) Wait() Report {
	r.workers.Wait()
	r.stop() // Frees the timer.
	return r.tally.report()
}

// afterFailure is how long a worker rests after a failed request, so that an
// outage is counted in requests of a patient client and not in turns of a loop.
const afterFailure = 10 * time.Millisecond

// work sends requests until the run ends.
func (r *Run) work(ctx context.Context, w *worker) {
	defer w.hangUp()
	for r.mayStart() {
		result := w.exchange(ctx)
		if ctx.Err() != nil {
			return // Cut by us: says nothing about the server.
		}
		r.tally.add(result)
		if result.failed() {
			rest := time.NewTimer(afterFailure)
			select {
			case <-rest.C:
			case <-r.starting.Done():
				rest.Stop()
			}
		}
	}
}

// mayStart waits for this worker's turn and says whether there is one.
func (r *Run) mayStart() bool {
	if r.starting.Err() != nil {
		return false
	}
	if r.opt.Requests > 0 && r.tickets.Add(1) > r.opt.Requests {
		return false
	}
	return r.turns == nil || r.turns.wait(r.starting)
}

// turns hands out the moments at which requests start: a Poisson process.
type turns struct {
	mean time.Duration // between two of them

	mu   sync.Mutex
	next time.Time
}

// wait waits for the next free moment; false when the end comes before it.
// Moments that nobody was free for are not made up for.
func (t *turns) wait(ctx context.Context) bool {
	t.mu.Lock()
	if now := time.Now(); t.next.Before(now) {
		t.next = now
	}
	turn := t.next
	t.next = turn.Add(time.Duration(rand.ExpFloat64() * float64(t.mean)))
	t.mu.Unlock()

	timer := time.NewTimer(time.Until(turn))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
