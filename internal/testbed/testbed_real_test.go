//go:build real

package testbed

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestConsul_restartKeepsDataAndWipeForgetsIt(t *testing.T) {
	t.Parallel()
	s := Consul(t)
	kv := s.Client.KV()
	if _, err := kv.Put(&api.KVPair{Key: "a", Value: []byte("1")}, nil); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Start()
	if p, _, err := kv.Get("a", nil); err != nil || p == nil {
		t.Fatalf("after a restart: %v, %v", p, err)
	}
	s.Wipe()
	if p, _, err := kv.Get("a", nil); err != nil || p != nil {
		t.Fatalf("after a wipe: %v, %v", p, err)
	}
}

func TestDocker_publishedPortsAnswer(t *testing.T) {
	t.Parallel()
	e := Docker(t)
	e.Image("web")
	e.Run("run", "-d", "--name", "web-1", "-p", "8080", "web")
	_, port, _ := strings.Cut(e.Run("port", "web-1", "8080/tcp"), ":")
	port, _, _ = strings.Cut(port, "\n")
	Eventually(t, 10*time.Second, "the container answers", func() error {
		resp, err := http.Get("http://" + e.Address + ":" + port + "/healthz") //nolint:noctx // bounded by Eventually
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
}

func TestDocker_restart(t *testing.T) {
	t.Parallel()
	e := Docker(t)
	e.Run("volume", "create", "kept")
	e.Stop()
	e.Start()
	if got := e.Run("volume", "ls", "-q"); got != "kept" {
		t.Fatalf("volumes after a restart: %q", got)
	}
}

// TestDocker_leavesNothing ends an engine whose containers outlive it, as they do where it is killed.
func TestDocker_leavesNothing(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("killed", func(t *testing.T) {
		e := Docker(t)
		dir = filepath.Dir(strings.TrimPrefix(e.Host, "unix://"))
		e.Image("web")
		e.Run("run", "-d", "web")
		for _, pid := range leftOf(t, dir) {
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); slices.Contains([]string{"dockerd", "containerd"}, strings.TrimSpace(string(name))) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if left := leftOf(t, dir); len(left) == 0 {
			t.Error("no container has outlived its engine")
		}
	})
	Eventually(t, 5*time.Second, "no process is left", func() error {
		if left := leftOf(t, dir); len(left) > 0 {
			return fmt.Errorf("processes %d", left)
		}
		return nil
	})
}
