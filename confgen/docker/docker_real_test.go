//go:build real

package docker

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// A signal reaches process 1 of a container, found by its name or by the service that it runs
// for; where none runs, the error says so.
func TestSignal(t *testing.T) {
	engine := testbed.Docker(t)
	engine.Image("web")
	engine.Run("run", "-d", "--name", "proxy", "--label", "com.docker.compose.service=front", "web")
	for _, name := range []string{"proxy", "front"} {
		s, err := NewSignaler(Options{Host: engine.Host}, name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Signal(t.Context(), syscall.SIGCONT); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := NewSignaler(Options{Host: engine.Host}, "front")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 10*time.Second, "the signal arrived", func() error {
		c, err := engine.Client.ContainerInspect(t.Context(), "proxy")
		if err == nil && (c.State.Running || c.State.ExitCode != 137) {
			err = fmt.Errorf("state %+v", c.State)
		}
		return err
	})
	for _, name := range []string{"proxy", "front", "nobody"} {
		s, err := NewSignaler(Options{Host: engine.Host}, name)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Signal(t.Context(), syscall.SIGHUP); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignal_engineAway(t *testing.T) {
	s, err := NewSignaler(Options{Host: "unix://" + t.TempDir() + "/none.sock"}, "proxy")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Signal(t.Context(), syscall.SIGHUP); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("an engine that is away is no proof that nothing runs: %v", err)
	}
	for _, opt := range []Options{{Host: "nonsense"}, {Host: "tcp://127.0.0.1:1", CertPath: "/nowhere"}} {
		if _, err := NewSignaler(opt, "proxy"); err == nil || !strings.Contains(err.Error(), "docker") {
			t.Errorf("%+v: %v", opt, err)
		}
	}
}
