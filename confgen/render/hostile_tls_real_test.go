//go:build real

package render_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// tlsKeys are keys of TLS and protocols, with values that get far.
var tlsKeys = map[string][]string{
	"proto": {"https", "grpcs", "h2c", "grpc", "fcgi", "tcp"}, "cert": {"shop", "~none"}, "client-ca": {"staff", route.SystemAuthorities},
	"backend-verify": {"none", "system", "staff", "../staff"}, "backend-sni": {"x.test", "*.x.test"}, "backend-cert": {"shop"},
	"fcgi-root": {"/srv", "/srv/../etc"}, "proxy-protocol": {"v1", "v2"}, "tls": {"only", "redirect", "off"},
	"tcp": {"7001", "7002", "80"}, "sni": {"sni.test", "*.sni.test", "shop.test"},
}

// TestHostileLabels_TLS gives the keys of TLS and protocols every kind of value, with a store to
// choose from: both proxies load what comes of it.
func TestHostileLabels_TLS(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	keys := []string{"proto", "cert", "client-ca", "backend-verify", "backend-sni", "backend-cert", "fcgi-root", "proxy-protocol", "tls", "tcp", "sni"}
	each(t, func(t *testing.T, proxy int, dir string) {
		routes := 0
		for seed := range uint64(10) {
			r := rand.New(rand.NewPCG(seed, 11))
			var s route.Snapshot
			for n := range 80 {
				in := route.Instance{
					Node: "n", ID: fmt.Sprint(n), Address: fmt.Sprintf("10.9.%d.1", n), Port: 80, Status: route.Passing, Created: uint64(n),
					Meta: map[string]string{"fairway-host": fmt.Sprintf("h%d.test", n)},
				}
				for range 1 + r.IntN(3) {
					key := keys[r.IntN(len(keys))]
					value := hostileValue(r)
					if list := tlsKeys[key]; r.IntN(3) > 0 {
						value = list[r.IntN(len(list))]
					}
					in.Meta["fairway-"+key] = value
				}
				s.Services = append(s.Services, route.Service{Name: fmt.Sprintf("s%d%s", n, strings.Repeat("x", r.IntN(3))), Instances: []route.Instance{in}})
			}
			st := &store{}
			st.add("shop", ca.Pair(t, "*.test"), "*.test")
			st.trust("staff", ca)
			st.secrets.Authorities[route.SystemAuthorities] = ca.PEM
			v := hostileView(t, proxy, s, st, dir)
			writeSecrets(t, proxy, v, st, dir)
			routes += len(v.Routes)
			if err := write(t, proxy, dir, v); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if routes < 10*60 {
			t.Errorf("only %d routes: the values are too odd to prove anything", routes)
		}
	})
}
