//go:build real

package main

import (
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/consul/api"
)

// TestLatency measures `docker start` returned → row passing in Consul, and stop issued → row not
// passing. The bounds are on the best of each, because the machine may be busy: they fail when
// something on the way waits for a timer.
func TestLatency(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	w.engine.Run("create", "-P", "--name", "fast", "web", "-drain", "500ms")
	var starts, stops []time.Duration
	for range 15 {
		w.quiet()
		if err := w.engine.Client.ContainerStart(t.Context(), "fast", container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, w.until(api.HealthPassing, time.Now()))
		w.quiet()
		stopped, ended := time.Now(), make(chan error, 1)
		go func() { ended <- w.engine.Client.ContainerStop(t.Context(), "fast", container.StopOptions{}) }()
		stops = append(stops, w.until("", stopped))
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(starts)
	slices.Sort(stops)
	t.Logf("start → passing: best %s, median %s, worst %s", starts[0], starts[len(starts)/2], starts[len(starts)-1])
	t.Logf("stop → not passing: best %s, median %s, worst %s", stops[0], stops[len(stops)/2], stops[len(stops)-1])
	if starts[0] > 50*time.Millisecond {
		t.Errorf("start → passing takes %s at best", starts[0])
	}
	if stops[0] > 100*time.Millisecond {
		t.Errorf("stop → not passing takes %s at best", stops[0])
	}
}

// until is how long after since the container's row is passing, or with "" is not any more.
func (w *world) until(status string, since time.Time) time.Duration {
	w.t.Helper()
	for time.Since(since) < soon {
		entries, _, err := w.consul.Client.Health().Service("web", "", true, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		if (len(entries) > 0) == (status == api.HealthPassing) {
			return time.Since(since)
		}
	}
	w.t.Fatalf("not %q within %s", status, soon)
	return 0
}
