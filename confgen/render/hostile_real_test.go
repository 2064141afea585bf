//go:build real

package render_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

const innocents = `
shop n1 10.0.0.1:80 passing 1 fairway-host=shop.test,*.shop.test fairway-path=/,/cart,=/robots.txt "fairway-img-host=shop.test" "fairway-img-path=~\\.(png|jpg)$"
shop n2 10.0.0.2:80 critical 2 fairway-host=shop.test,*.shop.test fairway-path=/,/cart,=/robots.txt "fairway-img-host=shop.test" "fairway-img-path=~\\.(png|jpg)$"
blog n1 10.0.0.3:80 passing 3 "fairway-host=~^blog[0-9]\\.test$" "fairway-rewrite=/blog => /new-blog" fairway-sticky=cookie:shop
shop-api n1 10.0.0.4:80 passing 3 fairway-host=shop.test fairway-path=/shop-api fairway-strip=true "fairway-rewrite=~^/shop(.*)$ => /$1/shop" fairway-timeout-server=7s fairway-timeout-tunnel=7s fairway-timeout-queue=7s fairway-timeout-connect=7s fairway-balance=header:X-Shop "fairway-headers-request=X-Shop: a; +Y-Shop: b" "fairway-headers-response=Z-Shop: a" fairway-allow=10.0.0.0/8 fairway-deny=10.0.0.0/16 "fairway-check=GET /shop 201" fairway-check-interval=7s fairway-maxconn=7 fairway-slowstart=7s
shop-when n1 10.0.0.7:80 passing 3 fairway-host=shop.test fairway-path=/cart "fairway-header=X-Shop: 10.0.0.7" fairway-methods=GET fairway-query=shop
shop-kept n1 10.0.0.8:80 passing 3 fairway-host=shop-kept.test fairway-auth=staff fairway-rate=7/1s,burst=7,key=header:X-Shop fairway-inflight=77 fairway-body-max=777 fairway-cors=https://shop.test fairway-errors=brand fairway-retry-on=connect
shop-asks n1 10.0.0.9:80 passing 3 fairway-host=shop-asks.test fairway-forward-auth=http://shop/in fairway-mirror=shop
shop-old n1 10.0.0.5:80 passing 3 fairway-host=shop-new.test fairway-redirect-from=shop-old.test
shop-gone n1 10.0.0.6:80 passing 3 fairway-host=shop-gone.test "fairway-redirect=301 https://shop.test/gone"
`

// TestHostileLabels registers services with every kind of malice beside two good ones. Both
// proxies must load the result, and every line that speaks of the good ones must still be there,
// unchanged and in the same order.
func TestHostileLabels(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		good := routetest.Snapshot(t, innocents)
		routes := 0
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, 7))
			bad := route.Snapshot{Services: append([]route.Service{}, good.Services...)}
			for n := range 60 {
				bad.Services = append(bad.Services, hostileService(r, n))
			}
			v := view(t, bad, dir)
			set := route.Settings{Proxy: route.Proxy(proxies[proxy].name), Entrypoints: v.Entrypoints, UserLists: []string{"staff"}, PageSets: []string{"brand"}, Snippets: []string{"shop"}}
			v.Settings.UserLists = []render.UserList{{Name: "staff", Users: []render.User{{Name: "joe", Hash: "$5$x$y"}}}}
			v.Settings.PageSets = []render.PageSet{{Name: "brand", Pages: map[int]string{503: "down"}}}
			v.Table = route.Build(bad, set)
			routes += len(v.Routes)
			if err := write(t, proxy, dir, v); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			mixed := lines(t, dir)
			alone := v
			alone.Table = route.Build(good, set)
			if err := write(t, proxy, dir, alone); err != nil {
				t.Fatal(err)
			}
			for file, want := range lines(t, dir) {
				if missing := notIn(want, mixed[file]); missing != "" {
					t.Fatalf("seed %d: %s has lost the line %q", seed, file, missing)
				}
			}
		}
		t.Logf("%d routes went through", routes)
		if routes < 40*10 {
			t.Errorf("only %d routes: the values are too odd to prove anything", routes)
		}
	})
}

var numbered = regexp.MustCompile(`_\d+_\d+|\{\d+\}`)

func lines(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files := make(map[string][]string)
	for _, pattern := range []string{"*.cfg", "*.conf", "maps/*.map"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(data)) {
				// nginx tells routes with a regular expression for a host apart by their number.
				line = numbered.ReplaceAllString(line, "")
				if strings.Contains(strings.ToLower(line), "shop") || strings.Contains(line, "%70)(?:-") || strings.Contains(line, "blog") || strings.Contains(line, "10.0.0.") || strings.Contains(line, "7000ms") {
					files[filepath.Base(name)] = append(files[filepath.Base(name)], strings.TrimSpace(line))
				}
			}
		}
	}
	return files
}

// notIn returns the first line of part that does not occur in whole behind the ones before it.
func notIn(part, whole []string) string {
	i := 0
	for _, line := range part {
		for i < len(whole) && whole[i] != line {
			i++
		}
		if i == len(whole) {
			return line
		}
		i++
	}
	return ""
}
