//go:build real

package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/internal/testbed"
)

// crashing is what a second process is told: apply these files and be killed at that step.
type crashing struct {
	Options       string
	Stats, Master string
	Check         []string
	Files         []render.File
	Meanwhile     []render.File // applied while Files are being loaded
	Step          string
}

const crashEnv = "FAIRWAY_TEST_CRASH"

func TestMain(m *testing.M) {
	if file := os.Getenv(crashEnv); file != "" {
		crash(file)
		return
	}
	flag.Parse()
	// These tests wait for HAProxy most of the time, and not for a processor.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// crash is the second process. It ends by SIGKILL at the step, or prints the steps it saw.
func crash(file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	var c crashing
	if err := json.Unmarshal(data, &c); err != nil {
		panic(err)
	}
	target, err := NewHAProxy(Options{Dir: c.Options, Main: "haproxy.cfg", Check: Check{Command: c.Check}},
		HAProxy{StatsSocket: c.Stats, MasterSocket: c.Master})
	if err != nil {
		panic(err)
	}
	target.reached = func(step string) {
		fmt.Println("step:", step)
		if step == c.Step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if c.Meanwhile != nil {
		err = crashMeanwhile(target, c)
	} else {
		_, err = target.Apply(context.Background(), c.Files)
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// held has a driver reload when it is let go.
type held struct {
	driver
	free chan struct{}
}

func (h held) reload(ctx context.Context, t tree, before status) (int, error) {
	<-h.free
	return h.driver.reload(ctx, t, before)
}

// crashMeanwhile applies further files while a reload is on its way.
func crashMeanwhile(target *Target, c crashing) error {
	wakes := make(chan struct{}, 1)
	target.opt.Wake = func() {
		select {
		case wakes <- struct{}{}:
		default:
		}
	}
	h := held{target.driver, make(chan struct{})}
	target.driver = h
	files, free := c.Files, sync.OnceFunc(func() { close(h.free) })
	for {
		res, err := target.Apply(context.Background(), files)
		switch {
		case err != nil || res.Deferred == "":
			return err
		case target.loading != nil && len(files) > 0 && &files[0] == &c.Files[0]:
			files = c.Meanwhile
			continue
		case target.loading != nil:
			free()
		}
		<-wakes
	}
}

// crashAt applies the rig's world in a second process, which is killed at step; it returns the
// steps that were reached.
func (r *rig) crashAt(step string, meanwhile ...render.File) []string {
	r.t.Helper()
	stats, master := r.world.sockets()
	c := crashing{Options: r.world.dir, Stats: stats, Master: master, Files: r.world.files(), Meanwhile: meanwhile, Step: step, Check: r.target.opt.Check.Command}
	file := filepath.Join(r.t.TempDir(), "crash.json")
	data, err := json.Marshal(c)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(r.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+file)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if step != "" && !killed || step == "" && err != nil {
		r.t.Fatalf("the second process was to be killed at %q: %v\n%s", step, err, out)
	}
	var steps []string
	for line := range strings.Lines(string(out)) {
		if s, found := strings.CutPrefix(strings.TrimSpace(line), "step: "); found {
			steps = append(steps, s)
		}
	}
	return steps
}

// reloads asks the master how often it was reloaded.
func (r *rig) reloads() int {
	r.t.Helper()
	var n int
	testbed.Eventually(r.t, 3*time.Second, "the master answers", func() error {
		p, err := r.target.driver.(*haproxyDriver).processes(r.t.Context())
		n = p.Reloads
		return err
	})
	return n
}

func crashRig(t *testing.T) *rig {
	r := newRig(t)
	web := backends(t, 3)
	r.oneBackend(web)
	r.up()
	if err := r.target.Close(); err != nil { // It gives the lock to the second process.
		t.Fatal(err)
	}
	r.world.backends["b"] = []string{serverLine(web[1], 100, "check")}
	r.world.hosts["b.test"] = "b"
	return r
}

func TestApply_F27_killedAtEveryStep(t *testing.T) {
	t.Parallel()
	steps := crashRig(t).crashAt("")
	if !slices.Contains(steps, "journal") || !slices.Contains(steps, "renamed haproxy.cfg") || !slices.Contains(steps, "reloaded") {
		t.Fatalf("steps %q", steps)
	}
	for _, step := range steps {
		t.Run(strings.ReplaceAll(step, "/", "_"), func(t *testing.T) {
			t.Parallel()
			r := crashRig(t)
			before, old := r.reloads(), r.snapshot()
			r.crashAt(step)
			r.target = r.newTarget()
			if err := r.target.Lock(); err != nil {
				t.Fatalf("recover: %v", err)
			}
			// Before anything new is known, a restart must find a configuration that loads.
			main, err := os.ReadFile(filepath.Join(r.world.dir, "haproxy.cfg"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.freshStart(main); err != nil {
				t.Errorf("what is on disk after recovery does not start: %v", err)
			}
			if now := r.snapshot(); fmt.Sprint(now) != fmt.Sprint(old) && !r.isNew(now) {
				t.Errorf("half a change is on disk: %s", now)
			}
			r.apply()
			if n := r.reloads() - before; n != 1 {
				t.Errorf("%d reloads in all, expected one", n)
			}
			r.equal()
			r.clean()
			r.world.timeout = "9s" // And it goes on as ever.
			r.wantReloads(1, "it goes on as ever")
			r.equal()
		})
	}
}

// The same while a reload is on its way and servers are changed in it.
func TestLoading_F27_killedAtEveryStep(t *testing.T) {
	t.Parallel()
	begin := func() (*rig, []render.File) {
		r := crashRig(t)
		before := r.world.backends["a"]
		r.world.backends["a"] = append(slices.Clone(before), serverLine("127.0.0.1:9", 30, "check"))
		meanwhile := r.world.files()
		r.world.backends["a"] = before
		return r, meanwhile
	}
	r, meanwhile := begin()
	steps := r.crashAt("", meanwhile...)
	at := slices.Index(steps, "loading")
	if at < 0 || !slices.Contains(steps, "servers committed") || !slices.Contains(steps, "servers told") || !slices.Contains(steps, "reloaded") {
		t.Fatalf("steps %q", steps)
	}
	for _, step := range slices.Compact(slices.Sorted(slices.Values(steps[at:]))) {
		if strings.HasPrefix(step, "written") || strings.HasPrefix(step, "renamed") {
			continue // They come earlier too, which is tested above.
		}
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			r, meanwhile := begin()
			before := r.reloads()
			r.crashAt(step, meanwhile...)
			r.target = r.newTarget()
			if err := r.target.Lock(); err != nil {
				t.Fatalf("recover: %v", err)
			}
			main, err := os.ReadFile(filepath.Join(r.world.dir, "haproxy.cfg"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.freshStart(main); err != nil {
				t.Errorf("what is on disk after recovery does not start: %v", err)
			}
			if new := strings.Contains(string(main), "127.0.0.1:9 "); new != (step != "loading") || !r.isNew(r.snapshot()) {
				t.Errorf("the structure on its way and the newest servers are expected on disk: %s", main)
			}
			r.world.backends["a"] = append(r.world.backends["a"], serverLine("127.0.0.1:9", 30, "check"))
			r.apply()
			if n := r.reloads() - before; n != 1 {
				t.Errorf("%d reloads in all, expected one", n)
			}
			r.equal()
			r.clean()
		})
	}
}

// isNew reports whether all of crashRig's change is among files, and nothing else of it.
func (r *rig) isNew(files map[string]string) bool {
	return len(files) == 2 && strings.Contains(files[filepath.Join(r.world.dir, "haproxy.cfg")], "backend b\n") &&
		strings.Contains(files[filepath.Join(r.world.dir, "maps/hosts.map")], "b.test b\n")
}

// The world changes back while confgen is down: then the half-done change is undone.
func TestApply_F27_undone(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"journal", "renamed maps/hosts.map", "committed", "reloaded"} {
		t.Run(strings.ReplaceAll(step, "/", "_"), func(t *testing.T) {
			t.Parallel()
			r := crashRig(t)
			r.crashAt(step)
			delete(r.world.backends, "b")
			delete(r.world.hosts, "b.test")
			r.target = r.newTarget()
			r.apply()
			r.equal()
			r.clean()
		})
	}
}

// A change of servers only, killed after the file and before the socket.
func TestApply_F27_serversOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := backends(t, 2)
	r.oneBackend(web)
	r.up()
	_ = r.target.Close()
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 30, "check"))
	r.crashAt("renamed haproxy.cfg")
	r.target = r.newTarget()
	if res := r.apply(); res.Reloads != 0 || res.Commands == 0 {
		t.Errorf("%+v, expected runtime commands", res)
	}
	r.equal()
	// Options of a server change, which the structure does not show: killed before the reload.
	_ = r.target.Close()
	r.world.backends["a"][0] = serverLine(web[0], 100, "check inter 777ms")
	r.crashAt("committed")
	r.target = r.newTarget()
	r.wantReloads(1, "what was committed had not been loaded")
	r.equal()
	r.clean()
}

// clean looks for what a crash may leave behind.
func (r *rig) clean() {
	r.t.Helper()
	_ = filepath.WalkDir(r.world.dir, func(path string, d os.DirEntry, err error) error {
		if temporary.MatchString(filepath.Base(path)) {
			r.t.Errorf("left over: %s", path)
		}
		return err
	})
	if _, err := os.Stat(r.target.state("journal.json")); err == nil {
		r.t.Error("the journal is still open")
	}
	if left, _ := filepath.Glob(r.target.state("stage*")); len(left) > 0 {
		r.t.Errorf("left over: %s", left)
	}
}

// F43: confgen is told to end in the middle of a reload; it ends soon, and the next one goes on.
func TestApply_F43_endedDuringReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options, _ *HAProxy) { o.Wake = nil }) // It waits for the reload.
	r.oneBackend(backends(t, 1))
	r.up()
	ctx, cancel := context.WithCancel(t.Context())
	r.target.reached = func(step string) {
		if step == "committed" {
			cancel()
		}
	}
	r.world.timeout = "7s"
	began := time.Now()
	if _, err := r.target.Apply(ctx, r.world.files()); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, expected context.Canceled", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
	_ = r.target.Close()
	r.target = r.newTarget()
	r.wantReloads(1, "what was committed had not been loaded")
	r.equal()
	r.clean()
}
