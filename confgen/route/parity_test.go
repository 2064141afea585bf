package route_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
)

// example is values that a key takes, what they need beside them, and the tests that send
// requests and look at what arrives. What a proxy makes of each value is asked of the code.
type example struct {
	values []string // as labels write them; the first is the common one
	beside map[string]string
	stream bool // what a stream may say differs from what a request may
	tests  []string
}

// parity holds an example for every key of the vocabulary.
var parity = map[string]example{
	"allow":            {values: []string{"10.0.0.0/8"}, tests: []string{"TestAllowDeny", "TestTrustedProxies"}},
	"auth":             {values: []string{"staff"}, tests: []string{"TestAuth"}},
	"backend.cert":     {values: []string{"shop"}, beside: map[string]string{"proto": "https"}, tests: []string{"TestReencryption"}},
	"backend.sni":      {values: []string{"shop.test"}, beside: map[string]string{"proto": "https"}, tests: []string{"TestReencryption"}},
	"backend.verify":   {values: []string{"none", "system", "ca"}, beside: map[string]string{"proto": "https"}, tests: []string{"TestReencryption"}},
	"backup":           {values: []string{"true", "false"}, tests: []string{"TestBackup"}},
	"balance":          {values: []string{"roundrobin", "leastconn", "random", "source", "uri", "header:X-User"}, tests: []string{"TestBalance_turns", "TestBalance_leastconn", "TestBalance_keeps"}},
	"body-max":         {values: []string{"10m"}, tests: []string{"TestBodyMax"}},
	"cert":             {values: []string{"shop"}, tests: []string{"TestStore"}},
	"check":            {values: []string{"tcp", "off", "GET /health 200"}, tests: []string{"TestCheckHTTP", "TestCheckOff", "TestCheckNginx"}},
	"check.fall":       {values: []string{"3"}, tests: []string{"TestCheckHTTP", "TestCheckNginx"}},
	"check.interval":   {values: []string{"10s"}, tests: []string{"TestCheckHTTP", "TestCheckNginx"}},
	"check.rise":       {values: []string{"3"}, tests: []string{"TestCheckHTTP"}},
	"check.timeout":    {values: []string{"3s"}, tests: []string{"TestCheckHTTP"}},
	"client-ca":        {values: []string{"ca"}, tests: []string{"TestClientCA"}},
	"compress":         {values: []string{"true", "false"}, tests: []string{"TestCompress"}},
	"cors":             {values: []string{"https://app.test", "*"}, tests: []string{"TestCORS"}},
	"default":          {values: []string{"true", "false"}, tests: []string{"TestPlainKeys"}},
	"deny":             {values: []string{"10.0.0.0/8"}, tests: []string{"TestAllowDeny"}},
	"drain":            {values: []string{"30s"}, tests: []string{"TestRun_drain"}},
	"enable":           {values: []string{"true", "false"}, tests: []string{"TestPlainKeys"}},
	"entrypoints":      {values: []string{"web"}, tests: []string{"TestPlainKeys"}},
	"errors":           {values: []string{"brand"}, tests: []string{"TestErrors"}},
	"fcgi.root":        {values: []string{"/srv/www"}, beside: map[string]string{"proto": "fcgi"}, tests: []string{"TestFastCGI"}},
	"forward-auth":     {values: []string{"http://10.0.0.9/verify"}, tests: []string{"TestForwardAuth"}},
	"group":            {values: []string{"shop"}, tests: []string{"TestShares"}},
	"header":           {values: []string{"X-Canary: yes", "Cookie: ~beta=1", "X-Any"}, tests: []string{"TestConditions", "TestConditionsAgree"}},
	"headers.request":  {values: []string{"X-A: 1; +X-B: 2; -X-C"}, tests: []string{"TestHeadersOfLabels"}},
	"headers.response": {values: []string{"X-A: 1; +X-B: 2; -X-C", "Server: shop"}, tests: []string{"TestHeadersOfLabels"}},
	"host":             {values: []string{"a.test", "*.a.test", "~^a[0-9]"}, tests: []string{"TestMatching", "TestMatchingAgrees"}},
	"hsts":             {values: []string{"max-age=31536000", "max-age=31536000; includeSubDomains; preload", "off"}, tests: []string{"TestHSTS"}},
	"inflight":         {values: []string{"20"}, tests: []string{"TestInFlight"}},
	"instance":         {values: []string{"*", "edge-1"}, tests: []string{"TestPlainKeys"}},
	"maintenance":      {values: []string{"true", "false"}, tests: []string{"TestPlainKeys"}},
	"maxconn":          {values: []string{"50"}, tests: []string{"TestMaxConn"}},
	"methods":          {values: []string{"GET,POST"}, tests: []string{"TestConditions", "TestConditionsAgree"}},
	"mirror":           {values: []string{"self"}, tests: []string{"TestMirror"}},
	"path":             {values: []string{"/api", "=/exact", "~^/v[0-9]"}, tests: []string{"TestMatching", "TestMatchingAgrees"}},
	"port":             {values: []string{"8080"}, tests: []string{"TestPort", "TestPlainKeys"}},
	"priority":         {values: []string{"5"}, tests: []string{"TestPlainKeys", "TestMatchingAgrees"}},
	"proto":            {values: []string{"http", "https", "h2c", "grpc", "grpcs", "fcgi"}, tests: []string{"TestReencryption", "TestGRPC", "TestGRPC_clear", "TestH2C", "TestFastCGI"}},
	"proxy-protocol":   {values: []string{"v1", "v2"}, stream: true, tests: []string{"TestProxyProtocol", "TestStreams", "TestPassThrough_proxyProtocol"}},
	"query":            {values: []string{"beta=1"}, tests: []string{"TestConditions", "TestConditionsAgree"}},
	"queue":            {values: []string{"100"}, beside: map[string]string{"maxconn": "5"}, tests: []string{"TestQueue"}},
	"rate":             {values: []string{"100/1s", "100/1s,burst=50,key=header:X-User", "1/1h"}, tests: []string{"TestRate"}},
	"redirect":         {values: []string{"302 https://a.test/", "301 /new", "307 /new", "308 /new"}, tests: []string{"TestRedirects"}},
	"redirect-from":    {values: []string{"www.a.test"}, tests: []string{"TestRedirects"}},
	"retries":          {values: []string{"1"}, tests: []string{"TestRetries"}},
	"retry-on":         {values: []string{"connect,empty,invalid,timeout,403,404,500,502,503,504", "off", "429", "401,408,425,501"}, tests: []string{"TestRetryOn", "TestRetryOn_everyWord", "TestRetryOn_off"}},
	"rewrite":          {values: []string{"/old => /new", "~^/(a)$ => /$1"}, tests: []string{"TestStripAndRewrite"}},
	"share":            {values: []string{"10"}, beside: map[string]string{"group": "shop"}, tests: []string{"TestShares"}},
	"slowstart":        {values: []string{"30s"}, tests: []string{"TestSlowStart"}},
	"sni":              {values: []string{"a.test"}, tests: []string{"TestPassThrough"}},
	"snippet.haproxy":  {values: []string{"http-request deny"}, tests: []string{"TestSnippet"}},
	"snippet.nginx":    {values: []string{"return 200;"}, tests: []string{"TestSnippet"}},
	"sticky":           {values: []string{"cookie", "cookie:shop", "source", "off"}, tests: []string{"TestSticky"}},
	"strip":            {values: []string{"/api"}, beside: map[string]string{"path": "/api"}, tests: []string{"TestStripAndRewrite"}},
	"tcp":              {values: []string{"5432"}, tests: []string{"TestStreams"}},
	"timeout.connect":  {values: []string{"1s"}, tests: []string{"TestTimeoutConnect"}},
	"timeout.queue":    {values: []string{"1s"}, tests: []string{"TestTimeoutQueue"}},
	"timeout.server":   {values: []string{"1s"}, tests: []string{"TestTimeouts"}},
	"timeout.tunnel":   {values: []string{"1h"}, tests: []string{"TestTimeoutTunnel"}},
	"tls":              {values: []string{"on", "off", "only", "redirect"}, tests: []string{"TestRedirects"}},
	"weight":           {values: []string{"50"}, tests: []string{"TestShares"}},
}

