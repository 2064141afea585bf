//go:build real

package render_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

const sha256Hash = "0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA" // of secret, as openssl passwd -5 -salt saltsalt writes it

// operated is a view under settings that an operator made: a user list, pages and trust.
func operated(t testing.TB, proxy int, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	v.Settings.UserLists = []render.UserList{{Name: "staff", Users: []render.User{
		{Name: "ann", Hash: "$6$salt$VXZs.q/q/Q0tL1h5vXZ1z0"}, // matches nothing
		{Name: "joe", Hash: "$5$saltsalt$" + sha256Hash},
	}}}
	v.Settings.PageSets = []render.PageSet{{Name: "brand", Pages: map[int]string{
		403: "<p>brand 403 it's \"$host\" \\ 100%[src]</p>\n", 503: "<p>brand 503</p>" + strings.Repeat("é$", 2000), 504: "<p>brand 504</p>", 422: "<p>brand 422</p>",
	}}}
	v.Table = route.Build(s, route.Settings{
		Proxy: route.Proxy(proxies[proxy].name), Entrypoints: v.Entrypoints,
		UserLists: []string{"staff"}, PageSets: []string{"brand"}, Snippets: []string{"raw"},
	})
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	return v
}

// TestAuth wants the right password of the right user, and nothing else.
func TestAuth(t *testing.T) {
	s := catalog(t, "shut n ADDRESS passing 1 fairway-host=a.com fairway-path=/in fairway-auth=staff\nopen n ADDRESS passing 2 fairway-host=a.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		for _, c := range []struct{ path, credentials, want string }{
			{"/in", "", "401"},
			{"/in/x", "joe:secret", "shut"},
			{"/%69n/x", "", "401"},
			{"/in", "joe:Secret", "401"},
			{"/in", "joe:", "401"},
			{"/in", "ann:secret", "401"},
			{"/in", "nobody:secret", "401"},
			{"/", "", "open"},
		} {
			header := ""
			if c.credentials != "" {
				header = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(c.credentials)) + "\r\n"
			}
			got := send(t, address, "GET "+c.path+" HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n"+header+"\r\n")
			if got.who() != c.want {
				t.Errorf("%+v: %s", c, got.who())
			}
			if challenge := got.header.Get("WWW-Authenticate"); (challenge == `Basic realm="fairway"`) != (c.want == "401") {
				t.Errorf("%+v: challenge %q", c, challenge)
			}
		}
	})
}

