//go:build real

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// kept is a client's connection that is kept.
type kept struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func keep(t *testing.T, port int, secure *tls.Config) *kept {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &kept{t, conn, bufio.NewReader(conn)}
}

// ask posts something and returns the answer. Nothing is ever repeated.
func (k *kept) ask() string {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi"); err != nil {
		k.t.Fatal(err)
	}
	resp, err := http.ReadResponse(k.in, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status
	}
	return string(body)
}

// mortal is an application that says whom it was asked by, and ends when it is told to.
func mortal(t *testing.T, name string) (app web, end func()) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", name, body, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends with Close
	}()
	end = func() { _ = s.Close(); <-done }
	t.Cleanup(end)
	return web{name, "127.0.0.1", l.Addr().(*net.TCPAddr).Port}, end
}

// A client that has kept its connection over a reload has its next request read by the old worker. A
// roll-out may have replaced every instance that this one knows: the new worker has to answer. When HAProxy
// ends for good there is none, and the old one answers.
func TestRun_F57_oldWorkersHandOver(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			r := newRig(t, "haproxy")
			args, port, secure := []string{"--guard-grace", "0s"}, r.port, (*tls.Config)(nil)
			if scheme == "https" {
				port = testbed.Port(t)
				store := t.TempDir()
				authority := testbed.NewAuthority(t, "ca")
				testbed.WriteSecret(t, filepath.Join(store, "shop.pem"), authority.Pair(t, "shop.test"))
				secure = &tls.Config{RootCAs: authority.Pool, ServerName: "shop.test"}
				args = append(args, "--certificates", store, "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", port))
			}
			blue, end := mortal(t, "blue")
			r.register("shop", blue, "passing", host("shop.test"))
			c := r.confgen(args...)
			child := r.haproxy()
			c.ready()
			says := func(name string) string { return name + " hi 127.0.0.1 " + scheme }
			testbed.Eventually(t, 5*time.Second, "blue answers", func() error {
				if got := keep(t, port, secure).ask(); got != says("blue") {
					return errors.New(got)
				}
				return nil
			})
			client := keep(t, port, secure)
			if got := client.ask(); got != says("blue") {
				t.Fatal(got)
			}

			reloads := c.metric("fairway_confgen_reloads_total")
			r.register("guest", r.web("guest"), "passing", host("guest.test"))
			testbed.Eventually(t, 5*time.Second, "a new service is a reload, so that there is an old worker", func() error {
				if c.metric("fairway_confgen_reloads_total") == reloads {
					return errors.New("none was counted")
				}
				return nil
			})
			green, _ := mortal(t, "green")
			r.register("shop", green, "passing", host("shop.test"))
			r.register("shop", blue, "critical", host("shop.test"))
			testbed.Eventually(t, 5*time.Second, "green alone answers", func() error {
				for range 4 {
					if got := keep(t, port, secure).ask(); got != says("green") {
						return errors.New(got)
					}
				}
				return nil
			})
			end()
			r.deregister(blue)
			if got := client.ask(); got != says("green") {
				t.Errorf("the old worker's client was told %q", got)
			}

			last := keep(t, port, secure)
			last.ask()
			stopped := func() int { return strings.Count(r.log.String(), "Proxy _web stopped") }
			before := stopped()
			if err := child.Signal(t.Context(), syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			testbed.Eventually(t, 5*time.Second, "HAProxy ends", func() error {
				if stopped() == before {
					return errors.New("it takes new connections")
				}
				return nil
			})
			if got := last.ask(); got != says("green") {
				t.Errorf("the last worker's client was told %q", got)
			}
		})
	}
}
