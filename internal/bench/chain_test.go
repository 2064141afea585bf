//go:build bench

package bench

import (
	"slices"
	"testing"
	"time"

	"fairway/internal/load"
)

// BenchmarkStartToAnswer measures from the moment that `docker start` has returned to the first
// answer by the new container through HAProxy, beside two that run already. One operation is one
// container. `make bench` runs 40.
func BenchmarkStartToAnswer(b *testing.B) {
	for _, c := range chains(b) {
		b.Run(c.name, func(b *testing.B) {
			l := newLab(b)
			l.round = 4
			c.start(l)
			l.running(2)
			took := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				name := l.create()
				b.StartTimer()
				l.start(name)
				began := time.Now()
				l.ask(time.Minute, func(by string) bool { return by == name })
				took = append(took, time.Since(began))
				b.StopTimer()
				l.remove(name)
				b.StartTimer()
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(milliseconds(quantile(took, .5)), "ms-p50")
			b.ReportMetric(milliseconds(quantile(took, .9)), "ms-p90")
			b.ReportMetric(milliseconds(quantile(took, .99)), "ms-p99")
			b.ReportMetric(0, "ns/op") // holds the engine's own time
			if b.N > 1 {
				keep(b, "chain/"+c.name, chainResult{
					milliseconds(quantile(took, .5)), milliseconds(quantile(took, .9)), milliseconds(quantile(took, .99)),
				})
				draw(b)
			}
		})
	}
}

// BenchmarkStopUnderLoad stops containers that die at once on SIGTERM, while clients that never
// retry ask on: failed requests are what it is about. One operation is one container. The answer
// asked for is one that a server writes at once: what a dying server has half written, no front
// end can complete.
func BenchmarkStopUnderLoad(b *testing.B) {
	for _, c := range chains(b) {
		b.Run(c.name, func(b *testing.B) {
			l := newLab(b)
			c.start(l)
			names := l.running(b.N+2, "-abrupt")
			run, err := load.Start(b.Context(), load.Options{
				Address: l.front, Host: host, Path: "/slow?ms=1", KeepAlive: 8, NewConn: 8, Rate: 1000, Timeout: 10 * time.Second,
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for _, name := range names[:b.N] {
				l.engine.Run("stop", name)
				time.Sleep(500 * time.Millisecond)
			}
			b.StopTimer()
			report := run.Stop()
			b.ReportMetric(float64(report.Requests), "requests")
			b.ReportMetric(float64(report.Failed), "failed")
			for _, kind := range []load.Client{load.KeepAlive, load.NewConnection} {
				b.ReportMetric(float64(report.Clients[kind].Failed), string(kind)+"-failed")
			}
			b.ReportMetric(0, "ns/op")
			b.Logf("errors %v, statuses %v", report.Errors, report.Status)
		})
	}
}

// quantile returns the smallest of sorted that a share q of them does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
