//go:build real

package render_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// trusting is a view with two entrypoints behind proxies at 127.0.0.2 and 127.1.0.0/16, of which
// the second speaks the PROXY protocol.
func trusting(t testing.TB, proxy int, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	v.Settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("127.1.0.0/16")}
	v.Table = route.Build(s, route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: []route.Entrypoint{
		v.Entrypoints[0], {Name: "behind", Address: "127.0.0.1", Port: testbed.Port(t), Proxied: true},
	}})
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	return v
}

const trustedCatalog = `
kept n ADDRESS passing 1 fairway-host=a.com fairway-entrypoints=web,behind fairway-allow=192.0.2.0/24,127.0.0.9
open n ADDRESS passing 2 fairway-host=open.com fairway-entrypoints=web,behind
slow n ADDRESS passing 3 fairway-host=slow.com fairway-entrypoints=web,behind fairway-rate=1/1m
`

// TestTrustedProxies wants what X-Forwarded-For says to count where a trusted proxy says it, and
// nowhere else.
func TestTrustedProxies(t *testing.T) {
	s := catalog(t, trustedCatalog)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, trusting(t, proxy, s, dir))
		ask := func(from, host, headers string) answer {
			return sendFrom(t, from, address, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+headers+"\r\n")
		}
		for _, c := range []struct{ from, forwarded, want, client string }{
			{"127.0.0.1", "192.0.2.7", "403", "127.0.0.1"},
			{"127.0.0.9", "198.51.100.1", "kept", "127.0.0.9"},
			{"127.0.0.2", "192.0.2.7", "kept", "192.0.2.7"},
			{"127.0.0.2", "198.51.100.1, 192.0.2.7", "kept", "192.0.2.7"},
			{"127.0.0.2", "192.0.2.7, 198.51.100.1", "403", "198.51.100.1"},
			{"127.0.0.2", "198.51.100.1, 192.0.2.7, 127.1.2.3", "kept", "192.0.2.7"},
			{"127.1.0.5", "192.0.2.7, 127.1.2.3, 127.0.0.2, 127.1.2.4, 127.1.2.5", "kept", "192.0.2.7"},
			{"127.0.0.2", "", "403", "127.0.0.2"},
			{"127.0.0.2", "2001:db8::1", "403", "2001:db8::1"},
			{"127.0.0.2", "192.0.2.7, rubbish", "403", "127.0.0.2"},
		} {
			header := field("X-Forwarded-For", c.forwarded)
			if got := ask(c.from, "a.com", header); got.who() != c.want {
				t.Errorf("%+v: %s", c, got.who())
			}
			got := ask(c.from, "open.com", header)
			if got.seen("X-Forwarded-For") != c.client || got.seen("X-Real-Ip") != c.client {
				t.Errorf("%+v: the service sees %q and %q", c, got.seen("X-Forwarded-For"), got.seen("X-Real-Ip"))
			}
		}
		header := "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443\r\nX-Forwarded-Host: shop.test\r\n"
		got := ask("127.0.0.2", "open.com", header)
		if got.seen("X-Forwarded-Proto") != "https" || got.seen("X-Forwarded-Port") != "8443" || got.seen("X-Forwarded-Host") != "shop.test" {
			t.Errorf("a trusted proxy's word: %s", got.body)
		}
		got = ask("127.0.0.1", "open.com", header)
		if got.seen("X-Forwarded-Proto") != "http" || got.seen("X-Forwarded-Port") == "8443" || got.seen("X-Forwarded-Host") != "open.com" {
			t.Errorf("anybody's word: %s", got.body)
		}
		// Each client has a rate of its own, also on one connection of the proxy.
		c := connect(t, "127.0.0.2", address)
		for i, want := range []int{200, 200, 429} {
			client := []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"}[i]
			if got := again(t, c, "GET / HTTP/1.1\r\nHost: slow.com\r\nX-Forwarded-For: "+client+"\r\n\r\n"); got.status != want {
				t.Errorf("request %d on one connection: %d, want %d", i+1, got.status, want)
			}
		}
	})
}

// TestProxyProtocolIn wants the address that a trusted proxy announces to count, whatever headers
// say, and nobody else to announce one.
func TestProxyProtocolIn(t *testing.T) {
	s := catalog(t, trustedCatalog)
	each(t, func(t *testing.T, proxy int, dir string) {
		v := trusting(t, proxy, s, dir)
		start(t, proxy, dir, v)
		address := fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port)
		request := func(host string) string {
			return "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\nX-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n\r\n"
		}
		const announced = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"
		if got := sendFrom(t, "127.0.0.2", address, announced+request("a.com")); got.who() != "kept" || got.seen("X-Forwarded-For") != "192.0.2.7" || got.seen("X-Forwarded-Proto") != "http" {
			t.Errorf("a trusted proxy: %+v", got)
		}
		binary := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\x0a\x00\x00\x01\x12\x67\x00\x50"
		if got := sendFrom(t, "127.1.0.1", address, binary+request("open.com")); got.seen("X-Forwarded-For") != "192.0.2.8" {
			t.Errorf("version 2: %+v", got)
		}
		if got := sendFrom(t, "127.0.0.1", address, announced+request("a.com")); got.who() == "kept" {
			t.Error("anybody may say where a connection comes from")
		}
		if got := sendFrom(t, "127.0.0.2", address, request("a.com")); got.who() == "kept" {
			t.Errorf("a trusted proxy that announces nothing: %+v", got)
		}
	})
}

// connect opens a connection from an address.
func connect(t *testing.T, from, to string) *bufio.ReadWriter {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 2 * time.Second}
	c, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))
}

// again sends a further request on a connection.
func again(t *testing.T, c *bufio.ReadWriter, request string) answer {
	t.Helper()
	if _, err := c.WriteString(request); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return received(t, c.Reader, http.MethodGet)
}
