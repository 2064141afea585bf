//go:build real

package render_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// alikeHTTP2 is what of alike can be asked in HTTP/2; a target without a path is that of CONNECT.
var alikeHTTP2 = []struct{ method, host, target, want string }{
	{"GET", "a.com", "/api", "api"},
	{"GET", "a.com.", "/api", "api"},
	{"GET", "a.com:8080", "/api", "api"},
	{"M-SEARCH", "a.com", "/api", "api"},
	{"GET", "a.com,b.a.com", "/api", "400"},
	{"GET", "a..com", "/api", "400"},
	{"GET", "a.com", "/a/../api", "400"},
	{"GET", "a.com", "/a%00", "400"},
	{"GET", "a.com", "*", "400"},
	{"OPTIONS", "a.com", "*", "400"},
	{"get", "a.com", "/api", "400"},
	{"connect", "a.com", "/api", "400"},
	{"CONNECT", "a.com:443", "", "400"},
	{"PRI", "a.com", "/api", "400"},
	{"TRACE", "a.com", "/api", "405"},
}

// TestRefused_HTTP2 sends the odd requests that HTTP/2 has words for.
func TestRefused_HTTP2(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	pair := ca.Pair(t, "a.com", "*.com")
	s := catalog(t, matchingCatalog)
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("shop", pair, "a.com", "*.com")
		v := hostileView(t, proxy, s, st, dir)
		writeSecrets(t, proxy, v, st, dir)
		start(t, proxy, dir, v)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool, ServerName: "a.com", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		c := &http.Client{Timeout: 10 * time.Second, Transport: transport}
		for _, tt := range alikeHTTP2 {
			to := &url.URL{Scheme: "https", Host: fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port), Opaque: tt.target}
			r, err := c.Do(&http.Request{Method: tt.method, Host: tt.host, URL: to, Header: http.Header{}})
			if err != nil {
				t.Errorf("%s %s %s: %v", tt.method, tt.host, tt.target, err)
				continue
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if got := (answer{r.StatusCode, string(body), r.Header}); err != nil || r.ProtoMajor != 2 || got.who() != tt.want {
				t.Errorf("%s %s %s: %s by %s, want %s; %v", tt.method, tt.host, tt.target, got.who(), r.Proto, tt.want, err)
			}
		}
	})
}
