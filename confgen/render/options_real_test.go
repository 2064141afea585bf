//go:build real

package render_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/internal/testbed"
)

// viewFor is a view of a table that was built for one of the proxies.
func viewFor(t testing.TB, proxy int, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	v.Table = route.Build(s, route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: v.Entrypoints})
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	return v
}

// TestStripAndRewrite wants both proxies to hand on the same path, with what the client encoded
// still encoded.
func TestStripAndRewrite(t *testing.T) {
	long := "/" + strings.Repeat("long/", 38) + "end"
	s := catalog(t, `
strip n ADDRESS passing 1 "fairway-host=a.com,~^re[0-9]\\.com$" fairway-path=/api,/api/v1,=/ping,=/api/exact fairway-strip=true
re n ADDRESS passing 2 "fairway-host=a.com,~^re[0-9]\\.com$" "fairway-path=~\\.php$"
pre n ADDRESS passing 3 fairway-host=pre.com fairway-strip=/pre "fairway-rewrite=/old => /new"
root n ADDRESS passing 4 fairway-host=root.com "fairway-rewrite=/ => /app"
toroot n ADDRESS passing 5 fairway-host=toroot.com "fairway-rewrite=/old => /"
groups n ADDRESS passing 6 fairway-host=groups.com "fairway-rewrite=~^/([a-z]+)/(.*)$ => /$2/in-$1;"
odd n ADDRESS passing 7 fairway-host=odd.com "fairway-path=/a$host'(x)" fairway-strip=true
oddto n ADDRESS passing 8 fairway-host=oddto.com "fairway-rewrite=/x => /it's$host~"
long n ADDRESS passing 9 fairway-host=long.com fairway-path=`+long+` fairway-strip=true
none n ADDRESS passing 10 fairway-host=none.com
`)
	cases := []struct{ host, path, who, want, prefix string }{
		{"a.com", "/api", "strip", "/", "/api"},
		{"a.com", "/api/", "strip", "/", "/api"},
		{"a.com", "/api/x?q=/api", "strip", "/x?q=/api", "/api"},
		{"a.com", "/api?q", "strip", "/?q", "/api"},
		{"a.com", "/api//x", "strip", "//x", "/api"},
		{"a.com", "/api/v1/x", "strip", "/x", "/api/v1"},
		{"a.com", "/api/v10/x", "strip", "/v10/x", "/api"},
		{"a.com", "/api/api/x", "strip", "/api/x", "/api"},
		{"a.com", "/api/exact", "strip", "/", "/api/exact"},
		{"a.com", "/api/exact/x", "strip", "/exact/x", "/api"},
		{"a.com", "/ping", "strip", "/", "/ping"},
		{"a.com", "/%61p%69/x%2fy%20z", "strip", "/x%2fy%20z", "/api"},
		{"a.com", "/api%2fx", "strip", "/x", "/api"},
		{"a.com", "/api%2Fv1%2fx", "strip", "/x", "/api/v1"},
		{"a.com", "http://a.com/api/x", "strip", "/x", "/api"},
		{"a.com", "/x.php", "re", "/x.php", ""},
		{"a.com", "/api/x.php", "re", "/api/x.php", ""},
		{"re1.com", "/api/x%2fy", "strip", "/x%2fy", "/api"},
		{"re1.com", "/api/x.php", "re", "/api/x.php", ""},
		{"pre.com", "/pre/old/x", "pre", "/new/x", "/pre"},
		{"pre.com", "/old/x", "pre", "/new/x", ""},
		{"pre.com", "/pre/oldx", "pre", "/oldx", "/pre"},
		{"pre.com", "/pre/pre/x", "pre", "/pre/x", "/pre"},
		{"root.com", "/", "root", "/app/", ""},
		{"root.com", "/x?y", "root", "/app/x?y", ""},
		{"toroot.com", "/old", "toroot", "/", ""},
		{"toroot.com", "/old/x", "toroot", "/x", ""},
		{"toroot.com", "/older", "toroot", "/older", ""},
		{"groups.com", "/ab/c%2fd?q=1", "groups", "/c%2fd/in-ab;?q=1", ""},
		{"groups.com", "/ab", "groups", "/ab", ""},
		{"odd.com", "/a$host'(x)/y", "odd", "/y", "/a$host'(x)"},
		{"oddto.com", "/x/y", "oddto", "/it's$host~/y", ""},
		{"long.com", long + "/x", "long", "/x", long},
		{"none.com", "/api/x", "none", "/api/x", ""},
	}
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for _, c := range cases {
			got := send(t, address, "GET "+c.path+" HTTP/1.1\r\nHost: "+c.host+"\r\nX-Forwarded-Prefix: /forged\r\nConnection: close\r\n\r\n")
			got.body = strings.Replace(got.body, "GET http://"+c.host, "GET ", 1) // HAProxy keeps the absolute form
			if got.who() != c.who || !strings.Contains(got.body, "\nGET "+c.want+"\n") || got.seen("X-Forwarded-Prefix") != c.prefix {
				t.Errorf("%s %s: want %s with %s and prefix %q, got\n%s", c.host, c.path, c.who, c.want, c.prefix, got.body)
			}
		}
	})
}

