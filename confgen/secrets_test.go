package main

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// A certificate begins and ceases to be valid while nothing on disk changes: passes are made, and
// the log and the metrics have it.
func TestSecrets_clock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		cert, key := testbed.NewAuthority(t, "ca").Issue(t, 30*time.Minute, "a.test")
		until := float64(time.Now().Add(30 * time.Minute).Unix())
		testbed.WriteSecret(t, filepath.Join(dir, "a.pem"), append(cert, key...))
		var log testbed.Log
		var woken atomic.Int32
		registry := prometheus.NewRegistry()
		metrics := newMetrics(registry, func() error { return nil })
		s := newSecrets(Options{Certificates: Certificates{Paths: []string{dir}}}, hclog.New(&hclog.LoggerOptions{Output: &log}))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.watch(ctx, func() { woken.Add(1) }) }()
		for _, step := range []struct {
			name     string
			wait     time.Duration
			woken    int32
			faults   float64
			reported string
		}{
			{"valid", 29 * time.Minute, 0, 0, ""},
			{"expired", 2 * time.Minute, 1, 1, "expired on"},
			{"expired for long", time.Hour, 1, 1, ""},
		} {
			before := len(log.String())
			time.Sleep(step.wait)
			synctest.Wait()
			metrics.certificates(s.now().Contents)
			said := log.String()[before:]
			if woken.Load() != step.woken || step.reported == "" && said != "" || !strings.Contains(said, step.reported) {
				t.Errorf("%s: woken %d times\n%s", step.name, woken.Load(), said)
			}
			if n, at := gauge(t, registry, "fairway_confgen_certificate_faults"), gauge(t, registry, "fairway_confgen_certificate_not_after_seconds"); n != step.faults || at != until {
				t.Errorf("%s: %v faults, not after %v, want %v", step.name, n, at, until)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// gauge is that of a gauge.
func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no single metric %s", name)
	return 0
}
