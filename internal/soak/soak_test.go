//go:build soak

package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestSoak disturbs everything at random for $SOAK_DURATION (2m when it is not set) and holds the
// catalog against the engine at every quiet point. $SOAK_SEED repeats the choices of an earlier run,
// though not its timing.
func TestSoak(t *testing.T) {
	duration, seed := settings(t)
	t.Logf("%s with SOAK_SEED=%d", duration, seed)
	w := newWorld(t)
	tally := &tally{done: map[string]int{}, refused: map[string]int{}}
	random := rand.New(rand.NewPCG(seed, 0))
	disturbers := make([]*disturber, 3)
	for i := range disturbers {
		disturbers[i] = &disturber{w: w, random: rand.New(rand.NewPCG(seed, uint64(i)+1)), prefix: string(rune('a' + i))}
	}
	points := 0
	for end := time.Now().Add(duration); time.Now().Before(end) && !t.Failed(); points++ {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second+time.Duration(random.IntN(40))*time.Second)
		var group sync.WaitGroup
		for _, d := range disturbers {
			group.Go(func() { d.run(ctx, tally) })
		}
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(time.Duration(3+random.IntN(12)) * time.Second):
				what := w.fault(random)
				tally.count(what, nil)
				t.Log(what)
			}
		}
		cancel()
		group.Wait()
		w.quiet(points + 1)
	}
	t.Logf("%d quiet points, all equal;%s", points, tally)
	if tally.done["start"] == 0 || tally.done["stop"] == 0 || tally.done["pause"] == 0 || points == 0 {
		t.Error("too little was done to prove anything")
	}
}

// quiet waits until the catalog is equal to the engine and stays so.
func (w *world) quiet(number int) {
	w.t.Helper()
	began := time.Now()
	testbed.Eventually(w.t, time.Minute, fmt.Sprintf("quiet point %d: the catalog is equal to the engine", number), w.check)
	took := time.Since(began)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); wait(200 * time.Millisecond) {
		if err := w.check(); err != nil { // Docker's own HEALTHCHECKs may still change their minds
			testbed.Eventually(w.t, 5*time.Second, fmt.Sprintf("quiet point %d: it stays so", number), w.check)
		}
	}
	w.t.Logf("quiet point %d: equal after %s", number, took.Round(time.Millisecond))
}

func settings(t *testing.T) (duration time.Duration, seed uint64) {
	t.Helper()
	duration, seed = 2*time.Minute, rand.Uint64()
	var err error
	if s := os.Getenv("SOAK_DURATION"); s != "" {
		if duration, err = time.ParseDuration(s); err != nil {
			t.Fatalf("SOAK_DURATION: %v; write for example 30m", err)
		}
	}
	if s := os.Getenv("SOAK_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("SOAK_SEED: %v; write the number that an earlier run printed", err)
		}
	}
	return duration, seed
}
