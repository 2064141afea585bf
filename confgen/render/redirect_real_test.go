//go:build real

package render_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// secureView is a view with a second entrypoint, websecure, that has a certificate.
func secureView(t testing.TB, proxy int, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	secure := route.Entrypoint{Name: "websecure", Address: "127.0.0.1", Port: testbed.Port(t), TLS: true}
	v.Table = route.Build(s, route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: []route.Entrypoint{v.Entrypoints[0], secure}})
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	v.Settings.Certificate = filepath.Join(dir, "a.com.pem")
	certificate(t, v.Settings.Certificate, "a.com")
	return v
}

// sendTLS sends a request over TLS and reads one answer.
func sendTLS(t testing.TB, port int, request string) answer {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // Our own certificate.
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return received(t, bufio.NewReader(c), http.MethodGet)
}

// TestRedirects asks as a client does and looks where it is sent.
func TestRedirects(t *testing.T) {
	s := catalog(t, `
fixed n DEAD critical 1 fairway-host=fixed.com "fairway-redirect=302 https://new.com/100%25?q=$host&x='1'#top"
path n DEAD passing 1 fairway-host=path.com "fairway-redirect=301 /else"
keeps n DEAD passing 7 fairway-host=keeps.com "fairway-redirect=307 /else"
stays n DEAD passing 8 fairway-host=stays.com "fairway-redirect=308 /else"
main n ADDRESS passing 2 fairway-host=main.com fairway-path=/app "fairway-redirect-from=www.main.com,*.old.com,~^re[0-9]\\.com$"
safe n ADDRESS passing 3 fairway-host=safe.com,*.safe.com fairway-path=/app fairway-tls=redirect "fairway-hsts=max-age=60; includeSubDomains"
only n ADDRESS passing 4 fairway-host=only.com fairway-tls=only
off n ADDRESS passing 5 fairway-host=off.com fairway-tls=off
both n ADDRESS passing 6 fairway-host=both.com fairway-tls=on "fairway-headers-response=Strict-Transport-Security: x"
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		v := secureView(t, proxy, s, dir)
		start(t, proxy, dir, v)
		plain, secure := v.Entrypoints[0].Port, v.Entrypoints[1].Port
		there := fmt.Sprintf(":%d", secure)
		for _, c := range []struct {
			method, host, path string
			tls                bool
			want, location     string
		}{
			{"GET", "fixed.com", "/x?y", false, "302", "https://new.com/100%25?q=$host&x='1'#top"},
			{"POST", "fixed.com", "/", true, "302", "https://new.com/100%25?q=$host&x='1'#top"},
			{"GET", "path.com", "/", false, "301", "/else"},
			{"POST", "keeps.com", "/", false, "307", "/else"},
			{"POST", "stays.com", "/", false, "308", "/else"},
			{"GET", "www.main.com", "/x%2fy?q=%20", false, "308", "http://main.com/x%2fy?q=%20"},
			{"GET", "WWW.main.com:8080", "/x", false, "308", "http://main.com:8080/x"},
			{"POST", "a.old.com", "/", true, "308", "https://main.com/"},
			{"GET", "re1.com", "/y", false, "308", "http://main.com/y"},
			{"GET", "main.com", "/app", false, "main", ""},
			{"GET", "main.com", "/", false, "404", ""},
			{"GET", "safe.com", "/app/x%2f?q", false, "308", "https://safe.com" + there + "/app/x%2f?q"},
			{"GET", "x.safe.com:80", "/app", false, "308", "https://x.safe.com" + there + "/app"},
			{"GET", "safe.com", "http://safe.com/app", false, "308", "https://safe.com" + there + "/app"},
			{"GET", "safe.com", "/", false, "404", ""},
			{"GET", "safe.com", "/app", true, "safe", ""},
			{"GET", "only.com", "/", false, "404", ""},
			{"GET", "only.com", "/", true, "only", ""},
			{"GET", "off.com", "/", false, "off", ""},
			{"GET", "off.com", "/", true, "404", ""},
			{"GET", "both.com", "/", false, "both", ""},
			{"GET", "both.com", "/", true, "both", ""},
		} {
			request := c.method + " " + c.path + " HTTP/1.1\r\nHost: " + c.host + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
			var got answer
			if c.tls {
				got = sendTLS(t, secure, request)
			} else {
				got = send(t, fmt.Sprintf("127.0.0.1:%d", plain), request)
			}
			if got.who() != c.want || got.header.Get("Location") != c.location {
				t.Errorf("%+v: %s to %q", c, got.who(), got.header.Get("Location"))
			}
			hsts := ""
			if c.want == "safe" {
				hsts = "max-age=60; includeSubDomains"
			}
			if have := got.header.Get("Strict-Transport-Security"); have != hsts && c.want != "both" {
				t.Errorf("%+v: HSTS %q, want %q", c, have, hsts)
			}
		}
	})
}

// TestHSTS wants the header over TLS, once, whatever the service says, and never without TLS.
func TestHSTS(t *testing.T) {
	s := catalog(t, "web n ADDRESS passing 1 fairway-host=a.com fairway-hsts=max-age=60\nown n ADDRESS passing 1 fairway-host=b.com\noff n ADDRESS passing 2 fairway-host=c.com fairway-hsts=off")
	each(t, func(t *testing.T, proxy int, dir string) {
		v := secureView(t, proxy, s, dir)
		address := start(t, proxy, dir, v)
		for host, want := range map[string][]string{"a.com": {"max-age=60"}, "b.com": {"own"}, "c.com": {"own"}} {
			request := "GET / HTTP/1.1\r\nHost: " + host + "\r\nX-Say: Strict-Transport-Security\r\nConnection: close\r\n\r\n"
			if got := sendTLS(t, v.Entrypoints[1].Port, request); fmt.Sprint(got.header.Values("Strict-Transport-Security")) != fmt.Sprint(want) {
				t.Errorf("%s over TLS: %v", host, got.header)
			}
			if got := send(t, address, request); host == "a.com" && got.header.Get("Strict-Transport-Security") != "" {
				t.Errorf("%s in the clear: %v", host, got.header)
			}
		}
	})
}
