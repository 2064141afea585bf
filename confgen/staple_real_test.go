//go:build real

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"golang.org/x/crypto/ocsp"
)

// stapled returns the OCSP response that comes with a host's certificate.
func stapled(pool *x509.CertPool, port int, host string) ([]byte, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().OCSPResponse, nil
}

// An OCSP response beside a certificate is stapled within 5 s, on HAProxy without a reload; so is
// the next one, also one that comes with a new certificate. One that counts no more goes.
func TestRun_staple(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r, ca := newRig(t, kind), testbed.NewAuthority(t, "ca")
			store, port := t.TempDir(), testbed.Port(t)
			pair := ca.Pair(t, "a.test")
			write := func(name string, data ...[]byte) {
				testbed.WriteSecret(t, filepath.Join(store, name), slices.Concat(data...))
			}
			answer := func(valid time.Duration) []byte {
				return ca.Answer(t, pair, ocsp.Response{Status: ocsp.Good, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(valid)}, nil)
			}
			write("a.pem", pair, ca.PEM)
			args := []string{"--certificates", store, "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", port)}
			if kind == "nginx" {
				args = append(args, "--hard-stop-after", "2s", "--", testbed.Program(t, "nginx"))
			}
			r.register("a", r.web("app"), "passing", host("a.test"))
			c := r.confgen(args...)
			if kind == "haproxy" {
				r.haproxy()
			}
			c.ready()
			sees := func(what string, want []byte, fault string) {
				t.Helper()
				testbed.Eventually(t, 5*time.Second, what, func() error {
					got, err := stapled(ca.Pool, port, "a.test")
					if err == nil && !bytes.Equal(got, want) {
						err = fmt.Errorf("a response of %d bytes, want %d", len(got), len(want))
					}
					if f := c.status().Faults; err == nil && (len(f) != min(1, len(fault)) || len(f) == 1 && !strings.Contains(f[0].Reason, fault)) {
						err = fmt.Errorf("%+v", f)
					}
					return err
				})
			}
			sees("nothing is stapled", nil, "")
			reloads := c.metric("fairway_confgen_reloads_total")

			first := answer(time.Hour)
			write("a.ocsp", first)
			sees("the first", first, "")
			second := answer(2 * time.Hour)
			write("a.ocsp", second)
			sees("the second", second, "")
			write("a.ocsp", []byte("soon\n"))
			sees("the second stays", second, "cannot be used")

			pair = ca.Pair(t, "a.test")
			third := answer(time.Hour)
			write("a.pem", pair, ca.PEM)
			write("a.ocsp", third)
			sees("that of the new certificate", third, "")

			short := answer(5*time.Minute + 3*time.Second) // ends by itself, 5 min early
			write("a.ocsp", short)
			sees("a short one", short, "")
			sees("it has ended", nil, "counts until")
			if err := os.Remove(filepath.Join(store, "a.ocsp")); err != nil {
				t.Fatal(err)
			}
			sees("nothing is stapled any more", nil, "")
			if n := c.metric("fairway_confgen_reloads_total") - reloads; kind == "haproxy" && n != 0 {
				t.Errorf("%v reloads", n)
			}

			// A proxy that starts from the disk has it too.
			last := answer(time.Hour)
			write("a.ocsp", last)
			sees("the last", last, "")
			data, err := os.ReadFile(filepath.Join(r.dir, "certs/a.pem.ocsp"))
			if err != nil || !bytes.Equal(data, last) {
				t.Errorf("on disk: %d bytes, %v", len(data), err)
			}
		})
	}
}
