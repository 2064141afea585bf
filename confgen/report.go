package main

import (
	"sync"
	"time"

	"fairway/confgen/certs"
	"fairway/confgen/proxy"
	"fairway/confgen/route"
	"fairway/confgen/watch"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// report tells people what passes do: changes as they happen, trouble once when it begins and
// once when it ends, numbers as metrics, all of it on /status. A quiet system logs nothing.
type report struct {
	proxy   string // its name, "" when it has none
	start   string // why there is something to apply at first
	log     hclog.Logger
	metrics *metrics
	watcher *watch.Watcher
	source  *source
	config  *reloadState

	mu       sync.Mutex
	problems map[route.Problem]bool
	table    route.Table
	state    applyState
	edition  int       // of the templates that are live
	ended    time.Time // when the last apply that was not put off began
	held     certs.Contents
	live     int // version of the certificates that are

	trouble trouble // used by passes only
}

// applyState is what is told of applies.
type applyState struct {
	Last      *applyInfo `json:"last,omitempty"`      // the last that changed something
	Checked   time.Time  `json:"checked"`             // when files and proxy were last found equal
	Applied   uint64     `json:"applied"`             // version of the snapshot that is live
	Deferred  string     `json:"deferred,omitempty"`  // why a reload that is needed has to wait
	Error     string     `json:"error,omitempty"`     // why the newest snapshot is not live
	Retired   int        `json:"retired"`             // servers that HAProxy has yet to forget
	Pinned    string     `json:"pinned,omitempty"`    // generation that is held on to, whatever the catalog says
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

func newReport(name string, log hclog.Logger, registry prometheus.Registerer, watcher *watch.Watcher, source *source, config *reloadState) *report {
	r := &report{
		proxy: name, start: "start", log: log, watcher: watcher, source: source, config: config, problems: map[route.Problem]bool{},
		trouble: trouble{log: log, since: time.Now()},
	}
	r.metrics = newMetrics(registry, source.Err)
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
	if p.Key == quarantineKey { // only a person can mend it
		log.Error("service in quarantine, all others go on", "service", p.Service, "reason", p.Reason)
		return
	}
	log.Warn("routing label cannot be used", "service", p.Service, "id", p.Instance, "key", p.Key, "reason", p.Reason)
}

// holds takes note of what the certificate store has.
func (r *report) holds(h inventory) {
	r.metrics.certificates(h.Contents)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = h.Contents
}

// claimed tells of a folder that cannot be used and returns err.
func (r *report) claimed(err error) error {
	if err != nil {
		r.metrics.failures.WithLabelValues(string(failureOf(err))).Inc()
		r.trouble.begin(failureOf(err), err)
	}
	r.setError(err)
	return err
}

// notRendered tells of templates that cannot be executed and returns err.
func (r *report) notRendered(err error) error {
	r.metrics.failures.WithLabelValues(string(failedRender)).Inc()
	r.trouble.begin(failedRender, err)
	r.setError(err)
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
	r.setError(err)
	if err != nil {
		r.trouble.begin(failureOf(err), err)
		return err
	}
	if r.ready(result) {
		r.trouble.end()
	}
	return nil
}

// ready reports whether the proxy is as it should be after an Apply that did not fail. Later it may
// wait for a reload and is ready nevertheless; what it runs at the start may be anything.
func (r *report) ready(result proxy.Result) bool { return result.Deferred == "" || r.trouble.seen }

func (r *report) setError(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Error = ""
	if err != nil {
		r.state.Error = oneLine(err)
	}
}

// note keeps what /status tells, and returns why there was something to apply.
func (r *report) note(view watch.View, result proxy.Result, err error) string {
	edition := r.source.edition()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	reason := r.reason(view, edition)
	if result.Action != proxy.None || len(result.Written) > 0 {
		r.state.Last = &applyInfo{
			Time: now, Action: result.Action, Reason: reason, Written: result.Written,
			Commands: result.Commands, Reloads: result.Reloads, Elapsed: result.Elapsed.Round(100 * time.Microsecond).String(),
		}
	}
	r.state.Deferred, r.state.Retired, r.state.Pinned = result.Deferred, result.Retired, result.Pinned
	if result.Deferred == "" {
		r.ended = now.Add(-result.Elapsed)
	}
	if err == nil && result.Deferred == "" {
		if view.Version != r.state.Applied && !view.Restored {
			r.metrics.change.Observe(now.Sub(view.Time).Seconds())
		}
		r.state.Applied, r.state.Checked, r.edition = view.Version, now, edition
		r.live = r.held.Version
		r.state.Structure = result.Generation
	}
	return reason
}

// reason says why there is something to apply that was not there when all was equal last.
func (r *report) reason(view watch.View, edition int) string {
	switch {
	case r.state.Applied == 0 && view.Restored:
		return r.start + ", with the saved snapshot"
	case r.state.Applied == 0:
		return r.start
	case view.Version != r.state.Applied:
		return "the catalog changed"
	case r.held.Version != r.live:
		return "a certificate changed"
	case edition != r.edition:
		return "a template changed"
	}
	return "files or proxy were not as they should be"
}
