//go:build real

package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"fairway/internal/testbed"
	"fairway/registrator/liveness"
)

// tapped starts a registrator whose way to Consul is a tap.
func (w *world) tapped(change ...func(*Options)) (*tap, func() error) {
	w.t.Helper()
	p := newTap(w.t, w.consul.Addr)
	through := func(o *Options) { o.Consul.Addresses = []string{p.addr} }
	return p, w.start(append(change, through)...)
}

// oneWrite wants a change to cost one transaction: on the wire, by the metric, and also when the look
// has come that follows a glance.
func (w *world) oneWrite(p *tap, what, row, want string, change func()) {
	w.t.Helper()
	w.quiet()
	p.forget()
	before := w.metric("transactions_total")
	change()
	w.row(row, want)
	w.quiet()
	if got := p.writes(); !slices.Equal(got, []string{"PUT /v1/txn"}) {
		w.t.Errorf("%s: wrote %q, want one transaction", what, got)
	}
	if got := w.metric("transactions_total") - before; got != 1 {
		w.t.Errorf("%s: transactions_total grew by %v, want 1", what, got)
	}
}

// TestWrites_oneTransactionForAChange counts what reaches Consul for each change of a container.
func TestWrites_oneTransactionForAChange(t *testing.T) {
	w := newWorld(t)
	w.engine.Run("run", "-d", "--name", "target", "web") // not published, so that it has no row
	address := w.engine.Run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "target")
	w.engine.Image("checked", fmt.Sprintf(
		`HEALTHCHECK --interval=3s --timeout=1s --retries=1 CMD ["/web","-healthcheck","-listen","%s:8080"]`, address))
	p, _ := w.tapped()
	w.ready()
	docker := func(args ...string) func() { return func() { w.engine.Run(args...) } }

	w.sub("startAndStop", func(_ *testing.T, w *world) {
		w.oneWrite(p, "start", id("stops"), passing, func() { w.run("stops", "web", "-drain", "3s") })
		stopped := make(chan struct{})
		w.oneWrite(p, "stop signal", id("stops"), "critical: stopping", func() {
			go func() { defer close(stopped); w.engine.Run("stop", "stops") }()
		})
		w.oneWrite(p, "end", id("stops"), "", func() { <-stopped })
		w.oneWrite(p, "start again", id("stops"), passing, docker("start", "stops"))
	})

	w.sub("pauseAndRename", func(_ *testing.T, w *world) {
		w.oneWrite(p, "pause", id("stops"), "critical: paused", docker("pause", "stops"))
		w.oneWrite(p, "unpause", id("stops"), passing, docker("unpause", "stops"))
		w.oneWrite(p, "rename", id("renamed"), passing, docker("rename", "stops", "renamed"))
	})

	w.sub("health", func(t *testing.T, w *world) {
		w.oneWrite(p, "start", id("checked"), "critical: starting", func() { w.run("checked", "checked") })
		w.oneWrite(p, "healthy", id("checked"), "passing: healthy", func() {})
		w.oneWrite(p, "unhealthy", id("checked"), unhealthy, docker("pause", "target"))
	})
}

const unhealthy = "critical: unhealthy: Health check exceeded timeout (1s)"

// TestWrites_oneRenewalForHalfATTL watches all requests of a registrator while nothing changes.
func TestWrites_oneRenewalForHalfATTL(t *testing.T) {
	const half, renewals = liveness.MinTTL / 2, 4
	w := newWorld(t)
	w.run("still", "web")
	p, _ := w.tapped()
	w.ready()
	w.row(id("still"), passing)
	w.quiet()
	p.forget()
	isRenewal := func(r request) bool { return r.name == renewal }
	testbed.Eventually(t, (renewals+2)*half, "renewals come", func() error {
		if n := len(p.passed(isRenewal)); n < renewals {
			return fmt.Errorf("%d of them", n)
		}
		return nil
	})
	seen := p.passed(isRenewal)
	for i := range renewals - 1 {
		if gap := seen[i+1].at.Sub(seen[i].at); gap < half-half/10 || gap > half+half/4 {
			t.Errorf("a renewal came %s after the one before, want %s", gap.Round(time.Millisecond), half)
		}
	}
	if others := p.passed(func(r request) bool { return !isRenewal(r) && !r.waits }); len(others) > 0 {
		t.Errorf("nothing changes, and yet registrator sends %v", others)
	}
}
