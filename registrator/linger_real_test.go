//go:build real

package main

import (
	"strings"
	"testing"
	"time"
)

// TestExit_C102_withItsNeighbours: where all containers of a node are told to stop, registrator is
// one of them, and not the last. What it leaves behind must not pass.
func TestExit_C102_withItsNeighbours(t *testing.T) {
	w := newWorld(t)
	w.run("quick", "web")
	w.run("slow", "web", "-drain", "4s")
	w.run("stays", "web")
	stop := w.start(func(o *Options) { o.StopLinger, o.StopGrace = 2*time.Second, time.Hour })
	for _, name := range []string{"quick", "slow", "stays"} {
		w.row(id(name), passing)
	}
	w.ready()
	ended := make(chan error)
	go func() { ended <- stop() }()
	time.Sleep(time.Second) // the others come after registrator, however busy the engine is
	for _, name := range []string{"quick", "slow"} {
		go w.engine.Run("stop", "--time", "20", name)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := w.same(map[string]string{id("stays"): passing}); err != nil {
		t.Errorf("after registrator: %v", err)
	}
	if log := w.log.String(); !strings.Contains(log, "goes_on_for=2s") {
		t.Error("it does not say why it goes on")
	}
}

// TestExit_nobodyIsWaitedFor: it goes on for no longer than it says where nothing ends with it, where
// Docker is away, and where all rows go.
func TestExit_nobodyIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.run("stays", "web")
	for name, tt := range map[string]struct {
		change func(*Options)
		before func()
	}{
		"all rows go":    {func(o *Options) { o.Deregister = true }, func() {}},
		"docker is away": {func(*Options) {}, func() { w.engine.Stop() }},
	} {
		w.sub(name, func(t *testing.T, w *world) {
			stop := w.start(func(o *Options) { o.StopLinger = time.Hour; tt.change(o) })
			w.row(id("stays"), passing)
			w.ready()
			tt.before()
			ended := make(chan error)
			go func() { ended <- stop() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("it waits for nothing")
			}
			if name == "docker is away" {
				w.engine.Start()
				w.engine.Run("start", "stays")
			}
		})
	}
}
