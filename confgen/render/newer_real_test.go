//go:build real

package render_test

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// plain are labels in which every key of the vocabulary has a value that it takes.
func plain(port int) []string {
	return []string{
		"enable=true default=true priority=7 network=web", "path=/p methods=GET header=X-A query=a=b", "entrypoints=web",
		"proto=https backend-verify=staff backend-sni=x.test backend-cert=shop", "proto=h2c", "proto=grpc", "proto=fcgi fcgi-root=/srv",
		fmt.Sprintf("tcp=%d proxy-protocol=v1", port), "sni=s.test", "tls=redirect cert=shop hsts=max-age=1", "tls=only client-ca=staff",
		"balance=header:X-A weight=5 instance=*", "balance=leastconn group=g share=50", "sticky=cookie:c", "backup=true",
		"maintenance=true", "drain=1s port=9", "maxconn=7 queue=5 slowstart=3s",
		"check=GET_/health_204 check-interval=1s check-timeout=1s check-rise=2 check-fall=2",
		"timeout-connect=1s timeout-server=2s timeout-tunnel=3s timeout-queue=4s retries=2", "retry-on=connect,empty,503",
		"allow=127.0.0.0/8 deny=10.0.0.0/8", "auth=staff", "forward-auth=http://here/in", "rate=50/1s,burst=9", "inflight=20", "body-max=1m",
		"cors=https://a.test", "redirect=301_https://x.test/a", "redirect-from=old.test", "strip=/p rewrite=/a_=>_/b",
		"headers-request=X-A:_b headers-response=X-B:_c", "compress=true errors=brand", "mirror=here", "snippet-haproxy=http-request_deny", "snippet-nginx=return_204;",
	}
}

// refused are the keys among those that a proxy cannot do, each with a problem.
var refused = map[string][]string{
	"haproxy": {"forward-auth", "mirror"},
	"nginx":   {"check", "check.rise", "check.timeout", "drain", "queue", "slowstart", "timeout.queue", "timeout.tunnel"},
}

// newer is what the proxies must at least be to prove anything: nginx has "http2 on" since then.
var newer = map[string]string{"haproxy": "2.8", "nginx": "1.25.1"}

// plainServices has a service for each of these labels, and one that answers.
func plainServices(t *testing.T, labels []string) route.Snapshot {
	t.Helper()
	s := catalog(t, "here n ADDRESS passing 1 fairway-host=here.test\nopen n ADDRESS passing 1 fairway-host=open.test fairway-tls=off")
	known := make(map[string]bool)
	for n, line := range labels {
		meta := map[string]string{"fairway-host": fmt.Sprintf("k%d.test", n)}
		if strings.HasPrefix(line, "tcp=") || strings.HasPrefix(line, "sni=") {
			clear(meta)
		}
		for label := range strings.FieldsSeq(line) {
			key, value, _ := strings.Cut(label, "=")
			meta["fairway-"+key] = strings.ReplaceAll(value, "_", " ")
			known[key] = true
		}
		in := route.Instance{Node: "n", ID: fmt.Sprint(n), Address: "127.0.0.2", Port: 9, Status: route.Passing, Created: 10 + uint64(n), Meta: meta}
		s.Services = append(s.Services, route.Service{Name: fmt.Sprintf("k%d", n), Instances: []route.Instance{in}})
	}
	known["host"] = true
	for _, key := range route.Vocabulary() {
		if !known[strings.ReplaceAll(key, ".", "-")] {
			t.Errorf("the key %s has no value here", key)
		}
	}
	return s
}

// TestNewerProxies_vocabulary has the HAProxy and nginx of scripts/get-proxies load every key there
// is without a warning, and answer requests with that, over TLS and HTTP/2 too.
func TestNewerProxies_vocabulary(t *testing.T) {
	testbed.NewerProxies(t)
	ca := testbed.NewAuthority(t, "ca")
	each(t, func(t *testing.T, proxy int, dir string) {
		name := proxies[proxy].name
		if version := testbed.ProxyVersion(t, name); !(render.Settings{Version: version}).AtLeast(newer[name]) {
			t.Fatalf("%s %s is not newer than %s", name, version, newer[name])
		}
		v := vocabularyView(t, proxy, ca, dir)
		address := start(t, proxy, dir, v)
		if got := get(t, address, "open.test", "/x"); got.who() != "open" {
			t.Errorf("over HTTP: %s", got.who())
		}
		c := client{t: t, port: v.Entrypoints[1].Port, tls: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12}}
		if got := c.ask("here.test", "here.test", "/x"); got != "here" {
			t.Errorf("over TLS: %s", got)
		}
		if got := alpn(t, v.Entrypoints[1].Port, c.tls); got != "h2" {
			t.Errorf("over TLS it speaks %q", got)
		}
	})
}

// vocabularyView is a view with all of that, whose secrets are already in dir.
func vocabularyView(t *testing.T, proxy int, ca *testbed.Authority, dir string) render.View {
	t.Helper()
	name := proxies[proxy].name
	st := &store{}
	st.add("shop", ca.Pair(t, "*.test"), "*.test")
	st.trust("staff", ca)
	port := testbed.Port(t)
	s := plainServices(t, plain(port))
	var snippets []string
	for _, service := range s.Services {
		snippets = append(snippets, service.Name)
	}
	v := hostileView(t, proxy, s, st, dir)
	v.Settings.UserLists = []render.UserList{{Name: "staff", Users: []render.User{{Name: "joe", Hash: "$5$x$y"}}}}
	v.Settings.PageSets = []render.PageSet{{Name: "brand", Pages: map[int]string{503: "down"}}}
	v.Settings.StreamModule = testbed.NginxStreamModule(t)
	v.Table = route.Build(s, route.Settings{
		Proxy: route.Proxy(name), Entrypoints: v.Entrypoints, Certificates: &st.Certificates,
		UserLists: []string{"staff"}, PageSets: []string{"brand"}, Snippets: snippets, TCPPorts: []route.PortRange{{From: port, To: port}},
	})
	if got := problemKeys(v.Table); !slices.Equal(got, refused[name]) {
		t.Errorf("%s refuses %q, want %q", name, got, refused[name])
	}
	writeSecrets(t, proxy, v, st, dir)
	return v
}

func problemKeys(table route.Table) []string {
	keys := make(map[string]bool)
	for _, p := range table.Problems {
		keys[strings.TrimPrefix(p.Key, "fairway.")] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

// alpn is the protocol that a proxy chooses of those that browsers offer.
func alpn(t *testing.T, port int, config *tls.Config) string {
	t.Helper()
	config = config.Clone()
	config.ServerName, config.NextProtos = "here.test", []string{"h2", "http/1.1"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 2 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().NegotiatedProtocol
}
