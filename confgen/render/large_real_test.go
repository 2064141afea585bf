//go:build real

package render_test

import (
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/internal/testbed"
)

// TestLarge lets the proxies' own checkers look at 5,000 services, and at 150 regular expressions
// for hosts: nginx has limits that only show then.
func TestLarge(t *testing.T) {
	s := routetest.Large(5000, 2)
	for i := range 150 {
		s.Services[i].Instances[0].Meta["fairway-host"] = `~^v[0-9]\.` + s.Services[i].Name + "$"
		s.Services[i].Instances[1].Meta["fairway-host"] = `~^v[0-9]\.` + s.Services[i].Name + "$"
	}
	each(t, func(t *testing.T, proxy int, dir string) {
		v := view(t, s, dir)
		v.Table = route.Build(s, route.Settings{Entrypoints: []route.Entrypoint{
			{Name: "a-name-of-thirty-two-characters0", Address: "127.0.0.1", Port: testbed.Port(t)}, v.Entrypoints[0],
		}})
		if len(v.Routes) != 5000 || len(v.Problems) > 0 {
			t.Fatalf("%d routes, %v", len(v.Routes), v.Problems)
		}
		if err := write(t, proxy, dir, v); err != nil {
			t.Fatal(err)
		}
	})
	// And the last of the expressions is found.
	each(t, func(t *testing.T, proxy int, dir string) {
		few := route.Snapshot{Services: append([]route.Service{}, s.Services[:150]...)}
		few.Services = append(few.Services, catalog(t, `web n ADDRESS passing 1 "fairway-host=~^last$"`).Services...)
		v := view(t, few, dir)
		v.Settings = render.DefaultSettings()
		v.Settings.StatsSocket, v.Settings.RunDir, v.Settings.GenerationSocket = "", dir, ""
		address := start(t, proxy, dir, v)
		if got := get(t, address, "last", "/"); got.who() != "web" {
			t.Errorf("%s %s", got.who(), got.body)
		}
	})
}