// TestRate wants as many requests as the label says to pass at once, one client's not to count
// for another's, and time to bring new ones.
func TestRate(t *testing.T) {
	s := catalog(t, `
ip n ADDRESS passing 1 fairway-host=ip.com fairway-rate=3/60s
burst n ADDRESS passing 2 fairway-host=burst.com fairway-rate=3/m,burst=4
key n ADDRESS passing 3 fairway-host=key.com fairway-rate=2/1m,key=header:X-User
soon n ADDRESS passing 4 fairway-host=soon.com fairway-rate=2/1s fairway-path=/soon
free n ADDRESS passing 5 fairway-host=soon.com
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		ask := func(from, host, path, header string) string {
			return sendFrom(t, from, address, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+header+"\r\n").who()
		}
		row := func(n int, from, host, header string) (passed int) {
			for range n {
				switch who := ask(from, host, "/", header); who {
				case "429":
				default:
					passed++
				}
			}
			return passed
		}
		for _, c := range []struct {
			from, host, header string
			want               int
		}{
			{"127.0.0.1", "ip.com", "", 3},
			{"127.0.0.2", "ip.com", "X-User: a\r\n", 3},
			{"127.0.0.1", "burst.com", "", 7},
			{"127.0.0.1", "key.com", "X-User: a\r\n", 2},
			{"127.0.0.2", "key.com", "X-User: a\r\n", 0},
			{"127.0.0.2", "key.com", "X-User: b\r\n", 2},
			{"127.0.0.2", "key.com", "", 2},
			{"127.0.0.3", "key.com", "", 2},
			{"127.0.0.4", "key.com", "X-User: 127.0.0.3\r\n", 2},
		} {
			if got := row(9, c.from, c.host, c.header); got != c.want {
				t.Errorf("%+v: %d of 9 passed", c, got)
			}
		}
		refused := false
		for range 10 {
			refused = refused || ask("127.0.0.1", "soon.com", "/soon", "") == "429"
		}
		if !refused {
			t.Error("ten requests in a row pass 2/1s")
		}
		testbed.Eventually(t, 10*time.Second, "the client may ask again", func() error {
			if who := ask("127.0.0.1", "soon.com", "/soon", ""); who != "soon" {
				return errors.New(who)
			}
			return nil
		})
		for range 20 {
			if who := ask("127.0.0.1", "soon.com", "/", ""); who != "free" {
				t.Fatalf("another route of the host: %s", who)
			}
		}
	})
}

// held is a server that answers a request when it is let go.
func held(t *testing.T) (address string, now *atomic.Int32, let chan struct{}) {
	t.Helper()
	now, let = new(atomic.Int32), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now.Add(1)
		defer now.Add(-1)
		select {
		case <-let:
			fmt.Fprintln(w, "held")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), now, let
}

func reaches(t *testing.T, now *atomic.Int32, n int32) {
	t.Helper()
	testbed.Eventually(t, 5*time.Second, fmt.Sprintf("%d requests are with the server", n), func() error {
		if got := now.Load(); got != n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// TestInFlight holds as many requests as a route takes at once, and wants a further one refused.
func TestInFlight(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		server, now, let := held(t)
		s := catalog(t, "held n "+server+" passing 1 fairway-host=a.com fairway-inflight=2\nfree n ADDRESS passing 2 fairway-host=b.com")
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		results := make(chan string, 2)
		for n := range int32(2) {
			go func() { results <- get(t, address, "a.com", "/").who() }()
			reaches(t, now, n+1)
		}
		if got := get(t, address, "a.com", "/").who(); got != "503" {
			t.Errorf("a third request: %s", got)
		}
		if got := get(t, address, "b.com", "/").who(); got != "free" {
			t.Errorf("another route: %s", got)
		}
		let <- struct{}{}
		if got := <-results; got != "held" {
			t.Errorf("the first: %s", got)
		}
		reaches(t, now, 1)
		testbed.Eventually(t, 5*time.Second, "there is room for one", func() error {
			go func() { results <- get(t, address, "a.com", "/").who() }()
			for range 100 {
				select {
				case who := <-results:
					return errors.New(who)
				case <-time.After(10 * time.Millisecond):
				}
				if now.Load() == 2 {
					return nil
				}
			}
			return errors.New("it neither passes nor is refused")
		})
		close(let)
	})
}

// TestQueue fills a server and its queue; a further request is refused at once. nginx refuses the
// label.
func TestQueue(t *testing.T) {
	server, now, let := held(t)
	s := catalog(t, "held n "+server+" passing 1 fairway-host=a.com fairway-maxconn=1 fairway-queue=1")
	dir := t.TempDir()
	address := start(t, 0, dir, operated(t, 0, s, dir))
	results := make(chan string, 2)
	go func() { results <- get(t, address, "a.com", "/").who() }()
	reaches(t, now, 1)
	go func() { results <- get(t, address, "a.com", "/").who() }()
	testbed.Eventually(t, 5*time.Second, "the second request waits", func() error {
		for line := range strings.Lines(ask(t, dir+"/haproxy.sock", "show stat")) {
			if fields := strings.Split(line, ","); fields[0] == "held" && fields[1] == "BACKEND" && fields[2] == "1" {
				return nil
			}
		}
		return errors.New("nobody waits")
	})
	if got := get(t, address, "a.com", "/").who(); got != "503" {
		t.Errorf("a third request: %s", got)
	}
	close(let)
	for range 2 {
		if got := <-results; got != "held" {
			t.Errorf("%s", got)
		}
	}
}

// TestBodyMax sends bodies of announced and of unannounced length, above and below the limit, and
// bodies that never end.
func TestBodyMax(t *testing.T) {
	s := catalog(t, `
small n ADDRESS passing 1 "fairway-host=small.com,~^re\\." fairway-body-max=1000
large n ADDRESS passing 2 fairway-host=large.com fairway-body-max=1m fairway-methods=POST
rest n ADDRESS passing 3 fairway-host=large.com
`)
	announced := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)) }
	chunked := func(n int) string {
		return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n))
	}
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		for _, c := range []struct{ name, host, rest, want string }{
			{"none", "small.com", "\r\n", "small"},
			{"at the limit", "small.com", announced(1000), "small"},
			{"above", "small.com", announced(1001), "413"},
			{"far above", "small.com", "Content-Length: 99999999999\r\n\r\n", "413"},
			{"zeros", "small.com", "Content-Length: 00001001\r\n\r\n" + strings.Repeat("x", 1001), "413"},
			{"regex host", "re.org", announced(1001), "413"},
			{"chunked at the limit", "small.com", chunked(1000), "small"},
			{"chunked above", "small.com", chunked(1001), "413"},
			{"chunked far above", "small.com", chunked(9_000), "413"},
			{"long header", "small.com", "X-Long: " + strings.Repeat("x", 6000) + "\r\n\r\n", "small"},
			{"long header, announced", "small.com", "X-Long: " + strings.Repeat("x", 6000) + "\r\n" + announced(1000), "small"},
			{"long header, chunked", "small.com", "X-Long: " + strings.Repeat("x", 6000) + "\r\n" + chunked(1001), "413"},
			{"large at the limit", "large.com", announced(1 << 20), "large"},
			{"large above", "large.com", announced(1<<20 + 1), "413"},
			{"large chunked", "large.com", chunked(6000), "large"},
		} {
			if c.want == "413" && !strings.Contains(c.rest, "chunked") {
				c.rest, _, _ = strings.Cut(c.rest, "\r\n\r\n") // it is answered before the body is sent
				c.rest += "\r\n\r\n"
			}
			got := send(t, address, "POST / HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n"+c.rest)
			if got.who() != c.want {
				t.Errorf("%s: %s, want %s", c.name, got.who(), c.want)
			}
		}
		// While reading: the first bytes are well below the limit.
		want := map[string][]string{"haproxy": {"408", "411"}, "nginx": {"413"}}[proxies[proxy].name]
		for _, host := range []string{"small.com", "large.com"} {
			got := trickle(t, address, host, 3<<20)
			if !slices.Contains(want, got) && got != "413" {
				t.Errorf("a body without end to %s: %s, want %s", host, got, want)
			}
		}
	})
}

// trickle sends a little of a body, waits, and then sends more of it until it is answered.
func trickle(t *testing.T, address, host string, most int) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answered := make(chan string, 1)
	go func() {
		head := make([]byte, 12)
		_, err := io.ReadFull(c, head)
		if err != nil {
			answered <- err.Error()
			return
		}
		answered <- string(head[9:])
	}()
	if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+host+"\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-answered:
		return got
	case <-time.After(300 * time.Millisecond):
	}
	for sent := 0; sent < most; sent += 1000 {
		if _, err := io.WriteString(c, "3e8\r\n"+strings.Repeat("x", 1000)+"\r\n"); err != nil {
			break
		}
	}
	select {
	case got := <-answered:
		return got
	case <-time.After(20 * time.Second):
		return "nothing"
	}
}

// TestRetryOn counts the servers that a request is tried on, by what the first says.
func TestRetryOn(t *testing.T) {
	var asked atomic.Int32
	status := func(code int) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(code)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	s := catalog(t, fmt.Sprintf(`
on n1 %s passing 1 fairway-host=on.com fairway-retry-on=502,connect,503
on n2 ADDRESS passing 2 fairway-host=on.com fairway-retry-on=502,connect,503 fairway-backup=true
off n1 %s passing 1 fairway-host=off.com
`, status(503), status(503)))
	each(t, func(t *testing.T, proxy int, dir string) {
		v := operated(t, proxy, s, dir)
		for i := range v.Backends { // two that are chosen in turn, of which one fails
			for j := range v.Backends[i].Servers {
				v.Backends[i].Servers[j].Limits.Backup = false
			}
		}
		address := start(t, proxy, dir, v)
		asked.Store(0)
		for range 10 {
			if got := get(t, address, "on.com", "/").who(); got != "on" {
				t.Errorf("with retry-on: %s", got)
			}
		}
		if asked.Load() == 0 {
			t.Error("the failing server was not asked")
		}
		for range 3 {
			if got := get(t, address, "off.com", "/").who(); got != "503" {
				t.Errorf("without: %s", got)
			}
		}
		before, refused := asked.Load(), 0
		for range 10 {
			if send(t, address, "POST / HTTP/1.1\r\nHost: on.com\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx").who() == "503" {
				refused++
			}
		}
		if int(asked.Load()-before) != refused {
			t.Errorf("of %d POSTs that were answered with 503 some were repeated: %d clients saw it", asked.Load()-before, refused)
		}
	})
}

// TestCORS asks as pages of several origins do.
func TestCORS(t *testing.T) {
	s := catalog(t, `
list n ADDRESS passing 1 fairway-host=list.com fairway-cors=https://app.test,https://*.app.test:8443,credentials
all n ADDRESS passing 2 fairway-host=all.com fairway-cors=*
none n ADDRESS passing 3 fairway-host=none.com
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		for _, c := range []struct{ host, origin, want, credentials string }{
			{"list.com", "https://app.test", "https://app.test", "true"},
			{"list.com", "HTTPS://APP.test", "HTTPS://APP.test", "true"},
			{"list.com", "https://a.b.app.test:8443", "https://a.b.app.test:8443", "true"},
			{"list.com", "https://app.test:8443", "", ""},
			{"list.com", "https://app.test.evil.org", "", ""},
			{"list.com", "https://evilapp.test", "", ""},
			{"list.com", "http://app.test", "", ""},
			{"list.com", "null", "", ""},
			{"list.com", "", "", ""},
			{"all.com", "https://anywhere.org", "*", ""},
			{"all.com", "", "", ""},
			{"none.com", "https://app.test", "own", ""},
		} {
			origin := field("Origin", c.origin)
			got := send(t, address, "GET / HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\nX-Say: Access-Control-Allow-Origin\r\n"+origin+"\r\n")
			if got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != c.want || got.header.Get("Access-Control-Allow-Credentials") != c.credentials || len(got.header["Access-Control-Allow-Origin"]) > 1 {
				t.Errorf("%+v: %d %v", c, got.status, got.header)
			}
			if vary := got.header.Get("Vary"); c.host == "list.com" && vary != "Origin" {
				t.Errorf("%+v: Vary %q: a cache would give one origin's answer to another", c, vary)
			}
			got = send(t, address, "OPTIONS / HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a, x-b\r\n"+origin+"\r\n")
			allowed := c.want != "" && c.want != "own"
			if allowed != (got.status == 204) {
				t.Errorf("%+v: preflight %d", c, got.status)
			}
			if allowed && (got.header.Get("Access-Control-Allow-Origin") != c.want || got.header.Get("Access-Control-Allow-Methods") != "PUT" || got.header.Get("Access-Control-Allow-Headers") != "x-a, x-b") {
				t.Errorf("%+v: preflight %v", c, got.header)
			}
		}
	})
}

