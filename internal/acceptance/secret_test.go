//go:build cluster

package acceptance

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"fairway/internal/testbed"
)

// certificateInSecret gives the service that confgen runs in a certificate as a Swarm secret: the front
// end serves its host over TLS, and sends those there who come without.
func (c *cluster) certificateInSecret(service string) {
	c.t.Helper()
	ca := testbed.NewAuthority(c.t, "ca")
	pair := filepath.Join(c.t.TempDir(), "shop.pem")
	if err := os.WriteFile(pair, ca.Pair(c.t, "cluster.test"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.docker("cluster-master", "secret", "create", "shop.pem", pair)
	c.docker("cluster-master", "service", "update", "--detach", "--quiet", "--secret-add", "shop.pem",
		"--env-add", "CONFGEN_CERTIFICATES=/run/secrets/shop.pem", "fairway_"+service)
	secure := net.JoinHostPort(c.address("frontend"), "8443")
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool, ServerName: "cluster.test", MinVersion: tls.VersionTLS12},
	}}
	testbed.Eventually(c.t, 2*time.Minute, "the host is served with the secret's certificate", func() error {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "https://"+secure+"/", nil)
		if err != nil {
			return err
		}
		req.Host = "cluster.test"
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d: %w", resp.StatusCode, err)
		}
		return nil
	})
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.web()+"/", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Host = "cluster.test"
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusPermanentRedirect {
		c.t.Errorf("in the clear: status %d", resp.StatusCode)
	}
}
