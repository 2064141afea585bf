package main

import (
	"context"
	"time"

	"fairway/confgen/certs"
	"fairway/confgen/proxy"
	"fairway/confgen/route"
	"fairway/confgen/watch"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "fairway_confgen"

// metrics are the numbers of confgen, all named fairway_confgen_….
type metrics struct {
	applies, failures                             *prometheus.CounterVec
	reloads, commands                             prometheus.Counter
	duration, change                              prometheus.Histogram
	routes, backends, problems, deferred, retired prometheus.Gauge
	quarantined, pinned                           prometheus.Gauge
	servers                                       *prometheus.GaugeVec
	notAfter                                      *prometheus.GaugeVec
	faults                                        prometheus.Gauge
}

// templateMetric tells whether the newest templates are in use.
func templateMetric(err func() error) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "template_error", Help: "1 while the newest templates cannot be used.",
	}, func() float64 {
		if err() != nil {
			return 1
		}
		return 0
	})
}

// numbers is where the metrics of one proxy are registered, with its name as a label where it has
// one. They go when the proxy does.
type numbers struct {
	prometheus.Registerer
	all []prometheus.Collector
}

func newNumbers(registry prometheus.Registerer, name string) *numbers {
	if name != "" {
		registry = prometheus.WrapRegistererWith(prometheus.Labels{"proxy": name}, registry)
	}
	return &numbers{Registerer: registry}
}

// MustRegister implements prometheus.Registerer.
func (n *numbers) MustRegister(list ...prometheus.Collector) {
	n.Registerer.MustRegister(list...)
	n.all = append(n.all, list...)
}

// close forgets them all.
func (n *numbers) close() error {
	for _, c := range n.all {
		n.Unregister(c)
	}
	return nil
}

// seconds are buckets from a runtime command to a reload that does not come to its end.
var seconds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics(registry prometheus.Registerer, templates func() error) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: seconds})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		applies:     vec("applies_total", "Passes that brought files and proxy to what the catalog says, by what it took.", "action"),
		failures:    vec("failures_total", "Passes that did not, by where they failed.", "stage"),
		reloads:     counter("reloads_total", "Reloads asked of the proxy, repeated ones included."),
		commands:    counter("runtime_commands_total", "Commands that changed HAProxy at run time."),
		duration:    histogram("apply_duration_seconds", "Time to bring files and proxy to what was rendered."),
		change:      histogram("change_seconds", "Time from a complete snapshot of a change to the proxy confirming it."),
		routes:      gauge("routes", "Routes in the table."),
		backends:    gauge("backends", "Backends in the table."),
		problems:    gauge("problems", "Routing labels that cannot be used."),
		quarantined: gauge("quarantined_services", "Services whose configuration the proxy's checker refuses."),
		pinned:      gauge("pinned", "1 while an operator holds on to an earlier generation."),
		deferred:    gauge("reload_deferred", "1 while a reload that is needed has to wait."),
		retired:     gauge("retired_servers", "Servers out of traffic that HAProxy has yet to forget."),
		servers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "servers", Help: "Servers in the table, by state.",
		}, []string{"state"}),
	}
	m.notAfter = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "certificate_not_after_seconds", Help: "When a certificate that is in use expires, in seconds since 1970.",
	}, []string{"certificate"})
	m.faults = gauge("certificate_faults", "Files of the certificate store that cannot be used.")
	registry.MustRegister(m.notAfter, m.faults, m.applies, m.failures, m.reloads, m.commands, m.duration, m.change,
		m.routes, m.backends, m.problems, m.quarantined, m.pinned, m.deferred, m.retired, m.servers, templateMetric(templates))
	for _, a := range []proxy.Action{proxy.None, proxy.Runtime, proxy.Reload} {
		m.applies.WithLabelValues(string(a))
	}
	for _, stage := range []failure{failedRender, failedRejected, failedNotRunning, failedOther} {
		m.failures.WithLabelValues(string(stage))
	}
	return m
}

func (m *metrics) table(t route.Table) {
	m.routes.Set(float64(len(t.Routes)))
	m.backends.Set(float64(len(t.Backends)))
	m.problems.Set(float64(len(t.Problems)))
	quarantined := 0
	for _, p := range t.Problems {
		if p.Key == quarantineKey {
			quarantined++
		}
	}
	m.quarantined.Set(float64(quarantined))
	for state, n := range servers(t) {
		m.servers.WithLabelValues(state).Set(float64(n))
	}
}

func (m *metrics) certificates(c certs.Contents) {
	m.notAfter.Reset()
	for _, cert := range c.Certificates {
		m.notAfter.WithLabelValues(cert.Name).Set(float64(cert.NotAfter.Unix()))
	}
	m.faults.Set(float64(len(c.Faults)))
}

func (m *metrics) apply(result proxy.Result, err error) {
	m.reloads.Add(float64(result.Reloads))
	m.commands.Add(float64(result.Commands))
	m.retired.Set(float64(result.Retired))
	m.pinned.Set(0)
	if result.Pinned != "" {
		m.pinned.Set(1)
	}
	m.deferred.Set(0)
	if result.Deferred != "" {
		m.deferred.Set(1)
	}
	if err != nil {
		m.failures.WithLabelValues(string(failureOf(err))).Inc()
		return
	}
	m.applies.WithLabelValues(string(result.Action)).Inc()
	m.duration.Observe(result.Elapsed.Seconds())
}

// catalogMetrics are asked of the watcher when they are scraped.
type catalogMetrics struct{ watcher *watch.Watcher }

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, nil, nil)
}

var (
	descUp       = describe("consul_up", "1 while Consul answers and everything asked for has been read.")
	descAge      = describe("snapshot_age_seconds", "Time since Consul last confirmed what is routed.")
	descHeld     = describe("snapshot_held", "1 while the newest answer of Consul is not believed.")
	descLosses   = describe("held_services", "Services that keep instances which vanished at once.")
	descServices = describe("catalog_services", "Services in the catalog.")
	descRouted   = describe("routed_services", "Services that carry routing labels.")
	descFailing  = describe("failing_services", "Services that cannot be read.")
	descReads    = describe("consul_reads_total", "Services read from Consul.")
	descProbes   = describe("consul_probes_total", "Nodes asked whether anything changed.")
	descHints    = describe("consul_hints_total", "Hints of registrators on what they changed.")
)

// Describe implements prometheus.Collector.
func (c catalogMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descUp, descAge, descHeld, descLosses, descServices, descRouted, descFailing, descReads, descProbes, descHints} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c catalogMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s := c.watcher.Status(ctx)
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
		out <- prometheus.MustNewConstMetric(d, kind, v)
	}
	truth := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	if view, known := c.watcher.Latest(); known {
		send(descAge, prometheus.GaugeValue, age(view, s).Seconds())
	}
	send(descUp, prometheus.GaugeValue, truth(s.Err == "" && !s.Fresh.IsZero()))
	send(descHeld, prometheus.GaugeValue, truth(s.Held != ""))
	send(descLosses, prometheus.GaugeValue, float64(len(s.Losses)))
	send(descServices, prometheus.GaugeValue, float64(s.Services))
	send(descRouted, prometheus.GaugeValue, float64(s.Routed))
	send(descFailing, prometheus.GaugeValue, float64(len(s.Failing)))
	send(descReads, prometheus.CounterValue, float64(s.Counts.Reads))
	send(descProbes, prometheus.CounterValue, float64(s.Counts.Probes))
	send(descHints, prometheus.CounterValue, float64(s.Counts.Hints))
}
