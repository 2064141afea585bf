//go:build real

package render_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"fairway/confgen/route/routetest"
)

const matchingCatalog = `
root n ADDRESS passing 1 fairway-host=a.com
api n ADDRESS passing 2 fairway-host=a.com fairway-path=/api
deep n ADDRESS passing 3 fairway-host=a.com fairway-path=/api/v1/deep/
exact n ADDRESS passing 4 fairway-host=a.com fairway-path==/exact,=/api/exact,=/slash/
re n ADDRESS passing 5 fairway-host=a.com "fairway-path=~^/r[0-9]+$,~\\.php$"
case n ADDRESS passing 6 fairway-host=a.com fairway-path=/Case
only n ADDRESS passing 7 fairway-host=only.a.com fairway-path=/only
wild n ADDRESS passing 8 fairway-host=*.a.com
deepwild n ADDRESS passing 9 fairway-host=*.x.y.z.w.v.a.com
wildpath n ADDRESS passing 10 fairway-host=*.b.com fairway-path=/wild,/both/deeper
widewild n ADDRESS passing 11 fairway-host=*.com fairway-path=/both,/com
tld n ADDRESS passing 11 fairway-host=*.local
hostre n ADDRESS passing 12 "fairway-host=~^v[0-9]+\\.re\\.org$" fairway-path=/
hostre2 n ADDRESS passing 13 "fairway-host=~re\\.org" fairway-path=/two
any n ADDRESS passing 14 fairway-path=/any,=/any-exact
anyre n ADDRESS passing 15 "fairway-path=~^/any/re[0-9]"
mixed n ADDRESS passing 16 fairway-host=mixed.com fairway-path=/any/re1,/m
odd n ADDRESS passing 17 fairway-host=odd.com "fairway-path=/a;b=c,/it's,/q(uote)$x,/under_score"
none n 127.0.0.1:0 passing 18 fairway-host=none.com
down n DEAD critical 19 fairway-host=down.com
maint n ADDRESS maintenance 20 fairway-host=maint.com
`

