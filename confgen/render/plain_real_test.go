//go:build real

package render_test

import (
	"fmt"
	"math"
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// twoDoors is a view of a front end called edge-1 that has an entrypoint inner beside web.
func twoDoors(t testing.TB, proxy int, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	v.Table = route.Build(s, route.Settings{Proxy: route.Proxy(proxies[proxy].name), Instance: "edge-1", Entrypoints: []route.Entrypoint{
		v.Entrypoints[0], {Name: "inner", Address: "127.0.0.1", Port: testbed.Port(t)},
	}})
	return v
}

// TestPlainKeys asks for what the keys decide that leave no trace in a proxy's configuration but
// the route itself.
func TestPlainKeys(t *testing.T) {
	s := catalog(t, `
all n ADDRESS passing 1 fairway-default=true fairway-entrypoints=web
old n ADDRESS passing 2 fairway-host=prio.com
new n ADDRESS passing 3 fairway-host=prio.com fairway-priority=5
off n ADDRESS passing 4 fairway-host=off.com fairway-enable=false
inner n ADDRESS passing 5 fairway-host=inner.com fairway-entrypoints=inner
ours n ADDRESS passing 6 fairway-host=ours.com fairway-instance=edge-2,edge-1
theirs n ADDRESS passing 7 fairway-host=theirs.com fairway-instance=edge-2
away n ADDRESS passing 8 fairway-host=away.com fairway-maintenance=true
one n ADDRESS passing 9 fairway-host=port.com fairway-port=1
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		v := twoDoors(t, proxy, s, dir)
		address := start(t, proxy, dir, v)
		inner := fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port)
		for _, c := range []struct{ address, host, want string }{
			{address, "nobody.com", "all"},
			{inner, "nobody.com", "404"},
			{address, "prio.com", "new"},
			{address, "off.com", "all"},
			{address, "inner.com", "all"},
			{inner, "inner.com", "inner"},
			{address, "ours.com", "ours"},
			{address, "theirs.com", "all"},
			{address, "away.com", "503"},
			{address, "port.com", "all"}, // the port that is named is not the one registered
		} {
			if got := get(t, c.address, c.host, "/"); got.who() != c.want {
				t.Errorf("%+v: %s", c, got.who())
			}
		}
	})
}

// TestShares counts 1,000 requests and wants weights and shares of them within 3 %.
func TestShares(t *testing.T) {
	s := catalog(t, fmt.Sprintf(`
w n1 %s passing 1 fairway-host=w.com fairway-weight=200
w n2 %s passing 2 fairway-host=w.com fairway-weight=50
blue n1 ADDRESS passing 3 fairway-host=g.com fairway-group=shop
green n1 ADDRESS passing 4 fairway-host=g.com fairway-group=shop fairway-share=10
`, service(t, "heavy"), service(t, "light")))
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for host, want := range map[string]map[string]float64{
			"w.com": {"heavy": 80, "light": 20}, "g.com": {"blue": 90, "green": 10},
		} {
			got := make(map[string]float64)
			for range 1000 {
				got[get(t, address, host, "/").who()] += 0.1
			}
			for who, percent := range want {
				if math.Abs(got[who]-percent) > 3 {
					t.Errorf("%s: %v, want %v", host, got, want)
				}
			}
		}
	})
}
