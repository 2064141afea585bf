package watch

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/consul/api"
)

// The delay after a failed read: doubling, with jitter.
const (
	backoffMin = 200 * time.Millisecond
	backoffMax = 30 * time.Second
)

// pauseMax is the longest pause for everybody: a server under load is not left alone for long.
const pauseMax = 5 * time.Second

// backoff returns the delay after so many failures in a row.
func backoff(failures int) time.Duration {
	d := backoffMax
	if failures < 8 {
		d = min(backoffMin<<max(failures-1, 0), backoffMax)
	}
	return d/2 + rand.N(d/2)
}

// pace bounds how many questions are on their way at once. A refusal for load halves the bound
// and pauses everybody; each answer gives a little back.
type pace struct {
	most   float64
	limit  float64
	strain int // refusals in a row
	until  time.Time
}

func newPace(most int) pace { return pace{most: float64(most), limit: float64(most)} }

// allows reports whether one more question may be asked beside those on their way.
func (p *pace) allows(now time.Time, busy int) bool {
	return !now.Before(p.until) && busy < int(p.limit)
}

// pausedUntil returns when questions may be asked again; zero when they may now.
func (p *pace) pausedUntil(now time.Time) time.Time {
	if now.Before(p.until) {
		return p.until
	}
	return time.Time{}
}

// heard takes in the outcome of one question. It returns true when it slows down a pace that was
// full until now.
func (p *pace) heard(err error, now time.Time) bool {
	switch {
	case err == nil:
		p.strain = 0
		p.limit = min(p.limit+1/(4*p.limit), p.most)
	case strained(err):
		if now.Before(p.until) {
			return false // asked before the pause began
		}
		first := p.strain == 0 && p.limit == p.most
		p.strain++
		p.limit = max(p.limit/2, 1)
		p.until = now.Add(min(backoff(p.strain), pauseMax))
		return first
	}
	return false
}

// strained reports whether err says that the server cannot take what it is asked: it refuses for
// load, or it does not answer at all. An answer that makes no sense concerns its service only.
func strained(err error) bool {
	if s, ok := errors.AsType[api.StatusError](err); ok {
		return s.Code == http.StatusTooManyRequests || s.Code == http.StatusServiceUnavailable
	}
	_, transport := errors.AsType[*url.Error](err)
	return transport
}
