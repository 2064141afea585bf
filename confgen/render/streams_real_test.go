//go:build real

package render_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// lineServer says its name, who it is talked to by, and what it is told, line by line. With TLS it
// ends that itself.
func lineServer(t testing.TB, name string, secure *tls.Config) string {
	t.Helper()
	return tcpServer(t, func(c net.Conn) {
		if secure != nil {
			c = tls.Server(c, secure)
			defer c.Close()
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s: %s\n", name, strings.TrimSpace(line))
		}
	})
}

// talk says a line on a connection and returns the first answer.
func talk(c net.Conn, err error) string {
	if err != nil {
		return "refused"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "refused"
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "refused"
	}
	return strings.TrimSpace(line)
}

func streamView(t *testing.T, proxy int, s route.Snapshot, st *store, dir string, ports ...int) render.View {
	t.Helper()
	v := view(t, s, dir)
	secure := route.Entrypoint{Name: "websecure", Address: "127.0.0.1", Port: testbed.Port(t), TLS: true}
	set := route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: []route.Entrypoint{v.Entrypoints[0], secure}, Certificates: &st.Certificates}
	for _, p := range ports {
		set.TCPPorts = append(set.TCPPorts, route.PortRange{From: p, To: p})
	}
	v.Table = route.Build(s, set)
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	if proxies[proxy].name == "nginx" {
		v.Settings.StreamModule = testbed.NginxStreamModule(t)
	}
	writeSecrets(t, proxy, v, st, dir)
	return v
}

// TestStreams passes on connections to ports of their own.
func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		open, guarded, marked := testbed.Port(t), testbed.Port(t), testbed.Port(t)
		s := catalog(t, fmt.Sprintf(`
db n1 %s passing 1 fairway-tcp=%d fairway-balance=leastconn
db n2 %s passing 2 fairway-tcp=%d fairway-balance=leastconn
guarded n %s passing 3 fairway-tcp=%d fairway-allow=127.0.0.9
marked n %s passing 4 fairway-tcp=%d fairway-proxy-protocol=v1 fairway-check=off
web n ADDRESS passing 5 fairway-host=a.com
`, lineServer(t, "db1", nil), open, lineServer(t, "db2", nil), open, lineServer(t, "guarded", nil), guarded, lineServer(t, "marked", nil), marked))
		v := streamView(t, proxy, s, &store{}, dir, open, guarded, marked)
		address := start(t, proxy, dir, v)
		from := func(ip string, port int) string {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 2 * time.Second}
			return talk(d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)))
		}
		seen := map[string]bool{}
		for range 20 {
			seen[from("127.0.0.1", open)] = true
		}
		if len(seen) != 2 || !seen["db1: hello"] || !seen["db2: hello"] {
			t.Errorf("answered by %v", seen)
		}
		if got := from("127.0.0.1", guarded); got != "refused" {
			t.Errorf("who is not allowed: %s", got)
		}
		if got := from("127.0.0.9", guarded); got != "guarded: hello" {
			t.Errorf("who is allowed: %s", got)
		}
		if got := from("127.0.0.9", marked); !strings.HasPrefix(got, "marked: PROXY TCP4 127.0.0.9 127.0.0.1 ") {
			t.Errorf("who is told: %s", got)
		}
		if got := get(t, address, "a.com", "/"); got.who() != "web" {
			t.Errorf("beside it: %s", got.who())
		}
	})
}

// TestPassThrough passes TLS through for some hosts and ends it for the others, on one port, and
// tells both who the client is.
func TestPassThrough(t *testing.T) {
	ca, inner := testbed.NewAuthority(t, "ca"), testbed.NewAuthority(t, "inner")
	own := func(name string) string {
		return lineServer(t, name, &tls.Config{Certificates: []tls.Certificate{inner.TLS(t, "pass.com", "x.wild.com", "x.y.wild.com", "guarded.com")}, MinVersion: tls.VersionTLS12})
	}
	s := catalog(t, `
pass n `+own("pass")+` passing 1 fairway-sni=pass.com
wild n `+own("wild")+` passing 2 fairway-sni=*.wild.com
guarded n `+own("guarded")+` passing 3 fairway-sni=guarded.com fairway-allow=127.0.0.9
web n ADDRESS passing 4 fairway-host=a.com,here.wild.com
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("a", ca.Pair(t, "a.com", "here.wild.com"), "a.com", "here.wild.com")
		v := streamView(t, proxy, s, st, dir)
		start(t, proxy, dir, v)
		address := fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port)
		dial := func(from, host string) string {
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
			c, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{RootCAs: inner.Pool, ServerName: host, MinVersion: tls.VersionTLS12})
			if err != nil {
				return "refused"
			}
			return talk(c, nil)
		}
		for _, q := range []struct{ from, host, want string }{
			{"127.0.0.1", "pass.com", "pass: hello"},
			{"127.0.0.1", "PASS.com", "pass: hello"},
			{"127.0.0.1", "x.wild.com", "wild: hello"},
			{"127.0.0.1", "x.y.wild.com", "wild: hello"},
			{"127.0.0.1", "guarded.com", "refused"},
			{"127.0.0.9", "guarded.com", "guarded: hello"},
			{"127.0.0.1", "other.com", "refused"},
			{"127.0.0.1", "xpass.com", "refused"},
		} {
			if got := dial(q.from, q.host); got != q.want {
				t.Errorf("%+v: %s", q, got)
			}
		}
		for _, host := range []string{"a.com", "here.wild.com"} {
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}}
			c, err := tls.DialWithDialer(d, "tcp", address, &tls.Config{RootCAs: ca.Pool, ServerName: host, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
			body, err := io.ReadAll(c)
			_ = c.Close()
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", host, err)
			}
			for _, want := range []string{"web", "X-Forwarded-For: 127.0.0.9\r", fmt.Sprintf("X-Forwarded-Port: %d\r", v.Entrypoints[1].Port), "X-Forwarded-Proto: https\r"} {
				if !strings.Contains(string(body), want) {
					t.Errorf("%s: no %q in\n%s", host, want, body)
				}
			}
		}
	})
}