// TestErrors wants a route's own pages where it has them, and the service's own errors untouched.
func TestErrors(t *testing.T) {
	s := catalog(t, `
down n DEAD critical 1 "fairway-host=down.com,~^re\\." fairway-errors=brand
maint n ADDRESS maintenance 2 fairway-host=maint.com fairway-errors=brand
kept n ADDRESS passing 3 fairway-host=kept.com fairway-errors=brand fairway-deny=127.0.0.0/8
plain n DEAD critical 4 fairway-host=plain.com
wide n ADDRESS passing 5 fairway-path=/any fairway-errors=brand
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		for _, c := range []struct{ method, host, want string }{
			{"GET", "down.com", "<p>brand 503</p>é$"},
			{"POST", "down.com", "<p>brand 503</p>é$"},
			{"GET", "re.org", "<p>brand 503</p>é$"},
			{"GET", "maint.com", "<p>brand 503</p>é$"},
			{"GET", "kept.com", "<p>brand 403 it's \"$host\" \\ 100%[src]</p>\n"},
			{"GET", "plain.com", "<!DOCTYPE html>"},
		} {
			got := send(t, address, c.method+" / HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(got.body, c.want) || got.status != 503 && c.host != "kept.com" || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
				t.Errorf("%+v: %d %.80q", c, got.status, got.body)
			}
			if strings.Contains(got.body, "brand 503") && len(got.body) != len("<p>brand 503</p>")+6000 {
				t.Errorf("%+v: %d bytes", c, len(got.body))
			}
		}
		if got := get(t, address, "x.org", "/any"); got.who() != "wide" {
			t.Errorf("behind a question about the host: %s", got.who())
		}
	})
}

// TestSnippet wants raw lines to work where the operator trusts the service, on the proxy that
// they are for.
func TestSnippet(t *testing.T) {
	s := catalog(t, `raw n ADDRESS passing 1 fairway-host=a.com "fairway-snippet-haproxy=http-response set-header X-Raw 'a b'\\nhttp-request set-header X-Sent yes" "fairway-snippet-nginx=add_header X-Raw \"a b\"; proxy_set_header X-Sent yes;\nif ($arg_q = \"}\") { return 418; }"
other n ADDRESS passing 2 fairway-host=b.com`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		if got := get(t, address, "a.com", "/"); got.header.Get("X-Raw") != "a b" || got.seen("X-Sent") != "yes" {
			t.Errorf("%+v", got)
		}
		if got := get(t, address, "b.com", "/"); got.who() != "other" || got.header.Get("X-Raw") != "" {
			t.Errorf("beside it: %+v", got)
		}
	})
}

// TestDeadServerBehindHosts wants the page for a dead server also where a question about the host
// led the request on.
func TestDeadServerBehindHosts(t *testing.T) {
	s := catalog(t, "re n DEAD passing 1 \"fairway-host=~^re\\\\.\"\nwhen n DEAD passing 2 fairway-host=a.com fairway-methods=POST")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, operated(t, proxy, s, dir))
		for _, host := range []string{"re.org", "a.com"} {
			got := send(t, address, "POST / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			if got.status != 503 || !strings.Contains(got.body, "503 Service Unavailable") {
				t.Errorf("%s: %d %.80q", host, got.status, got.body)
			}
		}
	})
}
