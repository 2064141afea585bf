//go:build real

package render_test

import (
	"fmt"
	"testing"

	"fairway/confgen/route"
)

// TestPort has a container with two ports, each registered as a service of its own with all of the
// container's labels. Each route goes to the port that it names, and a name leads where registrator
// has made a number of it. Without a name nothing is guessed.
func TestPort(t *testing.T) {
	s := catalog(t, fmt.Sprintf(`
app-80 n %s passing 1 fairway-host=app.com fairway-port=80 fairway-admin-host=admin.com fairway-admin-port=9000/tcp fairway-container=aaaaaaaaaaaa:80/tcp
app-9000 n %s passing 1 fairway-host=app.com fairway-port=80 fairway-admin-host=admin.com fairway-admin-port=9000/tcp fairway-container=aaaaaaaaaaaa:9000/tcp
open-80 n ADDRESS passing 2 fairway-host=open.com fairway-container=bbbbbbbbbbbb:80/tcp
open-9000 n ADDRESS passing 2 fairway-host=open.com fairway-container=bbbbbbbbbbbb:9000/tcp
`, service(t, "the shop"), service(t, "the admin")))
	each(t, func(t *testing.T, proxy int, dir string) {
		v := view(t, s, dir)
		v.Table = route.Build(s, route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: v.Entrypoints})
		address := start(t, proxy, dir, v)
		for host, want := range map[string]string{"app.com": "the shop", "admin.com": "the admin", "open.com": "404"} {
			for range 6 {
				if got := get(t, address, host, "/").who(); got != want {
					t.Errorf("%s: %s, want %s", host, got, want)
				}
			}
		}
	})
}
