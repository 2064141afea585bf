package watch

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Counts are totals since the start.
type Counts struct {
	Reads  uint64 `json:"reads"`  // services read
	Probes uint64 `json:"probes"` // nodes asked whether anything changed
	Sweeps uint64 `json:"sweeps"`
	Hints  uint64 `json:"hints"` // of registrators, on what they changed
}

// Status says what a Watcher knows and what it lacks.
type Status struct {
	Err       string            `json:"error,omitempty"`   // why consul cannot be followed now
	Fresh     time.Time         `json:"fresh"`             // when everything was known and true last; zero for never
	Mode      Way               `json:"mode,omitempty"`    // how changes are noticed
	Reason    string            `json:"reason,omitempty"`  // for the mode
	Services  int               `json:"services"`          // in the catalog
	Routed    int               `json:"routed"`            // of them carrying routing keys
	Instances int               `json:"instances"`         // of the routed ones
	Missing   []string          `json:"missing,omitempty"` // asked for and not answered yet; at most maxMissing
	Overrides int               `json:"overrides"`         // values that operators set live
	Failing   map[string]string `json:"failing,omitempty"` // services, and prefixes of keys, that cannot be read now, and why
	Held      string            `json:"held,omitempty"`    // why the newest answer is not believed
	Losses    []Held            `json:"losses,omitempty"`  // of single services, not believed yet
	Narrow    bool              `json:"narrow,omitempty"`  // only checks that are not passing are followed
	Counts    Counts            `json:"counts"`
}

// maxMissing bounds Status.Missing.
const maxMissing = 20

// Status returns what is known now, or the zero Status when ctx or Run ends first.
func (w *Watcher) Status(ctx context.Context) Status {
	got := make(chan Status, 1)
	select {
	case w.events <- func(k *keeper) { got <- k.status() }:
		return <-got
	case <-ctx.Done():
	case <-w.stopped:
	}
	return Status{}
}

func (k *keeper) status() Status {
	out := Status{
		Fresh: k.freshAt, Mode: k.mode, Reason: k.reason, Services: k.inCatalog, Held: k.guard.held, Losses: k.losses.list(),
		Narrow: k.mode == Aggregate && k.watcher.narrow.Load(), Overrides: len(k.overrides.list), Counts: k.counts, Failing: map[string]string{},
	}
	out.Counts.Sweeps = k.sweep.count
	if err := k.condition(); err != nil {
		out.Err = err.Error()
	} else {
		out.Fresh = time.Now()
	}
	for _, name := range slices.Sorted(maps.Keys(k.polls)) {
		if !k.polls[name].answered {
			out.Missing = append(out.Missing, name)
		}
	}
	if err := k.overrides.err; err != nil {
		out.Failing[pollOverrides] = err.Error()
	}
	if err := k.hints.err; err != nil && refused(err) {
		out.Failing[pollHints] = err.Error()
	}
	for _, name := range slices.Sorted(maps.Keys(k.services)) {
		s := k.services[name]
		if !s.answered && len(out.Missing) < maxMissing {
			out.Missing = append(out.Missing, name)
		}
		if s.err != nil {
			out.Failing[name] = s.err.Error()
		}
		if len(s.instances) > 0 {
			out.Routed++
			out.Instances += len(s.instances)
		}
	}
	return out
}
