//go:build real

package watch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// A thousand services of ten instances, under the limit of connections that Consul has by default.
// The benchmark (make bench PATTERN=Follow) has five thousand.
func TestWatch_F60_F61_aThousandServices(t *testing.T) {
	server := testbed.Consul(t)
	fill(t, server.Client, 1000, 10)
	addr, opened := counted(t, server.Addr)
	f := follow(t, Options{Connections: 8}, addr)
	testbed.Eventually(t, time.Minute, "everything is read", func() error {
		s := f.Status(t.Context())
		if s.Err != "" || s.Routed != 1000 || s.Instances != 10_000 {
			return fmt.Errorf("%d services with %d instances, error %q", s.Routed, s.Instances, s.Err)
		}
		return nil
	})
	first, _ := f.Latest()
	if first.Version != 1 || len(first.Snapshot.Services) != 1000 {
		t.Errorf("version %d with %d services: a part was shown", first.Version, len(first.Snapshot.Services))
	}
	register(t, server.Client, "node-7", "svc-500", "10.200.0.1", "passing", routed)
	f.sees("a change among a thousand", func(v View) error {
		for _, s := range v.Snapshot.Services {
			if s.Name == "svc-500" && len(s.Instances) == 11 {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if n := opened.Load(); n > 8 {
		t.Errorf("%d connections", n)
	}
	if s := f.Status(t.Context()); len(s.Failing) > 0 || s.Counts.Reads > 1100 {
		t.Errorf("failing %v, %d reads", s.Failing, s.Counts.Reads)
	}
}

// counted forwards to addr and counts connections.
func counted(t *testing.T, addr string) (string, *atomic.Int32) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	opened := new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			opened.Add(1)
			s, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				_ = c.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from) // ends with either side
				_ = to.Close()
				_ = from.Close()
			}
			go pass(s, c)
			go pass(c, s)
		}
	}()
	return l.Addr().String(), opened
}
