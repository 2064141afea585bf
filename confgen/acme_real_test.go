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
	r, ca := newRig(t, "haproxy"), testbed.NewAuthority(t, "ca")
	dir, secure, lego, api, dns := t.TempDir(), testbed.Port(t), testbed.Port(t), testbed.Port(t), testbed.Port(t)
	cert, key := ca.Issue(t, time.Hour, "127.0.0.1")
	for name, data := range map[string][]byte{"ca.pem": ca.PEM, "cert.pem": cert, "key.pem": key, "pebble.json": fmt.Appendf(nil,
		`{"pebble": {"listenAddress": "127.0.0.1:%d", "managementListenAddress": "127.0.0.1:%d", "certificate": %q, "privateKey": %q, "httpPort": %d, "tlsPort": %d}}`,
		api, testbed.Port(t), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), r.port, secure)} {
		testbed.WriteSecret(t, filepath.Join(dir, name), data)
	}
	store := filepath.Join(dir, "store")
	if err := os.MkdirAll(filepath.Join(store, "certificates"), 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, "pebble-challtestsrv", nil, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns),
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", fmt.Sprintf("127.0.0.1:%d", testbed.Port(t)))
	tool(t, "pebble", []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", fmt.Sprintf("127.0.0.1:%d", dns))

	r.register("shop", r.web("shop"), "passing", host("shop.test"))
	r.register("acme", web{"acme", "127.0.0.1", lego}, "passing", map[string]string{
		"fairway-host": "shop.test", "fairway-path": "/.well-known/acme-challenge", "fairway-tls": "off", "fairway-check": "off",
	})
	c := r.confgen("--certificates", filepath.Join(store, "certificates"), "--entrypoint", fmt.Sprintf("websecure=127.0.0.1:%d/tls", secure))
	r.haproxy()
	c.ready()
	r.answers("shop.test", "shop")
	testbed.Eventually(t, 10*time.Second, "the authority listens", func() error {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", api))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	renew := func() {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(testbed.Root(), "examples/acme/renew"), "shop.test")
		cmd.Env = append(os.Environ(), "STORE="+store, "ACME_PORT="+strconv.Itoa(lego), "ACME_EMAIL=ops@shop.test", "DAYS=99999",
			fmt.Sprintf("ACME_SERVER=https://127.0.0.1:%d/dir", api), "LEGO_CA_CERTIFICATES="+filepath.Join(dir, "ca.pem"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("renew: %v\n%s", err, out)
		}
	}
	served := func(but string) (serial string) {
		t.Helper()
		testbed.Eventually(t, 5*time.Second, "a certificate of the authority is served", func() error {
			s := c.status()
			for _, x := range s.Certificates {
				got, err := shownAny(secure, "shop.test")
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
	renew()
	first := served("")
	testbed.Eventually(t, 5*time.Second, "clients are sent to TLS", func() error { // a map, which comes after the certificate
		if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "shop.test"); code == http.StatusOK {
			return errors.New("the service has answered")
		}
		return nil
	})
	renew()
	served(first)
}
