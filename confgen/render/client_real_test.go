//go:build real

package render_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestAllowDeny asks from several addresses of loopback, and wants a restricted prefix to leave
// what is beside and inside it alone.
func TestAllowDeny(t *testing.T) {
	s := catalog(t, `
open n ADDRESS passing 1 fairway-host=a.com
allow n ADDRESS passing 2 "fairway-host=a.com,~^re[0-9]\\.com$" fairway-path=/allow,=/exact fairway-allow=127.0.0.2,127.1.0.0/16,fd00::/8
deny n ADDRESS passing 3 fairway-host=a.com fairway-path=/deny fairway-deny=127.0.0.2,127.1.0.0/16
both n ADDRESS passing 4 fairway-host=a.com fairway-path=/both fairway-allow=127.1.0.0/16 fairway-deny=127.1.0.2
re n ADDRESS passing 5 fairway-host=a.com "fairway-path=~\\.php$"
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for _, c := range []struct{ from, host, path, want string }{
			{"127.0.0.1", "a.com", "/", "open"},
			{"127.0.0.1", "a.com", "/allow", "403"},
			{"127.0.0.1", "a.com", "/allow/x", "403"},
			{"127.0.0.1", "a.com", "/%61llow/x", "403"},
			{"127.0.0.1", "a.com", "/exact", "403"},
			{"127.0.0.1", "re1.com", "/allow/x", "403"},
			{"127.0.0.2", "re1.com", "/allow/x", "allow"},
			{"127.0.0.1", "a.com", "/allow/x.php", "re"},
			{"127.0.0.2", "a.com", "/allow", "allow"},
			{"127.1.2.3", "a.com", "/allow/x", "allow"},
			{"127.0.0.3", "a.com", "/exact", "403"},
			{"127.0.0.1", "a.com", "/deny", "deny"},
			{"127.0.0.2", "a.com", "/deny/x", "403"},
			{"127.1.0.9", "a.com", "/deny", "403"},
			{"127.1.0.9", "a.com", "/both", "both"},
			{"127.1.0.2", "a.com", "/both", "403"},
			{"127.0.0.1", "a.com", "/both", "403"},
		} {
			// What a client says of its address counts for nothing.
			got := sendFrom(t, c.from, address, "GET "+c.path+" HTTP/1.1\r\nHost: "+c.host+"\r\nX-Forwarded-For: 127.1.0.9\r\nX-Real-IP: 127.1.0.9\r\nConnection: close\r\n\r\n")
			if got.who() != c.want {
				t.Errorf("%+v: %s", c, got.who())
			}
		}
	})
}

// sendFrom sends a request from an address of its own.
func sendFrom(t testing.TB, from, address, request string) answer {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
	c, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return received(t, bufio.NewReader(c), http.MethodGet)
}
