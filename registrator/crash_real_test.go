//go:build real

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"fairway/internal/testbed"
)

// hog serves for a moment and then takes memory until there is none.
const hog = `package main

import (
	"net/http"
	"time"
)

func main() {
	go func() { panic(http.ListenAndServe(":8080", nil)) }()
	time.Sleep(2 * time.Second)
	for all := [][]byte{}; ; time.Sleep(time.Millisecond) {
		page := make([]byte, 1<<20)
		for i := range page {
			page[i] = 1
		}
		all = append(all, page)
	}
}
`

// hogImage builds the image "hog".
func (w *world) hogImage() {
	w.t.Helper()
	dir := w.t.TempDir()
	source, program := filepath.Join(dir, "hog.go"), filepath.Join(dir, "hog")
	if err := os.WriteFile(source, []byte(hog), 0o600); err != nil {
		w.t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("build: %v: %s", err, out)
	}
	w.engine.Import("hog", program, `ENTRYPOINT ["/hog"]`, "EXPOSE 8080")
}

func (w *world) inspect(name string) container.InspectResponse {
	w.t.Helper()
	doc, err := w.engine.Client.ContainerInspect(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// crashes is what somebody saw who looked at a container that crashes and at its row.
type crashes struct {
	last    container.InspectResponse
	stale   time.Duration   // the longest time for which the row was passing and nothing ran
	outputs map[string]bool // all that the row was; "" is gone
}

// watchCrashes looks until enough says that it has seen enough.
func (w *world) watchCrashes(name string, enough func(crashes) bool) crashes {
	w.t.Helper()
	seen := crashes{outputs: map[string]bool{}}
	testbed.Eventually(w.t, 6*soon, name+" crashes", func() error {
		before := w.inspect(name).State
		rows, err := w.rows()
		if err != nil {
			return err
		}
		seen.last = w.inspect(name)
		seen.outputs[rows[id(name)]] = true
		if now := seen.last.State; dead(before) && dead(now) && before.FinishedAt == now.FinishedAt && strings.HasPrefix(rows[id(name)], "passing") {
			ended, err := time.Parse(time.RFC3339Nano, now.FinishedAt)
			if err != nil {
				w.t.Fatal(err)
			}
			seen.stale = max(seen.stale, time.Since(ended))
		}
		if !enough(seen) {
			return errors.New("not enough yet")
		}
		return nil
	})
	return seen
}

func dead(s *container.State) bool { return !s.Running || s.Restarting }

// staleFor is far longer than a pass takes, also on a machine that has much to do, and shorter than
// the engine waits between the later starts of a container that crashes.
const staleFor = 2 * time.Second

// TestCrash_outOfMemory has the kernel end a container that takes too much.
func TestCrash_outOfMemory(t *testing.T) {
	w := newWorld(t)
	w.hogImage()
	w.start()
	w.ready()
	limited := func(name string, args ...string) {
		w.run(name, append(args, "--memory", "16m", "--memory-swap", "16m", "hog")...)
	}

	w.sub("ends", func(t *testing.T, w *world) {
		limited("once")
		w.row(id("once"), passing)
		seen := w.watchCrashes("once", func(c crashes) bool { return dead(c.last.State) && c.outputs[""] })
		if s := seen.last.State; !s.OOMKilled || s.ExitCode != 137 {
			t.Errorf("it ended with %d, out of memory: %v, so this proves nothing", s.ExitCode, s.OOMKilled)
		}
		if seen.stale > staleFor {
			t.Errorf("its row was passing for %s after its end", seen.stale)
		}
		w.engine.Run("rm", "once")
	})

	w.sub("startsAgain", func(t *testing.T, w *world) {
		before := w.metric("transactions_total")
		limited("again", "--restart", "always")
		w.row(id("again"), passing)
		seen := w.watchCrashes("again", func(c crashes) bool { return c.last.RestartCount >= 3 && !dead(c.last.State) })
		if !seen.outputs["critical: restarting after exit code 137"] || !seen.outputs[passing] || seen.outputs[""] {
			t.Errorf("the row was %v", seen.outputs)
		}
		w.fewWrites(before, seen)
		w.row(id("again"), passing)
		w.engine.Run("rm", "-f", "again")
		w.row(id("again"), "")
	})
}

// TestCrash_restartLoop starts a container that ends at once, again and again.
func TestCrash_restartLoop(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.ready()
	before := w.metric("transactions_total")
	w.run("loop", "--restart", "always", "web", "-no-such-flag")
	seen := w.watchCrashes("loop", func(c crashes) bool { return c.last.RestartCount >= 7 && dead(c.last.State) }) // 6.4 s apart by then
	w.fewWrites(before, seen)
	for output := range seen.outputs {
		if output != "" && output != passing && output != "critical: restarting after exit code 2" {
			t.Errorf("the row was %q", output)
		}
	}
	w.quiet()
	transactions := w.metric("transactions_total")
	w.never(time.Second, "while it waits for its next start", func() error {
		rows, err := w.rows()
		if err == nil && rows[id("loop")] != "" && rows[id("loop")] != "critical: restarting after exit code 2" {
			err = errors.New("the row is " + rows[id("loop")])
		}
		if err == nil && w.metric("transactions_total") != transactions {
			err = errors.New("something is written")
		}
		return err
	})
	w.engine.Run("rm", "-f", "loop")
	w.row(id("loop"), "")
}

// fewWrites wants no more than two transactions for each run of a container: its start and its end.
func (w *world) fewWrites(before float64, seen crashes) {
	w.t.Helper()
	if seen.stale > staleFor {
		w.t.Errorf("the row was passing for %s while nothing ran", seen.stale)
	}
	runs := float64(w.inspect(strings.TrimPrefix(seen.last.Name, "/")).RestartCount + 1)
	if got := w.metric("transactions_total") - before; got > 2*runs {
		w.t.Errorf("%v transactions for %v runs", got, runs)
	}
}
