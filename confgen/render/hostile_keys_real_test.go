//go:build real

package render_test

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/internal/testbed"
)

// The long form, by hand:
//
//	go test -tags real -run TestHostileLabels_everyKey ./confgen/render -args -hostile.rounds 20 -hostile.seed 7
var (
	hostileRounds = flag.Int("hostile.rounds", 1, "configurations in which every key of the vocabulary has hostile values")
	hostileSeed   = flag.Uint64("hostile.seed", 1, "what the values are made from")
)

// specials are what means something to a proxy, a shell, a terminal or a parser.
var specials = []string{
	"'", "\"", "\\", ";", "{", "}", "$host", "%[src]", "#", " # x", "\n", "`", "' acl x always_true '", "\"; return 200; #",
	"\n", "\r\n", "\t", "\x00", "\x1b[31m", "\x7f", "${x}", "$", "%[env(HOME)]", "%", "%%",
	"\u202e", "e\u0301", "\u200b", "é", "\xff", "😀", " ", ",", ":", "=", "=>", "~", "^(", ")", "[", "*", "|", "\\;", "\\x00", "\\Q'", "../", "//", "@", "!", "&", "<", "-- ", "\\\n",
	"}\nserver { listen 81; }", ";} location / { return 200; }", "\nbackend x\n    server x 1.2.3.4:80", " if TRUE", "\n    http-request deny",
	"99999999999999999999", "-1", "0", "1e9", "0x10", "NaN", "null", "true", "", strings.Repeat("a", 10240), strings.Repeat("é;", 5120), strings.Repeat("\\", 10240), strings.Repeat("(", 10240), strings.Repeat("a,", 5120), strings.Repeat("/a", 5120),
}

// plausible are values that a key takes, for every key of the vocabulary, the usual one first.
var plausible = map[string][]string{
	"host": {"h.test", "*.h.test", "~^h[0-9]+\\.test$", "shop.test"}, "path": {"/p", "=/p", "~^/p[a-z]{2,3}$", "/cart"}, "strip": {"/p", "true"}, "rewrite": {"/p => /q", "~^/(p.*)$ => /x/$1"},
	"methods": {"GET,POST"}, "header": {"X-A: b", "X-A: ~^b$", "X-A"}, "query": {"a=b", "a=~^b$", "a"}, "redirect": {"301 https://x.test/a?b=c", "302 /x"}, "redirect-from": {"old.test", "shop.test"},
	"headers.request": {"X-A: b; +X-B: c; -X-C"}, "headers.response": {"X-A: b; +X-B: c; -X-C"}, "hsts": {"max-age=1; includeSubDomains"}, "cors": {"https://a.test,https://*.b.test", "*"},
	"check": {"GET /health 200", "tcp", "off"}, "balance": {"header:X-A", "uri", "leastconn"}, "sticky": {"cookie:c", "cookie", "source"}, "rate": {"7/1s,burst=3,key=header:X-A", "100/1m"},
	"fcgi.root": {"/srv/www"}, "forward-auth": {"http://10.1.2.3/a", "http://shop/in"}, "mirror": {"shop"}, "auth": {"staff"}, "errors": {"brand"}, "cert": {"shop"}, "client-ca": {"staff"},
	"backend.verify": {"none", "staff", "system"}, "backend.sni": {"x.test"}, "backend.cert": {"shop"}, "sni": {"s.test", "*.s.test", "shop.test"}, "allow": {"10.0.0.0/8,::1"}, "deny": {"10.0.0.0/8"},
	"timeout.connect": {"1s"}, "timeout.server": {"1m"}, "timeout.tunnel": {"1h"}, "timeout.queue": {"1s"}, "group": {"g"}, "instance": {"*"}, "entrypoints": {"web"}, "proto": {"https", "grpc", "h2c", "fcgi"},
	"retry-on": {"connect,empty,503"}, "body-max": {"10m"}, "inflight": {"20"}, "snippet.haproxy": {"http-request deny"}, "snippet.nginx": {"return 200;"},
	"enable": {"true"}, "port": {"80"}, "default": {"true"}, "priority": {"5"}, "proxy-protocol": {"v1"}, "tls": {"on", "redirect"}, "weight": {"50"}, "share": {"10"}, "maintenance": {"true"},
	"backup": {"true"}, "maxconn": {"50"}, "queue": {"100"}, "slowstart": {"30s"}, "drain": {"30s"}, "check.interval": {"10s"}, "check.timeout": {"3s"}, "check.rise": {"3"}, "check.fall": {"3"},
	"retries": {"1"}, "compress": {"true"}, "network": {"front"},
}

