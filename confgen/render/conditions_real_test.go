//go:build real

package render_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

const conditionsCatalog = `
root n ADDRESS passing 1 fairway-host=a.com
write n ADDRESS passing 2 fairway-host=a.com fairway-methods=post,PUT,DELETE
canary n ADDRESS passing 3 fairway-host=a.com "fairway-header=X-Canary: yes; Cookie: ~(^|\\; )beta=1(\\;|$)"
beta n ADDRESS passing 4 fairway-host=a.com "fairway-query=beta=a%26b c&on"
api n ADDRESS passing 5 fairway-host=a.com fairway-path=/api,=/exact fairway-methods=GET
apiv2 n ADDRESS passing 6 fairway-host=a.com fairway-path=/api/v2 "fairway-header=X-Version: ~^2\\."
prio n ADDRESS passing 7 fairway-host=a.com fairway-path=/prio "fairway-header=X-A: 1" fairway-priority=5
prio2 n ADDRESS passing 8 fairway-host=a.com fairway-path=/prio "fairway-header=X-B; X-C: 1"
php n ADDRESS passing 9 fairway-host=a.com "fairway-path=~\\.php$" fairway-methods=GET
wild n ADDRESS passing 10 fairway-host=*.b.com fairway-methods=GET
deep n ADDRESS passing 11 fairway-host=*.x.b.com fairway-path=/p fairway-methods=POST
com n ADDRESS passing 12 fairway-host=*.com fairway-path=/p/q,/com
re n ADDRESS passing 13 "fairway-host=~^re[0-9]" "fairway-header=X-Re: it's \"$host\""
re2 n ADDRESS passing 14 "fairway-host=~^re[0-9]" fairway-path=/two fairway-strip=true
any n ADDRESS passing 15 fairway-path=/any,/p fairway-methods=GET,POST
anyre n ADDRESS passing 16 "fairway-path=~^/any/re" fairway-query=x
down n DEAD passing 17 fairway-host=a.com fairway-path=/down fairway-methods=POST
`

