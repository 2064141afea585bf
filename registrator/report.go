package main

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"fairway/internal/daemon"
	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/service"
)

// pass is all that one pass saw and did.
type pass struct {
	started  time.Time
	node     string
	listing  docker.Listing
	plan     service.Plan
	observed catalog.Observed
	changes  service.Changes // as the difference says; fresh words of checks are written silently
	result   catalog.Result
}

// report tells people what passes do: changes as they happen, trouble once when it begins and
// once when it ends, numbers as metrics. A quiet system logs nothing.
type report struct {
	log     hclog.Logger
	metrics *metrics
	trouble map[string]bool // what is known to be wrong, by its text
}

func newReport(log hclog.Logger, registry *prometheus.Registry) *report {
	return &report{log: log, metrics: newMetrics(registry), trouble: map[string]bool{}}
}

// failed counts a pass that could not be completed and returns its error; readiness logs it.
func (r *report) failed(err error) error {
	r.metrics.passes.Inc()
	r.metrics.failures.Inc()
	return err
}

// done tells of a completed pass.
func (r *report) done(p pass) {
	r.count(p)
	r.written(p)
	r.tellTrouble(p)
}

// written tells of what a pass has written that is not completed.
func (r *report) written(p pass) {
	r.metrics.writes.Add(float64(p.result.Written))
	r.metrics.transactions.Add(float64(p.result.Txns))
	r.tellChanges(p)
}

func (r *report) count(p pass) {
	m := r.metrics
	m.passes.Inc()
	m.duration.Observe(time.Since(p.started).Seconds())
	m.rows.Set(float64(len(p.plan.Registrations)))
	m.problems.Set(float64(len(p.plan.Problems) + len(p.changes.Problems)))
	m.refused.Set(float64(len(p.result.Refused)))
	m.unread.Set(float64(len(p.listing.Failed)))
	m.success.SetToCurrentTime()
}

func (r *report) tellChanges(p pass) {
	refused := map[string]bool{}
	for _, f := range p.result.Refused {
		refused[f.ID] = true
	}
	for _, id := range p.result.Later {
		refused[id] = true
	}
	if p.observed.NodeChange != "" {
		r.log.Info("node written", "node", p.node, "reason", p.observed.NodeChange)
	}
	before := map[string]bool{}
	for _, row := range p.observed.Rows {
		before[row.ID] = true
	}
	for _, row := range p.changes.Put {
		row.Status, row.Output = row.Health()
		switch {
		case refused[row.ID]:
		case before[row.ID]:
			r.log.Info("changed", "id", row.ID, "service", row.Name, "address", hostPortOf(row), "status", row.Status, "reason", row.Output)
		default:
			r.log.Info("registered", "id", row.ID, "service", row.Name, "address", hostPortOf(row), "status", row.Status, "reason", row.Output)
		}
	}
	for _, id := range p.changes.Delete {
		if !refused[id] {
			r.log.Info("deregistered", "id", id)
		}
	}
}

// tellTrouble logs what is newly wrong and what is well again.
func (r *report) tellTrouble(p pass) {
	now := map[string]bool{}
	tell := func(message string, pairs ...any) {
		key := fmt.Sprint(message, pairs)
		if now[key] = true; !r.trouble[key] {
			r.log.Warn(message, pairs...)
		}
	}
	registered := map[string]bool{}
	for _, d := range p.plan.Decisions {
		registered[d.Container] = registered[d.Container] || len(d.Rows) > 0
	}
	for _, problem := range slices.Concat(p.plan.Problems, p.changes.Problems) {
		message := "label cannot be used, the rest of the container is registered"
		if !registered[problem.Container] {
			message = "label cannot be used, nothing of the container is registered"
		}
		tell(message, "container", problem.Container, "label", problem.Label, "reason", problem.Reason)
	}
	for _, name := range slices.Sorted(maps.Keys(p.listing.Failed)) {
		tell("container cannot be read, its rows are kept", "container", name, "reason", p.listing.Failed[name].Error())
	}
	for _, f := range p.result.Refused {
		tell("consul refuses a row, trying again and again", "id", f.ID, "reason", f.Err.Error())
	}
	if len(r.trouble) > 0 && len(now) == 0 {
		r.log.Info("all containers are registered as they ask for")
	}
	r.trouble = now
}

// metrics are the numbers of registrator, all named fairway_registrator_….
type metrics struct {
	passes, failures, writes, transactions   prometheus.Counter
	rows, problems, refused, unread, success prometheus.Gauge
	duration                                 prometheus.Histogram
}

func newMetrics(registry *prometheus.Registry) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fairway", Subsystem: "registrator", Name: name, Help: help})
		registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fairway", Subsystem: "registrator", Name: name, Help: help})
		registry.MustRegister(g)
		return g
	}
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "fairway", Subsystem: "registrator", Name: "pass_duration_seconds",
		Help: "Time of a completed pass.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
	})
	registry.MustRegister(duration)
	return &metrics{
		passes:       counter("passes_total", "Passes made, completed or not."),
		failures:     counter("pass_failures_total", "Passes that could not be completed because Docker or Consul did not answer."),
		writes:       counter("writes_total", "Rows written to or removed from Consul."),
		transactions: counter("transactions_total", "Transactions sent to Consul."),
		rows:         gauge("rows", "Services that this node's containers ask for."),
		problems:     gauge("problems", "Labels and variables that cannot be used."),
		refused:      gauge("refused_rows", "Rows that Consul refuses."),
		unread:       gauge("unread_containers", "Containers that Docker does not tell about, whose rows are kept."),
		success:      gauge("last_success_timestamp_seconds", "When the last pass was completed."),
		duration:     duration,
	}
}

// part is something the program needs that may be away: a condition of readiness, which logs its
// changes, and a gauge.
type part struct {
	condition *daemon.Condition
	up        prometheus.Gauge
}

func newPart(d *daemon.Daemon, name string) part {
	up := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "fairway", Subsystem: "registrator", Name: strings.ReplaceAll(name, "-", "_") + "_up", Help: "1 while " + name + " is well.",
	})
	d.Metrics.MustRegister(up)
	return part{d.Condition(name), up}
}

// Set says that the part is well (nil), or what is wrong with it.
func (p part) Set(err error) {
	p.condition.Set(err)
	if err != nil {
		p.up.Set(0)
		return
	}
	p.up.Set(1)
}

// hostPortOf is where a row says that its service is reached.
func hostPortOf(row service.Registration) string {
	return net.JoinHostPort(row.Address, strconv.Itoa(row.Port))
}