// seen is the value of a header that the service saw; several are joined.
func (a answer) seen(name string) string {
	var list []string
	for line := range strings.Lines(a.body) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), "\r"), ": "); ok && strings.EqualFold(key, name) {
			list = append(list, value)
		}
	}
	return strings.Join(list, ", ")
}

// TestTimeouts lets servers be silent for longer than their label allows, and others without a
// label for just as long.
func TestTimeouts(t *testing.T) {
	slow := func(name string) string {
		l := listen(t)
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // A test's own.
				select {
				case <-time.After(time.Second):
					fmt.Fprintln(w, name)
				case <-r.Context().Done():
				}
			}))
		}()
		return l.Addr().String()
	}
	text := "quick n " + slow("quick") + " passing 1 fairway-host=quick.com fairway-timeout-server=200ms fairway-timeout-connect=100ms\n" +
		"slow n " + slow("slow") + " passing 1 fairway-host=slow.com fairway-timeout-connect=100ms\n"
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, catalog(t, text), dir))
		began := time.Now()
		// A POST is never sent again, so that the time is that of one try.
		got := send(t, address, "POST / HTTP/1.1\r\nHost: quick.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if took := time.Since(began); got.status != 504 || took > 900*time.Millisecond || took < 150*time.Millisecond {
			t.Errorf("quick: %d after %v, want 504 after 200ms", got.status, took)
		}
		if got := get(t, address, "slow.com", "/"); got.who() != "slow" {
			t.Errorf("slow: %d %s", got.status, got.body)
		}
	})
}

// TestTimeoutConnect sends to a server whose backlog is full, so that nothing answers the SYN.
func TestTimeoutConnect(t *testing.T) {
	address := deaf(t)
	text := "deaf n " + address + " passing 1 fairway-host=deaf.com fairway-timeout-connect=200ms\n"
	each(t, func(t *testing.T, proxy int, dir string) {
		v := viewFor(t, proxy, catalog(t, text), dir)
		v.Settings.Timeouts.Connect = 5 * time.Second
		address := start(t, proxy, dir, v)
		began := time.Now()
		got := send(t, address, "POST / HTTP/1.1\r\nHost: deaf.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if took := time.Since(began); got.status < 500 || took > 3*time.Second {
			t.Errorf("%d after %v, want a refusal after few times 200ms", got.status, took)
		}
	})
}

// TestTimeoutTunnel has a websocket that says nothing.
func TestTimeoutTunnel(t *testing.T) {
	text := "short n " + upgrader(t) + " passing 1 fairway-host=short.com fairway-timeout-tunnel=300ms\nlong n " + upgrader(t) + " passing 1 fairway-host=long.com\n"
	dir := t.TempDir()
	address := start(t, 0, dir, viewFor(t, 0, catalog(t, text), dir)) // nginx refuses the label
	for host, ends := range map[string]bool{"short.com": true, "long.com": false} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		buf := make([]byte, 4096)
		if n, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 101") {
			t.Fatalf("%s: %v: %s", host, err, buf[:n])
		}
		if _, err := c.Read(buf); (err == io.EOF) != ends { //nolint:errorlint // Read returns it bare.
			t.Errorf("%s: %v, want an end: %v", host, err, ends)
		}
	}
}

