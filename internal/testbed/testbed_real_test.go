//go:build real

package testbed

import (
	"net/http"
	"strings"
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