// TestConditions sends requests that differ in method, headers and query alone, and wants the
// same answers of both proxies: what does not meet a route's conditions falls through to the next.
func TestConditions(t *testing.T) {
	cases := []struct{ method, host, target, headers, want string }{
		{"GET", "a.com", "/", "", "root"},
		{"POST", "a.com", "/", "", "write"},
		{"post", "a.com", "/", "", "root|400"}, // methods have a case, and nginx takes upper case only
		{"PUT", "a.com", "/x", "", "write"},
		{"HEAD", "a.com", "/", "", ""},
		{"GET", "a.com", "/", "X-Canary: yes\r\nCookie: a=b; beta=1; c=d", "canary"},
		{"GET", "a.com", "/", "x-canary: yes\r\ncookie: beta=1", "canary"},
		{"GET", "a.com", "/", "X-Canary: YES\r\nCookie: beta=1", "root"},
		{"GET", "a.com", "/", "X-Canary: yes\r\nCookie: beta=10", "root"},
		{"GET", "a.com", "/", "X-Canary: yes, no\r\nCookie: beta=1", "root"},
		{"GET", "a.com", "/", "X-Canary: no\r\nX-Canary: yes\r\nCookie: beta=1", "root"},
		{"POST", "a.com", "/", "X-Canary: yes\r\nCookie: beta=1", "canary"}, // two conditions before one
		{"GET", "a.com", "/?on&beta=a%26b+c", "", "beta"},
		{"GET", "a.com", "/?beta=%61%26b%20c&x&%6Fn=1", "", "beta"},
		{"GET", "a.com", "/?beta=x&beta=a%26b%20c&on=", "", "beta"},
		{"GET", "a.com", "/?Beta=a%26b%20c&on", "", "root"},
		{"GET", "a.com", "/?beta=a&b c&on", "", "400"}, // a blank in a request line
		{"GET", "a.com", "/?beta=a&b%20c&on", "", "root"},
		{"GET", "a.com", "/?beta=a%26b%20c", "", "root"},
		{"GET", "a.com", "/?beta=a%26b%20cc&on", "", "root"},
		{"GET", "a.com", "/?xbeta=a%26b%20c&on", "", "root"},
		// Shorter prefixes of the same host, which may have conditions themselves.
		{"GET", "a.com", "/api", "", "api"},
		{"GET", "a.com", "/api/v2", "", "api"},
		{"GET", "a.com", "/api/v2/x", "X-Version: 2.1", "apiv2"},
		{"POST", "a.com", "/api/v2/x", "X-Version: 2.1", "apiv2"},
		{"POST", "a.com", "/api/v2/x", "X-Version: 12.1", "write"},
		{"PATCH", "a.com", "/api/v2/x", "", "root"},
		{"PATCH", "a.com", "/api/v2/x?on&beta=a%26b+c", "", "beta"},
		{"GET", "a.com", "/%61pi/v2/x", "X-Version: 2.", "apiv2"},
		{"GET", "a.com", "/apix", "", "root"},
		{"GET", "a.com", "/exact", "", "api"},
		{"POST", "a.com", "/exact", "", "write"},
		{"PATCH", "a.com", "/exact", "", "root"},
		{"GET", "a.com", "/prio", "X-A: 1\r\nX-B: x\r\nX-C: 1", "prio"}, // the priority goes before the number of conditions
		{"GET", "a.com", "/prio", "X-B: x\r\nX-C: 1", "prio2"},
		{"GET", "a.com", "/prio", "X-B: x", "root"},
		{"GET", "a.com", "/prio", "", "root"},
		{"GET", "a.com", "/api/x.php", "", "php"},
		{"POST", "a.com", "/api/x.php", "", "write"},
		{"PATCH", "a.com", "/x.php", "", "root"},
		{"POST", "a.com", "/down/x", "", "503"},
		{"GET", "a.com", "/down/x", "", "root"},
		// Less precise hosts, where a longer path may be waiting.
		{"GET", "x.b.com", "/", "", "wild"},
		{"GET", "x.b.com", "/p/q", "", "wild"},
		{"POST", "x.b.com", "/p/q", "", "com"},
		{"POST", "x.b.com", "/p", "", "any"},
		{"PUT", "x.b.com", "/p", "", "404"},
		{"POST", "x.b.com", "/com", "", "com"},
		{"POST", "y.x.b.com", "/p/q", "", "deep"},
		{"GET", "y.x.b.com", "/p/q", "", "wild"},
		{"PUT", "y.x.b.com", "/p/q", "", "com"},
		{"PUT", "y.x.b.com", "/p", "", "404"},
		{"POST", "re1.b.com", "/two", "", "re2"},
		{"POST", "re1.b.com", "/x", "X-Re: it's \"$host\"", "re"},
		{"POST", "re1.b.com", "/x", "X-Re: it's \"re1.b.com\"", "404"},
		{"GET", "re1.b.com", "/x", "", "wild"},
		{"GET", "re1.org", "/any", "", "any"},
		{"PUT", "re1.org", "/any", "", "404"},
		{"PUT", "re1.org", "/any", "X-Re: it's \"$host\"", "re"},
		{"PUT", "re1.org", "/two/x", "", "re2"},
		{"GET", "nobody.org", "/any/re?x", "", "anyre"},
		{"PUT", "nobody.org", "/any/re?x=1", "", "anyre"},
		{"GET", "nobody.org", "/any/re", "", "any"},
		{"PUT", "nobody.org", "/any/re", "", "404"},
		{"GET", "nobody.org", "/", "", "404"},
	}
	s := catalog(t, conditionsCatalog)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for _, c := range cases {
			request := c.method + " " + c.target + " HTTP/1.1\r\nHost: " + c.host + "\r\nConnection: close\r\n"
			if c.headers != "" {
				request += c.headers + "\r\n"
			}
			if got := send(t, address, request+"\r\n"); !slices.Contains(strings.Split(c.want, "|"), got.who()) {
				t.Errorf("%s %s%s %q: %s, want %s", c.method, c.host, c.target, c.headers, got.who(), c.want)
			}
		}
		// A body goes along, wherever the request is led to.
		body := strings.Repeat("x", 100_000)
		got := send(t, address, fmt.Sprintf("POST /api/x HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		if got.who() != "write" || !strings.Contains(got.body, "POST /api/x\n") {
			t.Errorf("with a body: %+v", got)
		}
		got = send(t, address, "PUT /two/x%2Fy?z HTTP/1.1\r\nHost: re1.b.com\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got.body, "PUT /x%2Fy?z\n") || got.seen("X-Forwarded-Prefix") != "/two" {
			t.Errorf("with options: %+v", got)
		}
	})
}