// ofRegistrator is the key that confgen leaves to the other program.
const ofRegistrator = "network"

// verdict is what a proxy makes of a key: one cell of the table.
func verdict(t *testing.T, key string, proxy route.Proxy) (cell string, works bool) {
	t.Helper()
	if key == ofRegistrator {
		return "registrator", false
	}
	if owner, ok := strings.CutPrefix(key, "snippet."); ok && owner != string(proxy) {
		return "left to the other", false
	}
	cell, works = judged(t, key, proxy, "host", "a.test")
	if !parity[key].stream {
		return cell, works
	}
	streams, passed := judged(t, key, proxy, "tcp", "5432")
	if streams != cell {
		cell = "for requests " + cell + "; for streams " + streams
	}
	return cell, works || passed
}

// judged is what a proxy makes of a key's values on a route of some kind, which another key makes it.
func judged(t *testing.T, key string, proxy route.Proxy, kind, of string) (cell string, works bool) {
	t.Helper()
	type refusal struct{ values, reason string }
	var refused []refusal
	for _, value := range parity[key].values {
		reason := refusalOf(t, key, value, proxy, kind, of)
		if i := slices.IndexFunc(refused, func(r refusal) bool { return r.reason == reason }); i >= 0 {
			refused[i].values += ", `" + value + "`"
		} else if reason != "" {
			refused = append(refused, refusal{"`" + value + "`", reason})
		}
		if reason == "" {
			works = true
		}
	}
	parts := make([]string, len(refused))
	for i, r := range refused {
		if parts[i] = "refused: " + r.reason; works {
			parts[i] = r.values + " refused: " + r.reason
		}
	}
	if works {
		return strings.Join(append([]string{"works"}, parts...), "; "), true
	}
	return strings.Join(parts, "; "), false
}

