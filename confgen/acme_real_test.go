//go:build real

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// tool builds a program of scripts/acme and runs it until the test ends.
func tool(t *testing.T, name string, env []string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(testbed.Root(), "scripts/build-tool"), "acme", "github.com/letsencrypt/pebble/v2/cmd/"+name).Output()
	if err != nil {
		t.Fatalf("build %s: %v", name, err)
	}
	var log bytes.Buffer
	cmd := exec.Command(strings.TrimSpace(string(out)), args...) //nolint:gosec,noctx // Built just now, ended below.
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, log.String())
		}
	})
}

// The example gets a certificate for a host through the front end, which serves it; then it renews
// it, with the host's clients sent to TLS in the meantime.
func TestRun_acme(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r, secure, lego := newRig(t, kind), testbed.Port(t), testbed.Port(t)
			a := newACME(t, r.port, secure)
			r.register("shop", r.web("shop"), "passing", host("shop.test"))
			r.register("acme", web{"acme", "127.0.0.1", lego}, "passing", map[string]string{
				"fairway-host": "shop.test", "fairway-path": "/.well-known/acme-challenge", "fairway-tls": "off", "fairway-check": "off",
			})
			args := []string{"--certificates", filepath.Join(a.store, "certificates"), "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", secure)}
			if kind == "nginx" {
				args = append(args, "--hard-stop-after", "2s", "--", testbed.Program(t, "nginx"))
			}
			c := r.confgen(args...)
			if kind == "haproxy" {
				r.haproxy()
			}
			c.ready()
			r.answers("shop.test", "shop")
			a.renew(t, lego, "shop.test")
			first := c.servesShop(secure, "")
			testbed.Eventually(t, 5*time.Second, "clients are sent to TLS", func() error { // a map, which comes after the certificate
				if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "shop.test"); code == http.StatusOK {
					return errors.New("the service has answered")
				}
				return nil
			})
			a.renew(t, lego, "shop.test")
			c.servesShop(secure, first)
		})
	}
}

// acme is an authority that asks hosts for proof on two ports of this machine.
type acme struct {
	dir, store string
	api        int
}

func newACME(t *testing.T, plain, secure int) acme {
	t.Helper()
	a, ca, dns := acme{dir: t.TempDir(), api: testbed.Port(t)}, testbed.NewAuthority(t, "ca"), testbed.Port(t)
	cert, key := ca.Issue(t, time.Hour, "127.0.0.1")
	for name, data := range map[string][]byte{"ca.pem": ca.PEM, "cert.pem": cert, "key.pem": key, "pebble.json": fmt.Appendf(nil,
		`{"pebble": {"listenAddress": "127.0.0.1:%d", "managementListenAddress": "127.0.0.1:%d", "certificate": %q, "privateKey": %q, "httpPort": %d, "tlsPort": %d}}`,
		a.api, testbed.Port(t), filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem"), plain, secure)} {
		testbed.WriteSecret(t, filepath.Join(a.dir, name), data)
	}
	a.store = filepath.Join(a.dir, "store")
	if err := os.MkdirAll(filepath.Join(a.store, "certificates"), 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, "pebble-challtestsrv", nil, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns),
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", fmt.Sprintf("127.0.0.1:%d", testbed.Port(t)))
	tool(t, "pebble", []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, "-config", filepath.Join(a.dir, "pebble.json"), "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns))
	testbed.Eventually(t, 10*time.Second, "the authority listens", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.api))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return a
}

// renew runs the example, which listens on a port while it is asked.
func (a acme) renew(t *testing.T, port int, host string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(testbed.Root(), "examples/acme/renew"), host)
	cmd.Env = append(os.Environ(), "STORE="+a.store, "ACME_PORT="+strconv.Itoa(port), "ACME_EMAIL=ops@shop.test", "DAYS=99999",
		fmt.Sprintf("ACME_SERVER=https://127.0.0.1:%d/dir", a.api), "LEGO_CA_CERTIFICATES="+filepath.Join(a.dir, "ca.pem"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("renew: %v\n%s", err, out)
	}
}

// servesShop waits until a certificate from the store is served for shop.test, but not that of one
// serial number, and returns the number of what is.
func (c *confgen) servesShop(port int, but string) (serial string) {
	c.r.t.Helper()
	testbed.Eventually(c.r.t, 5*time.Second, "a certificate of the authority is served", func() error {
		s := c.status()
		for _, x := range s.Certificates {
			got, err := shownAny(port, "shop.test")
			if err != nil {
				return err
			}
			if serial = got; x.Name == "shop.test" && got != but {
				return nil
			}
		}
		return fmt.Errorf("%+v %+v", s.Certificates, s.Faults)
	})
	return serial
}
