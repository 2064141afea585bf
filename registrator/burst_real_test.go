//go:build real

package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"fairway/internal/testbed"
)

// TestBurst starts, stops, kills, pauses and renames at random, from several sides at once, and
// then compares the catalog with what the engine itself says.
func TestBurst(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	const count = 12
	for i := range count {
		w.engine.Run("create", "-P", "--name", fmt.Sprintf("b%d", i), "web", "-abrupt")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var group errgroup.Group
	for i := range count {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() error {
			for range 8 {
				w.disturb(fmt.Sprintf("b%d", i), random.IntN(6))
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, soon, "the catalog is equal to the engine", w.equal)

	w.sub("theCheckerSeesAFalsifiedRow", func(t *testing.T, w *world) {
		w.engine.Run("run", "-d", "-P", "--name", "fresh", "web", "-abrupt") // the others may be in any state
		testbed.Eventually(t, soon, "the catalog is equal to the engine", w.equal)
		port := w.published("fresh")
		s := w.service(id("fresh"))
		if s.Port != port {
			t.Fatalf("port %d, want %d", s.Port, port)
		}
		w.engine.Run("pause", "fresh")
		w.row(id("fresh"), "critical: paused")
		want, err := w.wanted()
		if err != nil {
			t.Fatal(err)
		}
		want[id("fresh")] = passing
		if w.same(want) == nil {
			t.Error("a wrong row passes for right")
		}
	})
}

// disturb does something to a container; that it is impossible just now is noted, and no failure.
func (w *world) disturb(name string, what int) {
	ctx := w.t.Context()
	none := 0
	var err error
	switch what {
	case 0, 1:
		err = w.engine.Client.ContainerStart(ctx, name, container.StartOptions{})
	case 2:
		err = w.engine.Client.ContainerStop(ctx, name, container.StopOptions{Timeout: &none})
	case 3:
		err = w.engine.Client.ContainerKill(ctx, name, "KILL")
	case 4:
		err = w.engine.Client.ContainerPause(ctx, name)
	case 5:
		err = w.engine.Client.ContainerUnpause(ctx, name)
	}
	if err != nil {
		_, _ = fmt.Fprintf(w.log, "test: %s: %v\n", name, err) // a log in memory takes all
	}
}

// wanted asks the engine, not registrator, what the rows must be.
func (w *world) wanted() (map[string]string, error) {
	list, err := w.engine.Client.ContainerList(w.t.Context(), container.ListOptions{})
	if err != nil {
		return nil, err
	}
	want := map[string]string{}
	for _, c := range list {
		switch c.State {
		case container.StateRunning:
			want[id(c.Names[0][1:])] = passing
		case container.StatePaused:
			want[id(c.Names[0][1:])] = "critical: paused"
		}
	}
	return want, nil
}

func (w *world) equal() error {
	want, err := w.wanted()
	if err != nil {
		return err
	}
	return w.same(want)
}