// refusalOf is what the code says to a value of a key; "" for nothing.
func refusalOf(t *testing.T, key, value string, proxy route.Proxy, kind, of string) string {
	t.Helper()
	table := route.Build(route.Snapshot{Services: []route.Service{
		serving("door", map[string]string{"fairway-host": "door.test"}), serving("self", metaOf(key, value, kind, of)),
		serving("shop-next", map[string]string{"fairway-host": "next.test"}),
	}}, paritySettings(proxy))
	for _, p := range table.Problems {
		if p.Key == "fairway."+key {
			reason := strings.TrimPrefix(p.Reason, fmt.Sprintf("%q: ", value))
			reason, _, _ = strings.Cut(reason, "; the route is withheld")
			return strings.ReplaceAll(reason, "|", `\|`)
		}
	}
	return ""
}

// metaOf is what a row with a host, or a stream, says of a key with a value, and of what that needs
// beside it.
func metaOf(key, value, kind, of string) map[string]string {
	meta := map[string]string{"fairway-" + kind: of}
	for k, v := range parity[key].beside {
		meta["fairway-"+strings.ReplaceAll(k, ".", "-")] = v
	}
	meta["fairway-"+strings.ReplaceAll(key, ".", "-")] = value
	if key == "tcp" || key == "sni" { // they stand in the place of hosts
		delete(meta, "fairway-host")
	}
	return meta
}

// serving is a service of one instance.
func serving(name string, meta map[string]string) route.Service {
	return route.Service{Name: name, Instances: []route.Instance{{
		Node: "n", ID: name, Address: "10.0.0.1", Port: 8080, Status: route.Passing, Meta: meta,
	}}}
}

func paritySettings(proxy route.Proxy) route.Settings {
	return route.Settings{
		Proxy: proxy, Instance: "edge-1", UserLists: []string{"staff"}, PageSets: []string{"brand"}, Snippets: []string{"*"},
		Entrypoints:       []route.Entrypoint{{Name: "web", Port: 80}, {Name: "websecure", Port: 443, TLS: true}, {Name: "internal", Port: 81}},
		SystemAuthorities: true,
		TCPPorts:          []route.PortRange{{From: 5432, To: 5432}}, Certificates: &route.Certificates{
			List:        []route.Certificate{{Name: "shop", Hosts: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}},
			Authorities: []string{"ca", "internal", "staff"}, Default: "shop",
		},
	}
}

const parityPage = "../../docs/routing.md"

// TestParity_table holds the table of docs/routing.md to the code: every key, both proxies, no
// empty cell.
func TestParity_table(t *testing.T) {
	var out strings.Builder
	out.WriteString("\n| key | HAProxy | nginx |\n|---|---|---|\n")
	for _, key := range route.Vocabulary() {
		if _, known := parity[key]; !known && key != ofRegistrator {
			t.Errorf("no example for the key %s", key)
			continue
		}
		haproxy, _ := verdict(t, key, route.HAProxy)
		nginx, _ := verdict(t, key, route.Nginx)
		if haproxy == "" || nginx == "" {
			t.Errorf("%s: an empty cell", key)
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", key, haproxy, nginx)
	}
	const begin, end = "<!-- parity: made by go test ./confgen/route -update -->\n", "<!-- end of parity -->\n"
	page, err := os.ReadFile(parityPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no place for the table: want %q and %q", parityPage, begin, end)
	}
	want := out.String() + "\n"
	if *update {
		if err := os.WriteFile(parityPage, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("the table of %s is not what the code does; run go test ./confgen/route -update\n%s", parityPage, want)
	}
}