// beside is what a key needs to mean anything.
var beside = map[string][2]string{
	"fcgi.root": {"proto", "fcgi"}, "backend.verify": {"proto", "https"}, "backend.sni": {"proto", "https"}, "backend.cert": {"proto", "https"}, "share": {"group", "g"}, "strip": {"path", "/p"}, "queue": {"maxconn", "5"},
}

// mutant is a value for a key: something plausible, with something special in a place or two.
func mutant(r *rand.Rand, key string) string {
	value := pieces[r.IntN(len(pieces))]
	if list := plausible[key]; len(list) > 0 && r.IntN(4) > 0 {
		value = list[r.IntN(len(list))]
	} else if r.IntN(3) == 0 {
		value = hostileValue(r)
	}
	for range r.IntN(3) {
		special, at := specials[r.IntN(len(specials))], r.IntN(len(value)+1)
		if r.IntN(3) == 0 {
			at = len(value)
		}
		value = value[:at] + special + value[at+r.IntN(len(value)-at+1)/2:]
	}
	return value
}

// hostileLabel makes the n-th service: one hostile label and, beside it, what makes a route.
func hostileLabel(n int, key string) route.Service {
	meta := map[string]string{"fairway-host": fmt.Sprintf("k%d.test", n)}
	if key == "tcp" || key == "sni" { // they stand in the place of hosts
		clear(meta)
	}
	if with, ok := beside[key]; ok {
		meta["fairway-"+with[0]] = with[1]
	}
	in := route.Instance{Node: "n", ID: fmt.Sprint(n), Address: fmt.Sprintf("10.9.%d.%d", n/250, n%250+1), Port: 80, Status: route.Passing, Created: 1000 + uint64(n), Meta: meta}
	return route.Service{Name: fmt.Sprintf("k%d", n), Instances: []route.Instance{in}}
}

// inMeta and inTag are where a label may stand.
func inMeta(s route.Service, key, value string) route.Service {
	s.Instances[0].Meta["fairway-"+strings.ReplaceAll(key, ".", "-")] = value
	return s
}

func inTag(s route.Service, key, value string) route.Service {
	delete(s.Instances[0].Meta, "fairway-"+strings.ReplaceAll(key, ".", "-"))
	s.Instances[0].Tags = []string{"fairway." + key + "=" + value}
	return s
}

// everyKey makes services with a special as it is, or a mutant, for every key there is.
func everyKey(r *rand.Rand) []route.Service {
	var list []route.Service
	add := func(key, value string) {
		s := hostileLabel(len(list), key)
		switch r.IntN(5) {
		case 0:
			s = inTag(s, key, value)
		case 1: // of a named route
			meta := s.Instances[0].Meta
			meta["fairway-named-host"], meta["fairway-named-path"] = s.Name+".test", "/named"
			s = inMeta(s, "named-"+key, value)
		default:
			s = inMeta(s, key, value)
		}
		list = append(list, s)
	}
	for _, key := range route.Vocabulary() {
		for range 8 {
			add(key, mutant(r, key))
		}
		for range 4 {
			add(key, specials[r.IntN(len(specials))])
		}
	}
	return list
}

// TestHostileLabels_everyKey gives every key of the vocabulary values that are made at random. Both
// proxies load all of them in one configuration; nothing that belongs to the innocent changes,
// neither in the route table nor in a line of a file. The label that breaks this is named.
func TestHostileLabels_everyKey(t *testing.T) {
	eachHostility(t, func(t *testing.T, h *hostility) {
		for round := range uint64(*hostileRounds) {
			t.Logf("seed %d, round %d", *hostileSeed, round)
			h.bear(t, everyKey(rand.New(rand.NewPCG(*hostileSeed, round))))
		}
	})
}

// hostility is a configuration with the innocent in it, beside whom others may be put.
type hostility struct {
	t     *testing.T
	proxy int
	dir   string
	store *store
	view  render.View // with its settings
	set   route.Settings
	good  route.Snapshot
	alone route.Table
	text  map[string]string // files of the innocent alone
	lines map[string][]string
}

// eachHostility runs a test on every proxy, with a certificate store, user lists and pages for
// labels to name.
func eachHostility(t *testing.T, f func(t *testing.T, h *hostility)) {
	t.Helper()
	ca := testbed.NewAuthority(t, "ca")
	pair := ca.Pair(t, "*.test")
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("shop", pair, "*.test")
		st.trust("staff", ca)
		st.secrets.Authorities[route.SystemAuthorities] = ca.PEM
		f(t, newHostility(t, proxy, st, dir))
	})
}

