//go:build real

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// TestWrites_C90_aRestartWhileTheyFail restarts a container and removes another one while Consul takes no
// write, or is away. Registrator sees it, cannot write it, and ends or is killed. The next one cannot write
// either, until Consul is well. No row of what runs is missing at any moment.
func TestWrites_C90_aRestartWhileTheyFail(t *testing.T) {
	w := newWorld(t)
	binary := filepath.Join(t.TempDir(), "registrator")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	w.run("kept", "web")
	w.run("restarts", "web", "-abrupt")
	p := newTap(t, w.consul.Addr)
	for name, c := range map[string]struct {
		signal     syscall.Signal
		fail, mend func()
	}{
		"refused_killed": {syscall.SIGKILL, func() { p.refuse(true) }, func() { p.refuse(false) }},
		"refused_ended":  {syscall.SIGTERM, func() { p.refuse(true) }, func() { p.refuse(false) }},
		"away_killed":    {syscall.SIGKILL, w.consul.Stop, w.consul.Start},
	} {
		w.sub(name, func(t *testing.T, w *world) {
			w.run("goes", "web")
			first := w.launch(binary, p)
			w.is(map[string]string{id("kept"): passing, id("restarts"): passing, id("goes"): passing})
			before := w.service(id("restarts")).Port
			guarded := w.guard(id("kept"), id("restarts"))

			c.fail()
			w.engine.Run("restart", "restarts")
			w.engine.Run("rm", "-f", "goes")
			first.couldNotWrite()
			first.end(c.signal)
			second := w.launch(binary, p)
			second.couldNotWrite()
			c.mend()

			testbed.Eventually(t, 2*soon, "the catalog is right", func() error {
				if got, want := w.service(id("restarts")).Port, w.published("restarts"); got != want || got == before {
					return fmt.Errorf("port %d, was %d, want %d", got, before, want)
				}
				return w.same(map[string]string{id("kept"): passing, id("restarts"): passing})
			})
			if err := guarded(); err != nil {
				t.Error(err)
			}
			second.end(syscall.SIGTERM)
		})
	}
}

// launched is a registrator in a process of its own.
type launched struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *testbed.Log
}

// launch starts a registrator whose way to Consul is a tap.
func (w *world) launch(binary string, p *tap) *launched {
	w.t.Helper()
	l := &launched{t: w.t, cmd: exec.Command(binary, "consul://"+p.addr, "-ip", testIP), said: &testbed.Log{}}
	l.cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.engine.Host, "REGISTRATOR_NODE_NAME="+testNode, "REGISTRATOR_HTTP_ADDR=off")
	l.cmd.Stdout, l.cmd.Stderr = l.said, l.said
	if err := l.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		if w.t.Failed() {
			w.t.Logf("registrator said:\n%s", l.said)
		}
	})
	return l
}

// couldNotWrite waits until the registrator has told that Consul is away or takes nothing.
func (l *launched) couldNotWrite() {
	l.t.Helper()
	testbed.Eventually(l.t, soon, "registrator says that consul is away", func() error {
		if l.said.Count("condition=consul") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
}

func (l *launched) end(signal syscall.Signal) {
	l.t.Helper()
	if err := l.cmd.Process.Signal(signal); err != nil {
		l.t.Fatal(err)
	}
	if err := l.cmd.Wait(); err != nil && signal != syscall.SIGKILL {
		l.t.Errorf("%s: %v", signal, err)
	}
}

// guard looks all the time whether rows are there, until the returned function is called, which tells of
// the first moment at which one was not. The first one must be passing, too.
func (w *world) guard(kept, present string) (end func() error) {
	stop, result := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				result <- nil
				return
			case <-tick.C:
			}
			if err := w.guarded(kept, present); err != nil {
				result <- err
				return
			}
		}
	}()
	return func() error { close(stop); return <-result }
}

// guarded is nil while Consul does not answer for certain.
func (w *world) guarded(kept, present string) error {
	checks, _, err := w.consul.Client.Health().Node(testNode, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		return nil //nolint:nilerr // it is away, which is part of the test
	}
	var all []string
	for _, c := range checks {
		all = append(all, c.ServiceID+" is "+c.Status)
	}
	text := strings.Join(all, ", ")
	if !strings.Contains(text, kept+" is passing") || !strings.Contains(text, present+" is ") {
		return fmt.Errorf("a row of what runs is missing: %s", text)
	}
	return nil
}