// TestMatching sends the same requests, hostile ones among them, to both proxies and wants the
// same answers: the name of a service, or a status.
func TestMatching(t *testing.T) {
	cases := []struct{ host, path, want string }{
		{"a.com", "/", "root"},
		{"a.com", "/x?y=/api", "root"},
		// Hosts.
		{"A.CoM", "/", "root"},
		{"a.com:8080", "/", "root"},
		{"a.com.", "/", "root"},
		{"a.com.:80", "/", "root"},
		{"A.COM.:8080", "/API/", "root"},
		{"a.com:", "/api", "api"},
		{"a.com.evil.org", "/", "404"},
		{"a.com.evil.org:80", "/api", "404"},
		{"b.a.com.evil.org.", "/", "404"},
		{"a.comx", "/", "404"},
		{"a_com", "/", "404"},
		{"xa.com", "/", "404"},
		{"xa.com", "/com/x", "widewild"},
		{"com", "/com", "404"},
		{"b.a.com", "/", "wild"},
		{"c.b.a.com", "/", "wild"},
		{".a.com", "/", "400"},
		{"a..com", "/", "400"},
		{"a.com..", "/", "400"},
		{"a.com/", "/", "400"},
		{"a.com,b.a.com", "/", "400"},
		{"a.com b.a.com", "/", "400"},
		{"a.com@b.a.com", "/", "400"},
		{"a.com:80:80", "/", "400"},
		{"a.com:x", "/", "400"},
		{"*.a.com", "/", "400"},
		{"", "/", "400"},
		{"[::1]", "/any", "any"},
		{"[::1]:80", "/", "404"},
		{"127.0.0.1", "/", "404"},
		{"xn--bcher-kva.a.com", "/", "wild"},
		{"under_score.a.com", "/", "wild"},
		{"q.x.y.z.w.v.a.com", "/", "deepwild"},
		{"p.q.x.y.z.w.v.a.com", "/", "deepwild"},
		{"x.y.z.w.v.a.com", "/", "wild"},
		{"1.2.3.4.5.6.7.8.9.10.11.12.a.com", "/", "wild"},
		{"printer.local", "/", "tld"},
		{"local", "/", "404"},
		// Falling through to less precise hosts where no path matches.
		{"only.a.com", "/only/x", "only"},
		{"only.a.com", "/other", "wild"},
		{"x.b.com", "/wild", "wildpath"},
		{"x.b.com", "/com", "widewild"},
		{"x.b.com", "/both", "widewild"},
		{"x.b.com", "/both/deeper/x", "wildpath"},
		{"b.com", "/wild", "404"},
		{"b.com", "/com", "widewild"},
		{"x.b.com", "/any", "any"},
		{"v1.re.org", "/two", "hostre2"},
		{"v1.re.org", "/twox", "hostre"},
		{"x.re.org", "/two/x", "hostre2"},
		{"v1.re.org", "/any", "hostre"},
		{"re.org.c.com", "/two", "hostre2"},
		{"re.org.c.com", "/two/%61", "hostre2"},
		{"re.org.c.com", "/both", "widewild"},
		{"re.org.c.com", "/none", "404"},
		{"re.org.b.com", "/wild/two", "wildpath"},
		{"re.org.b.com", "/two", "hostre2"},
		{"re.org.b.com", "/any/two", "any"},
		{"re.org.only.a.com", "/two", "wild"},
		{"x.re.org", "/any", "any"},
		{"x.re.org", "/", "404"},
		{"nobody.org", "/any/x", "any"},
		{"nobody.org", "/any-exact", "any"},
		{"nobody.org", "/any-exact/x", "404"},
		{"nobody.org", "/any/re1", "anyre"},
		{"mixed.com", "/any/re1", "mixed"},
		{"mixed.com", "/any/re1/x", "mixed"},
		{"mixed.com", "/any/re2", "anyre"},
		{"mixed.com", "/any", "any"},
		{"mixed.com", "/m/re1", "mixed"},
		{"mixed.com", "/", "404"},
		// Paths.
		{"a.com", "/api", "api"},
		{"a.com", "/api/", "api"},
		{"a.com", "/api/x", "api"},
		{"a.com", "/api?x", "api"},
		{"a.com", "/apixyz", "root"},
		{"a.com", "/API", "root"},
		{"a.com", "/Case/x", "case"},
		{"a.com", "/case", "root"},
		{"a.com", "/api/v1/deep", "deep"},
		{"a.com", "/api/v1/deepx", "api"},
		{"a.com", "/api/v1/deep/er", "deep"},
		{"a.com", "/exact", "exact"},
		{"a.com", "/exact?x", "exact"},
		{"a.com", "/exact/", "root"},
		{"a.com", "/exact/x", "root"},
		{"a.com", "/api/exact", "exact"},
		{"a.com", "/slash/", "exact"},
		{"a.com", "/slash", "root"},
		{"a.com", "/r12", "re"},
		{"a.com", "/r12x", "root"},
		{"a.com", "/r12%0a", "root"},
		{"a.com", "/api/index.php", "re"},
		{"a.com", "/%61pi", "api"},
		{"a.com", "/api%2fx", "api"},
		{"a.com", "/%61%70%69%2Fx", "api"},
		{"a.com", "//api", "root"},
		{"a.com", "/api//x", "api"},
		{"a.com", "/x//../api", "400"},
		{"a.com", "/api/../x", "400"},
		{"a.com", "/api/..", "400"},
		{"a.com", "/api/./x", "400"},
		{"a.com", "/.", "400"},
		{"a.com", "/api/%2e%2e/x", "400"},
		{"a.com", "/api/.%2E/x", "400"},
		{"a.com", "/api%2f..%2fx", "400"},
		{"a.com", "/api/%2E", "400"},
		{"a.com", "/x%2F%2e%2E%2Fapi", "400"},
		{"a.com", "/api/..?x", "400"},
		{"a.com", "/api%252f..%252fx", "root"}, // decoded once: a segment called api%2f..%2fx
		{"a.com", "/x%252e%252e/api", "root"},
		{"a.com", "/api%20", "root"},
		{"a.com", "/api%3Fx", "root"},
		{"a.com", "/api;x", "root"},
		{"a.com", "/api%5c..%5cx", "root"},
		{"a.com", "/api/..x", "api"},
		{"a.com", "/.well-known/x", "root"},
		{"a.com", "/x?/../", "root"},
		{"a.com", "/a%00b", "400"},
		{"a.com", "/a%zz", "400"},
		{"a.com", "/a%4", "400"},
		{"a.com", "/a%", "400"},
		{"a.com", "/a%25b", "root"},
		{"a.com", "/a#b", "400"},
		{"a.com", "*", "400"},
		{"a.com", "api", "400"},
		{"a.com", "http://a.com/api", "api"},
		{"a.com", "http://b.a.com/api", "400"},
		{"a.com", "http://A.com/api", "api"},
		{"a.com:8080", "http://a.com:8080/api?x", "api"},
		{"a.com", "http://a.com/apixyz", "root"},
		{"a.com", "http://a.com/api/../x", "400"},
		{"a.com", "http://a.com.evil.org/api", "400"},
		{"a.com.evil.org", "http://a.com/api", "400"},
		{"odd.com", "/a;b=c/x", "odd"},
		{"odd.com", "/it's", "odd"},
		{"odd.com", "/q(uote)$x", "odd"},
		{"odd.com", "/under_score/", "odd"},
		// Services that nobody stands behind.
		{"none.com", "/", "503"},
		{"down.com", "/", "503"},
		{"maint.com", "/", "503"},
	}
	s := catalog(t, matchingCatalog)
	for i, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			dir := t.TempDir()
			v := view(t, s, dir)
			address := start(t, i, dir, v)
			for _, c := range cases {
				if got := get(t, address, c.host, c.path); got.who() != c.want {
					t.Errorf("%q %q: %s, want %s", c.host, c.path, got.who(), c.want)
				}
			}
		})
	}
}