// TestConditionsAgree makes random tables of routes with conditions, and wants both proxies to
// take the route that the table itself names.
func TestConditionsAgree(t *testing.T) {
	hosts := []string{"a.com", "b.a.com", "*.a.com", "*.com", "~^b", `~a\\.com$`, ""}
	paths := []string{"/", "/p", "/p/q", "=/p", "~^/p", "~q$"}
	conditions := []string{"", "", "fairway-r%d-methods=GET", "fairway-r%d-methods=POST", "\"fairway-r%d-header=X-A: 1\"", "fairway-r%d-query=q fairway-r%d-methods=GET"}
	const services, seeds = 7, 25
	addresses := make([]string, services)
	for i := range addresses {
		addresses[i] = service(t, fmt.Sprintf("s%d", i))
	}
	each(t, func(t *testing.T, proxy int, _ string) {
		found, fell := 0, 0
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 5))
			var text strings.Builder
			for i, address := range addresses {
				fmt.Fprintf(&text, "s%d n %s passing %d", i, address, i+1)
				for n := range 1 + r.IntN(2) {
					if host := hosts[r.IntN(len(hosts))]; host != "" {
						fmt.Fprintf(&text, " \"fairway-r%d-host=%s\"", n, host)
					}
					when := strings.ReplaceAll(conditions[r.IntN(len(conditions))], "%d", fmt.Sprint(n))
					fmt.Fprintf(&text, " \"fairway-r%d-path=%s,%s\" fairway-r%d-priority=%d %s", n, paths[r.IntN(len(paths))], paths[r.IntN(len(paths))], n, r.IntN(3)/2, when)
				}
				text.WriteString("\n")
			}
			dir := t.TempDir()
			v := view(t, routetest.Snapshot(t, text.String()), dir)
			address := start(t, proxy, dir, v)
			for _, host := range []string{"a.com", "b.a.com", "c.b.a.com", "x.com", "b.org"} {
				for _, path := range []string{"/", "/p", "/p/q", "/p/x"} {
					for n := range 8 {
						q := route.Request{Entrypoint: "web", Host: host, Path: path, Method: []string{"GET", "POST"}[n&1], Query: []string{"", "q=1"}[n>>1&1], Header: map[string]string{}}
						if n>>2 == 1 {
							q.Header["x-a"] = "1"
						}
						want := "404"
						r, ok := v.Find(q)
						if ok {
							want = r.Service
							found++
						}
						if plain, _ := v.Find(route.Request{Entrypoint: "web", Host: host, Path: path, Method: "PATCH"}); plain.Service != r.Service {
							fell++
						}
						if got := request(t, address, q); got != want {
							t.Errorf("seed %d: %+v: %s, want %s", seed, q, got, want)
						}
					}
				}
			}
			if t.Failed() {
				t.Fatalf("catalog:\n%s%s", text.String(), routetest.Print(v.Table))
			}
		}
		t.Logf("%d requests found a route, %d by its conditions", found, fell)
		if found < seeds*160/4 || fell < seeds*160/20 {
			t.Errorf("only %d requests found a route, %d by its conditions: the words are too far apart", found, fell)
		}
	})
}

// request sends a request as routes see it, and returns who answers.
func request(t testing.TB, address string, q route.Request) string {
	t.Helper()
	target := q.Path
	if q.Query != "" {
		target += "?" + q.Query
	}
	text := q.Method + " " + target + " HTTP/1.1\r\nHost: " + q.Host + "\r\nConnection: close\r\n"
	for _, name := range slices.Sorted(maps.Keys(q.Header)) {
		text += name + ": " + q.Header[name] + "\r\n"
	}
	return send(t, address, text+"\r\n").who()
}
