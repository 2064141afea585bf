//go:build real

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
)

// dockersPatience is how long after SIGTERM Docker kills.
const dockersPatience = 10 * time.Second

// TestProgram runs the binary itself, with its environment and signals.
func TestProgram(t *testing.T) {
	w := newWorld(t)
	w.run("c102", "-e", "SERVICE_a.b=1", "web")
	binary := filepath.Join(t.TempDir(), "registrator")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	command := func(args ...string) (*exec.Cmd, *testbed.Log) {
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.engine.Host, "CONSUL_HTTP_ADDR="+w.consul.Addr,
			"REGISTRATOR_NODE_NAME="+testNode, "REGISTRATOR_HTTP_ADDR=off", "REGISTRATOR_RESYNC=")
		said := &testbed.Log{}
		cmd.Stdout, cmd.Stderr = said, said
		return cmd, said
	}

	w.sub("C102_SIGTERM", func(t *testing.T, w *world) {
		cmd, said := command("consul://"+w.consul.Addr, "-ip", testIP, "-cleanup")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		w.row(id("c102"), passing)
		testbed.Eventually(t, soon, "the session is held", func() error {
			p, _, err := w.consul.Client.KV().Get("fairway/nodes/"+testNode, nil)
			if err == nil && (p == nil || p.Session == "") {
				err = errors.New("not yet")
			}
			return err
		})
		asked := time.Now()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("SIGTERM: %v: %s", err, said)
		}
		if took := time.Since(asked); took > dockersPatience {
			t.Errorf("SIGTERM took %s", took)
		}
		if err := w.same(map[string]string{id("c102"): passing}); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"option is not needed any more: option=cleanup", "label=SERVICE_a.b", "container=c102"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("the log lacks %q:\n%s", want, said)
			}
		}
		for _, never := range []string{"ERROR", "last pass failed"} {
			if strings.Contains(said.String(), never) {
				t.Errorf("the log has %q:\n%s", never, said)
			}
		}
	})

	w.sub("explain", func(t *testing.T, w *world) {
		cmd, said := command("-ip", testIP, "explain", "c102")
		if err := cmd.Run(); err != nil || !strings.Contains(said.String(), "c102 8080/tcp") || !strings.Contains(said.String(), "SERVICE_a.b") {
			t.Errorf("%v: %s", err, said)
		}
	})

	w.sub("C50_noAddress", func(t *testing.T, w *world) {
		cmd, _ := command("-ip", "lo")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != daemon.ExitFailure || !strings.Contains(stderr.String(), "-ip lo") {
			t.Errorf("%v: %s", err, stderr.String())
		}
	})

	w.sub("usage", func(t *testing.T, w *world) {
		cmd, _ := command("--on-exit", "later")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != daemon.ExitUsage ||
			stderr.String() != "registrator: --on-exit \"later\": want keep or deregister\n" {
			t.Errorf("%v: %s", err, stderr.String())
		}
	})
}
