//go:build real

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// speaker answers every line with its name.
func (r *rig) speaker(name string, secure *tls.Config) web {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		r.t.Fatal(err)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	r.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, name)
				}
			}()
		}
	}()
	return web{name, host, n}
}

// says asks on a connection.
func says(c net.Conn) (string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "who?\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return line, err
}

// Streams, by port and by the name in TLS, follow the catalog as routes do: servers come and go
// without a reload of HAProxy, and connections survive one.
func TestRun_streams(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r, ca, inner := newRig(t, kind), testbed.NewAuthority(t, "ca"), testbed.NewAuthority(t, "inner")
			if err := os.Chmod(r.dir, 0o755); err != nil { //nolint:gosec // nginx's workers have to reach the sockets in it.
				t.Fatal(err)
			}
			store, secure, port := t.TempDir(), testbed.Port(t), testbed.Port(t)
			testbed.WriteSecret(t, filepath.Join(store, "a.pem"), ca.Pair(t, "a.test"))
			r.register("db", r.speaker("one", nil), "passing", map[string]string{"fairway-tcp": strconv.Itoa(port)})
			pass := &tls.Config{Certificates: []tls.Certificate{inner.TLS(t, "pass.test")}, MinVersion: tls.VersionTLS12}
			r.register("pass", r.speaker("passed", pass), "passing", map[string]string{"fairway-sni": "pass.test"})
			r.register("a", r.web("app"), "passing", host("a.test"))
			args := []string{"--certificates", store, "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", secure), "--tcp-ports", strconv.Itoa(port)}
			if kind == "nginx" {
				args = append(args, "--hard-stop-after", "2s", "--", testbed.Program(t, "nginx"))
			}
			c := r.confgen(args...)
			if kind == "haproxy" {
				r.haproxy()
			}
			c.ready()
			through := func(pool *x509.CertPool, name string) (net.Conn, error) {
				return tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", secure), &tls.Config{RootCAs: pool, ServerName: name, MinVersion: tls.VersionTLS12})
			}
			all := func(names ...string) {
				t.Helper()
				testbed.Eventually(t, 10*time.Second, fmt.Sprintf("port %d is answered by %v, and both kinds of TLS work", port, names), func() error {
					seen := map[string]bool{}
					for range 4 * len(names) {
						conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
						if err != nil {
							return err
						}
						line, err := says(conn)
						_ = conn.Close()
						if err != nil {
							return err
						}
						seen[line] = true
					}
					conn, err := through(inner.Pool, "pass.test")
					if err != nil {
						return err
					}
					defer conn.Close()
					if line, err := says(conn); err != nil || line != "passed\n" {
						return fmt.Errorf("passed through: %q %w", line, err)
					}
					here, err := through(ca.Pool, "a.test")
					if err != nil {
						return err
					}
					_ = here.Close()
					if len(seen) != len(names) {
						return fmt.Errorf("%v", seen)
					}
					return nil
				})
			}
			all("one")
			held, err := through(inner.Pool, "pass.test")
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			before := c.metric("fairway_confgen_reloads_total")
			two := r.speaker("two", nil)
			r.register("db", two, "passing", map[string]string{"fairway-tcp": strconv.Itoa(port)})
			all("one", "two")
			r.deregister(two)
			all("one")
			if n := c.metric("fairway_confgen_reloads_total") - before; kind == "haproxy" && n != 0 {
				t.Errorf("%v reloads", n)
			}
			if kind == "haproxy" { // nginx's old workers have two seconds
				r.register("new", r.web("new"), "passing", host("new.test"))
				r.answers("new.test", "new")
				all("one")
				if line, err := says(held); err != nil || line != "passed\n" {
					t.Errorf("a connection from before the reload: %q %v", line, err)
				}
			}
		})
	}
}
