//go:build real

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// shown asks for a host over TLS, on a connection of its own, and returns the serial number of
// the certificate that it is shown.
func shown(pool *x509.CertPool, port int, host string) (string, error) {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	conn, err := tls.DialWithDialer(dialer, "tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// shownAny is shown for a certificate of any authority.
func shownAny(port int, host string) (string, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true, ServerName: host}) //nolint:gosec // It looks at the number only.
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func serialOf(t testing.TB, cert []byte, key []byte) string {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.SerialNumber.String()
}

// A certificate that is replaced in the store is served within 5 s, on HAProxy without a reload;
// so are one that is added and one that goes. A broken one changes nothing, and is shown.
func TestRun_F47_certificates(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r, ca := newRig(t, kind), testbed.NewAuthority(t, "ca")
			store, port := t.TempDir(), testbed.Port(t)
			old, oldKey := ca.Issue(t, 24*time.Hour, "a.test")
			testbed.WriteSecret(t, filepath.Join(store, "a.pem"), append(old, oldKey...))
			args := []string{"--certificates", store, "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", port)}
			if kind == "nginx" {
				args = append(args, "--hard-stop-after", "2s", "--", testbed.Program(t, "nginx"))
			}
			app := r.web("app")
			r.register("a", app, "passing", host("a.test"))
			r.register("b", r.web("other"), "passing", host("b.test"))
			c := r.confgen(args...)
			if kind == "haproxy" {
				r.haproxy()
			}
			c.ready()
			if strings.Contains(r.log.String(), "needs a reload") {
				t.Error("what HAProxy shows is not what it was given")
			}
			serves := func(name, serial string) {
				t.Helper()
				testbed.Eventually(t, 5*time.Second, "the certificate of "+name+" is "+serial, func() error {
					got, err := shown(ca.Pool, port, name)
					if err == nil && got != serial {
						err = errors.New("shown: " + got)
					}
					if serial == "" && err != nil && strings.Contains(err.Error(), "unrecognized name") {
						return nil
					}
					return err
				})
			}
			serves("a.test", serialOf(t, old, oldKey))
			serves("b.test", "")
			reloads := c.metric("fairway_confgen_reloads_total")

			fresh, freshKey := ca.Issue(t, 48*time.Hour, "a.test")
			testbed.WriteSecret(t, filepath.Join(store, "a.pem"), append(fresh, freshKey...))
			serves("a.test", serialOf(t, fresh, freshKey))

			// Broken, of another key, expired: the old one serves on, and it is said.
			other, _ := ca.Issue(t, 24*time.Hour, "a.test")
			expired, expiredKey := ca.Issue(t, -time.Minute, "a.test")
			for why, data := range map[string][]byte{
				"holds no PEM": []byte("soon\n"), "do not go together": append(other, freshKey...), "expired on": append(expired, expiredKey...),
			} {
				testbed.WriteSecret(t, filepath.Join(store, "a.pem"), data)
				testbed.Eventually(t, 5*time.Second, "it is said that it "+why, func() error {
					s := c.status()
					if len(s.Faults) != 1 || !strings.Contains(s.Faults[0].Reason, why) || !s.Faults[0].Kept {
						return fmt.Errorf("%+v", s.Faults)
					}
					return nil
				})
				serves("a.test", serialOf(t, fresh, freshKey))
			}
			if got := c.metric("fairway_confgen_certificate_faults"); got != 1 {
				t.Errorf("certificate_faults %v", got)
			}
			again, againKey := ca.Issue(t, 72*time.Hour, "a.test")
			testbed.WriteSecret(t, filepath.Join(store, "a.pem"), append(again, againKey...))
			serves("a.test", serialOf(t, again, againKey))

			// One that is added, in two files; from then on clients of that host are sent to TLS.
			b, bKey := ca.Issue(t, 24*time.Hour, "b.test")
			testbed.WriteSecret(t, filepath.Join(store, "b.key"), bKey)
			testbed.WriteSecret(t, filepath.Join(store, "b.crt"), b)
			serves("b.test", serialOf(t, b, bKey))
			if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "b.test"); code != 200 && code != 0 {
				t.Errorf("in the clear: %d", code) // sent to TLS, where Go's client does not find the way
			}
			// And one that goes.
			if err := errors.Join(os.Remove(filepath.Join(store, "b.crt")), os.Remove(filepath.Join(store, "b.key"))); err != nil {
				t.Fatal(err)
			}
			serves("b.test", "")
			serves("a.test", serialOf(t, again, againKey))
			if n := c.metric("fairway_confgen_reloads_total") - reloads; kind == "haproxy" && n != 0 {
				t.Errorf("%v reloads", n)
			}
			if got := c.metric(`fairway_confgen_certificate_not_after_seconds{certificate="a"}`); time.Until(time.Unix(int64(got), 0)) < 71*time.Hour {
				t.Errorf("expiry %v", got)
			}
			c.keepsSecrets(t, againKey)

			// What was served is served by a confgen that starts and finds a broken file, and by
			// a proxy that starts from the disk.
			c.stop()
			testbed.WriteSecret(t, filepath.Join(store, "a.pem"), []byte("broken\n"))
			c = r.confgen(args...)
			c.ready()
			serves("a.test", serialOf(t, again, againKey))
		})
	}
}

// keepsSecrets wants keys in files that only their owner can read, and nowhere else.
func (c *confgen) keepsSecrets(t *testing.T, key []byte) {
	t.Helper()
	line := strings.Split(string(key), "\n")[1]
	found := 0
	err := filepath.WalkDir(c.r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // Files come and go meanwhile.
		}
		data, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(data), line) {
			return nil //nolint:nilerr // As above.
		}
		found++
		info, err := d.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d files with the key: %v", found, err)
	}
	_, page := get(t, "http://"+c.addr+"/status", "")
	if strings.Contains(c.r.log.String(), line) || strings.Contains(page, line) {
		t.Error("a key stands in the log or on a page")
	}
}
