package catalog

import (
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"fairway/registrator/service"
)

const (
	refusedRetryMin = 100 * time.Millisecond
	refusedRetryMax = time.Minute
)

// refusal remembers a row that was refused, so that it alone is tried less and less often.
type refusal struct {
	row   service.Registration // zero for a deletion
	err   error
	until time.Time
	wait  *backoff.ExponentialBackOff
}

// refusals are the rows that Consul does not take, by service ID.
type refusals map[string]*refusal

// due reports whether a row is to be tried now: it was not refused, or what is asked has changed
// since, or it has waited long enough.
func (m refusals) due(id string, row service.Registration, now time.Time) bool {
	f := m[id]
	return f == nil || !f.row.Equal(row) || !now.Before(f.until)
}

// add notes a refusal; each puts the next try off further.
func (m refusals) add(id string, row service.Registration, why error) {
	f := m[id]
	if f == nil || !f.row.Equal(row) {
		wait := backoff.NewExponentialBackOff()
		wait.InitialInterval, wait.MaxInterval, wait.Multiplier = refusedRetryMin, refusedRetryMax, 2
		f = &refusal{row: row, wait: wait}
		m[id] = f
	}
	f.err, f.until = why, time.Now().Add(f.wait.NextBackOff())
}

// report lists what is refused still, and forgets what nobody asks for any more.
func (m refusals) report(r *Result, changes service.Changes, started time.Time) {
	asked := make(map[string]bool, len(changes.Put)+len(changes.Delete))
	for _, row := range changes.Put {
		asked[row.ID] = true
	}
	for _, id := range changes.Delete {
		asked[id] = true
	}
	for id, f := range m {
		if !asked[id] {
			delete(m, id)
			continue
		}
		r.Refused = append(r.Refused, Refused{ID: id, Err: f.err})
		r.again(max(f.until.Sub(started), time.Millisecond))
	}
	slices.SortFunc(r.Refused, func(a, b Refused) int { return strings.Compare(a.ID, b.ID) })
}

// again asks for another pass after d at the latest.
func (r *Result) again(d time.Duration) {
	if r.Again == 0 || d < r.Again {
		r.Again = d
	}
}