// TestMatchingAgrees makes random tables and requests out of few words, so that most of them
// touch, and wants both proxies to take the route that the table itself names.
func TestMatchingAgrees(t *testing.T) {
	hosts := []string{"a.com", "b.a.com", "c.b.a.com", "*.a.com", "*.b.a.com", "*.com", "~^b", `~a\\.com$`, `~^c\\.b`, "~x", ""}
	paths := []string{"/", "/p", "/p/q", "/p/q/r", "=/p", "=/p/", "=/p/q", "~^/p", "~q", "~/r$", "~^/$"}
	askHosts := []string{"a.com", "b.a.com", "c.b.a.com", "d.c.b.a.com", "x.com", "com", "x.org", "b.org"}
	askPaths := []string{"/", "/p", "/p/", "/pp", "/p/q", "/p/q/", "/p/qq", "/p/q/r", "/r", "/p/q/r/s", "/q", "/x/r"}
	const services, seeds = 6, 25
	addresses := make([]string, services)
	for i := range addresses {
		addresses[i] = service(t, fmt.Sprintf("s%d", i))
	}
	each(t, func(t *testing.T, proxy int, _ string) {
		found := 0
		for seed := range uint64(seeds) {
			r := rand.New(rand.NewPCG(seed, 3))
			var text strings.Builder
			for i, address := range addresses {
				fmt.Fprintf(&text, "s%d n %s passing %d", i, address, i+1)
				for n := range 1 + r.IntN(2) {
					if host := hosts[r.IntN(len(hosts))]; host != "" {
						fmt.Fprintf(&text, " \"fairway-r%d-host=%s\"", n, host)
					}
					fmt.Fprintf(&text, " \"fairway-r%d-path=%s,%s\" fairway-r%d-priority=%d", n, paths[r.IntN(len(paths))], paths[r.IntN(len(paths))], n, r.IntN(3))
				}
				text.WriteString("\n")
			}
			dir := t.TempDir()
			v := view(t, routetest.Snapshot(t, text.String()), dir)
			address := start(t, proxy, dir, v)
			for _, host := range askHosts {
				for _, path := range askPaths {
					want := "404"
					if r, ok := v.Match("web", host, path); ok {
						want = r.Service
						found++
					}
					if got := get(t, address, host, path); got.who() != want {
						t.Errorf("seed %d: %s%s: %s, want %s", seed, host, path, got.who(), want)
					}
				}
			}
			if t.Failed() {
				t.Fatalf("catalog:\n%s%s", text.String(), routetest.Print(v.Table))
			}
		}
		if found < seeds*len(askHosts)*len(askPaths)/4 {
			t.Errorf("only %d requests found a route: the words are too far apart", found)
		}
	})
}