func newHostility(t *testing.T, proxy int, st *store, dir string) *hostility {
	t.Helper()
	h := &hostility{t: t, proxy: proxy, dir: dir, store: st, good: routetest.Snapshot(t, innocents)}
	h.view = hostileView(t, proxy, h.good, st, dir)
	h.view.Settings.UserLists = []render.UserList{{Name: "staff", Users: []render.User{{Name: "joe", Hash: "$5$x$y"}}}}
	h.view.Settings.PageSets = []render.PageSet{{Name: "brand", Pages: map[int]string{503: "down"}}}
	port := testbed.Port(t)
	plausible["tcp"] = []string{fmt.Sprint(port)}
	h.set = route.Settings{
		Proxy: route.Proxy(proxies[proxy].name), Entrypoints: h.view.Entrypoints, Certificates: &st.Certificates, SystemAuthorities: true,
		UserLists: []string{"staff"}, PageSets: []string{"brand"}, Snippets: []string{"shop"}, TCPPorts: []route.PortRange{{From: port, To: port}},
	}
	h.view.Settings.StreamModule = testbed.NginxStreamModule(t)
	h.alone = route.Build(h.good, h.set)
	if _, err := h.try(nil); err != nil {
		t.Fatal(err)
	}
	h.text, h.lines = sections(t, dir), lines(t, dir)
	return h
}

// bear puts services beside the innocent ones, all at once; if that breaks anything, it names the
// fewest that do.
func (h *hostility) bear(t *testing.T, list []route.Service) {
	t.Helper()
	routes, err := h.try(list)
	if err != nil {
		culprits := smallest(list, func(part []route.Service) bool {
			_, err := h.try(part)
			return err != nil
		})
		_, err := h.try(culprits)
		for _, s := range culprits {
			t.Errorf("%s: %.200q %.200q", s.Name, s.Instances[0].Meta, s.Instances[0].Tags)
		}
		t.Fatalf("which is: %v", err)
	}
	t.Logf("%d values, %d routes", len(list), routes)
	if routes < len(list)/3 {
		t.Errorf("%d values made only %d routes: they are too odd to prove anything", len(list), routes)
	}
}

// try puts services beside the innocent ones and says what that breaks.
func (h *hostility) try(list []route.Service) (routes int, err error) {
	v := h.view
	v.Table = route.Build(route.Snapshot{Services: slices.Concat(h.good.Services, list)}, h.set)
	if err := sameFor(h.good.Services, h.alone, v.Table); err != nil {
		return 0, err
	}
	writeSecrets(h.t, h.proxy, v, h.store, h.dir)
	if err := write(h.t, h.proxy, h.dir, v); err != nil {
		return 0, err
	}
	mixed := sections(h.t, h.dir)
	for name, text := range h.text {
		if mixed[name] != text {
			return 0, fmt.Errorf("the section %s was\n%s\nand is\n%s", name, text, mixed[name])
		}
	}
	after := lines(h.t, h.dir)
	for file, want := range h.lines {
		if missing := notIn(want, after[file]); missing != "" {
			return 0, fmt.Errorf("%s has lost the line %q", file, missing)
		}
	}
	return len(v.Routes) + len(v.Streams), nil
}

// sameFor wants routes, backends and problems of services to be the same in two tables.
func sameFor(services []route.Service, a, b route.Table) error {
	for _, s := range services {
		if x, y := ofService(s.Name, a), ofService(s.Name, b); !reflect.DeepEqual(x, y) {
			return fmt.Errorf("the service %s had\n%+v\nand has\n%+v", s.Name, x, y)
		}
	}
	return nil
}

func ofService(name string, table route.Table) (part route.Table) {
	for _, r := range table.Routes {
		if r.Service == name {
			part.Routes = append(part.Routes, r)
		}
	}
	for _, b := range table.Backends {
		if b.Service == name {
			part.Backends = append(part.Backends, b)
		}
	}
	for _, p := range table.Problems {
		if p.Service == name {
			part.Problems = append(part.Problems, p)
		}
	}
	return part
}

// sections are the backends of HAProxy and the upstreams of nginx, with the maps before them, of
// services that are innocent, by their names.
func sections(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, file := range []string{"haproxy.cfg", "nginx.conf"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for section := range bytes.SplitSeq(data, []byte("\n\n")) {
			_, after, ok := strings.Cut(string(section), "# service ")
			name, _, _ := strings.Cut(after, "\n")
			if ok && (strings.HasPrefix(name, "shop") || name == "blog") {
				found[file+": "+name] += strings.TrimSpace(string(section)) + "\n" // one service may have several
			}
		}
	}
	if len(found) < 5 {
		t.Fatalf("only %d sections of the innocent", len(found))
	}
	return found
}

// smallest halves a list that fails for as long as one half fails alone.
func smallest(list []route.Service, fails func([]route.Service) bool) []route.Service {
	for len(list) > 1 {
		half := len(list) / 2
		switch {
		case fails(list[:half]):
			list = list[:half]
		case fails(list[half:]):
			list = list[half:]
		default:
			return list
		}
	}
	return list
}
