package main

import (
	"errors"
	"sync"
	"time"

	"fairway/confgen/proxy"
	"fairway/confgen/route"
	"fairway/confgen/watch"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// report tells people what passes do: changes as they happen, trouble once when it begins and
// once when it ends, numbers as metrics, all of it on /status. A quiet system logs nothing.
type report struct {
	log     hclog.Logger
	metrics *metrics
	watcher *watch.Watcher
	source  *source

	mu       sync.Mutex
	problems map[route.Problem]bool
	table    route.Table
	state    applyState
	failing  string // what the last pass failed with
	live     uint64 // version of the newest snapshot that is applied
}

// applyState is what is told of applies.
type applyState struct {
	Last      *applyInfo `json:"last,omitempty"`      // the last that changed something
	Checked   time.Time  `json:"checked"`             // when files and proxy were last found equal
	Applied   uint64     `json:"applied"`             // version of the snapshot that is live
	Deferred  string     `json:"deferred,omitempty"`  // why a reload that is needed has to wait
	Error     string     `json:"error,omitempty"`     // why the newest snapshot is not live
	Retired   int        `json:"retired"`             // servers that HAProxy has yet to forget
	Structure string     `json:"structure,omitempty"` // hash that the proxy reports
}

type applyInfo struct {
	Time     time.Time    `json:"time"`
	Action   proxy.Action `json:"action"`
	Reason   string       `json:"reason"`
	Written  []string     `json:"written,omitempty"`
	Commands int          `json:"commands,omitempty"`
	Reloads  int          `json:"reloads,omitempty"`
	Elapsed  string       `json:"elapsed"`
}

func newReport(log hclog.Logger, registry *prometheus.Registry, watcher *watch.Watcher, source *source) *report {
	r := &report{log: log, watcher: watcher, source: source, problems: map[route.Problem]bool{}}
	r.metrics = newMetrics(registry, r)
	return r
}

// built tells of a new table: its problems when they appear and when they are solved.
func (r *report) built(table route.Table) {
	r.metrics.table(table)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := make(map[route.Problem]bool, len(table.Problems))
	for _, p := range table.Problems {
		now[p] = true
		if !r.problems[p] {
			warnProblem(r.log, p)
		}
	}
	for p := range r.problems {
		if !now[p] {
			r.log.Info("problem solved", "service", p.Service, "id", p.Instance, "key", p.Key)
		}
	}
	r.problems, r.table = now, table
}

func warnProblem(log hclog.Logger, p route.Problem) {
	log.Warn("routing label cannot be used", "service", p.Service, "id", p.Instance, "key", p.Key, "reason", p.Reason)
}

// notRendered tells of templates that cannot be executed and returns err.
func (r *report) notRendered(err error) error {
	r.metrics.failures.WithLabelValues("render").Inc()
	r.fail(err)
	return err
}

// applied tells of an Apply and returns its error.
func (r *report) applied(view watch.View, result proxy.Result, err error) error {
	r.metrics.apply(result, err)
	reason := r.note(view, result, err)
	if result.Action != proxy.None || len(result.Written) > 0 {
		r.log.Info("applied", "action", result.Action, "reason", reason, "written", len(result.Written),
			"commands", result.Commands, "reloads", result.Reloads, "elapsed", result.Elapsed.Round(100*time.Microsecond).String())
	}
	if err != nil {
		r.fail(err)
		return err
	}
	r.recover()
	return nil
}

// note keeps what /status tells, and returns why there was something to apply.
func (r *report) note(view watch.View, result proxy.Result, err error) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	reason := "files or proxy were not as they should be"
	switch {
	case r.state.Applied == 0 && view.Restored:
		reason = "start, with the saved snapshot"
	case r.state.Applied == 0:
		reason = "start"
	case view.Version != r.state.Applied:
		reason = "the catalog changed"
	}
	if result.Action != proxy.None || len(result.Written) > 0 {
		r.state.Last = &applyInfo{
			Time: now, Action: result.Action, Reason: reason, Written: result.Written,
			Commands: result.Commands, Reloads: result.Reloads, Elapsed: result.Elapsed.String(),
		}
	}
	r.state.Deferred, r.state.Retired, r.state.Structure = result.Deferred, result.Retired, result.Generation
	if err == nil && result.Deferred == "" {
		if view.Version != r.live && !view.Restored {
			r.metrics.change.Observe(now.Sub(view.Time).Seconds())
		}
		r.live, r.state.Applied, r.state.Checked = view.Version, view.Version, now
	}
	return reason
}

// fail logs an error that is new.
func (r *report) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Error = err.Error()
	kind := errorKind(err)
	if kind != r.failing && kind != notRunning { // readiness tells of that
		level := hclog.Warn
		if kind == "rejected" {
			level = hclog.Error // only a person can mend it; until then the last good one runs
		}
		r.log.Log(level, "not applied, trying again until it is", "reason", kind, "err", err)
	}
	r.failing = kind
}

func (r *report) recover() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing != "" && r.failing != notRunning {
		r.log.Info("applied again")
	}
	r.failing, r.state.Error = "", ""
}

const notRunning = "proxy is not running"

// errorKind sorts errors of a pass, so that each kind is logged once while it lasts.
func errorKind(err error) string {
	switch {
	case rejected(err):
		return "rejected"
	case errors.Is(err, proxy.ErrNotRunning):
		return notRunning
	}
	return "failed"
}