// TestHeadersOfLabels looks at what arrives at the service and at the client.
func TestHeadersOfLabels(t *testing.T) {
	odd := "it's \"q\" \\ 100% $host ${x} %[src] {y} # //, `a`"
	s := catalog(t, `
web n ADDRESS passing 1 fairway-host=a.com "fairway-headers-request=Host: inside; X-Set: 1; +X-Add: 2; +X-Add: 3; -X-Gone; +X-Forwarded-For: 9.9.9.9; X-Real-IP: none; X-List: a\\; b; X-Odd: `+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(odd)+`" "fairway-headers-response=Content-Language: tlh; +Cache-Control: no-store; X-Odd: `+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(odd)+`; -X-Powered-By; +X-Own: more; X-Own-Too: new"
re n ADDRESS passing 2 fairway-host=a.com "fairway-path=~\\.php$"
plain n ADDRESS passing 3 fairway-host=b.com
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		ask := func(host, path string) answer {
			return send(t, address, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nX-Set: client\r\nX-Add: client\r\nX-Gone: client\r\nX-Keep: client\r\nConnection: close\r\n\r\n")
		}
		got := ask("a.com", "/")
		for name, want := range map[string]string{
			"Host": "inside", "X-Set": "1", "X-Add": "client, 2, 3", "X-Gone": "", "X-Keep": "client", "X-List": "a; b", "X-Odd": odd,
			"X-Forwarded-For": "127.0.0.1, 9.9.9.9", "X-Real-Ip": "none", "X-Forwarded-Host": "a.com",
		} {
			if have := got.seen(name); have != want {
				t.Errorf("the service saw %s: %q, want %q", name, have, want)
			}
		}
		for name, want := range map[string]string{"Content-Language": "tlh", "Cache-Control": "private, no-store", "X-Odd": odd, "X-Powered-By": "", "X-Own": "web, more", "X-Own-Too": "new"} {
			if have := strings.Join(got.header.Values(name), ", "); have != want {
				t.Errorf("the client saw %s: %q, want %q", name, have, want)
			}
		}
		for _, other := range []answer{ask("a.com", "/x.php"), ask("b.com", "/")} {
			if other.seen("X-Set") != "client" || other.seen("X-Odd") != "" || other.seen("X-Gone") != "client" || other.header.Get("X-Odd") != "" || other.header.Get("X-Powered-By") != "test" {
				t.Errorf("%s got another service's headers:\n%s\n%v", other.who(), other.body, other.header)
			}
		}
	})
}

// TestSticky wants a client to stay where its cookie says, beside others who go elsewhere, and
// after the proxy has forgotten everything.
func TestSticky(t *testing.T) {
	var text strings.Builder
	for i := range 4 {
		fmt.Fprintf(&text, "web n%d %s passing 1 fairway-host=a.com fairway-sticky=cookie:who fairway-x-host=a.com fairway-x-path=/source fairway-x-sticky=source\n", i, service(t, fmt.Sprint(i)))
	}
	s := routetest.Snapshot(t, text.String())
	each(t, func(t *testing.T, proxy int, dir string) {
		v := viewFor(t, proxy, s, dir)
		from := func(address, cookie, path string) (who, set string) {
			got := send(t, address, "GET "+path+" HTTP/1.1\r\nHost: a.com\r\n"+cookie+"Connection: close\r\n\r\n")
			return got.who(), got.header.Get("Set-Cookie")
		}
		address := start(t, proxy, dir, v)
		home := make(map[string]string) // server by cookie
		servers, source := make(map[string]bool), make(map[string]bool)
		for range 30 {
			who, set := from(address, "", "/")
			cookie, attributes, _ := strings.Cut(set, ";")
			if !strings.HasPrefix(cookie, "who=") || attributes != " Path=/; HttpOnly; SameSite=Lax" || home[cookie] != "" {
				t.Fatalf("the cookie is %q", set)
			}
			home[cookie], servers[who] = who, true
			who, _ = from(address, "", "/source")
			source[who] = true
		}
		if len(servers) != 4 || len(source) != 1 {
			t.Errorf("with cookies %v, by source %v", servers, source)
		}
		again := func(address string) {
			for cookie, want := range home {
				if who, set := from(address, "Cookie: other=1; "+cookie+"\r\n", "/"); who != want || set != "" {
					t.Errorf("%s: %s, then %s with %q", cookie, want, who, set)
				}
			}
		}
		again(address)
		if proxies[proxy].name == "haproxy" {
			addServer(t, dir, "web", "new", service(t, "new"), "")
			again(address)
			testbed.Eventually(t, 5*time.Second, "the new server gets new clients", func() error {
				if who, _ := from(address, "", "/"); who != "new" {
					return fmt.Errorf("got %s", who)
				}
				return nil
			})
		}
		v.Entrypoints[0].Port = testbed.Port(t)
		other := t.TempDir()
		v.Settings.StatsSocket, v.Settings.RunDir, v.Settings.GenerationSocket = other+"/haproxy.sock", other, other+"/generation.sock"
		again(start(t, proxy, other, v)) // another front end
	})
}

// TestCompress asks with and without gzip, beside a service that has no such label.
func TestCompress(t *testing.T) {
	s := catalog(t, "zip n ADDRESS passing 1 fairway-host=a.com fairway-compress=true\nplain n ADDRESS passing 1 fairway-host=b.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for _, c := range []struct{ host, accept, encoding string }{{"a.com", "gzip", "gzip"}, {"a.com", "identity", ""}, {"b.com", "gzip", ""}} {
			got := send(t, address, "GET /x HTTP/1.1\r\nHost: "+c.host+"\r\nAccept-Encoding: "+c.accept+"\r\nConnection: close\r\n\r\n")
			body := got.body
			if c.encoding == "gzip" {
				r, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatalf("%+v: %v in %q", c, err, body)
				}
				plain, err := io.ReadAll(r)
				if err != nil {
					t.Fatal(err)
				}
				body = string(plain)
				if !strings.Contains(got.header.Get("Vary"), "Accept-Encoding") {
					t.Errorf("%+v: no Vary in %v", c, got.header)
				}
			}
			if got.header.Get("Content-Encoding") != c.encoding || !strings.Contains(body, "GET /x\n") {
				t.Errorf("%+v: %v\n%s", c, got.header, body)
			}
		}
	})
}
