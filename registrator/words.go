package main

import (
	"slices"
	"strings"
	"time"

	"fairway/registrator/service"
)

// wordsAge is the least time between two writes of a row that differ in nothing but the words of
// its check.
const wordsAge = time.Minute

// words keep the output of checks fresh: what a probe says while its verdict stays the same is
// written, too, but at most once a minute for each row. A row whose words never change costs
// nothing, and after a start every row has the words it has for a minute.
type words struct {
	since map[string]time.Time // by ID: when the row was written or its words were first seen
}

// freshen adds the rows to changes whose words are due.
func (w *words) freshen(changes service.Changes, plan service.Plan, now time.Time) service.Changes {
	since := make(map[string]time.Time, len(plan.Registrations))
	for _, row := range plan.Registrations {
		at, known := w.since[row.ID]
		if !known {
			at = now
		}
		since[row.ID] = at
	}
	w.since = since
	put := slices.Clone(changes.Put)
	for _, row := range changes.Stale {
		if now.Sub(since[row.ID]) >= wordsAge {
			put = append(put, row)
		}
	}
	for _, row := range put {
		since[row.ID] = now
	}
	slices.SortFunc(put, func(a, b service.Registration) int { return strings.Compare(a.ID, b.ID) })
	changes.Put = put
	return changes
}
