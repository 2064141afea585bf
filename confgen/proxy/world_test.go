package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/render"
)

// world is what the tests want a HAProxy to be.
type world struct {
	dir, port string
	backends  map[string][]string // server lines without "server"
	hosts     map[string]string   // host → backend
	timeout   string              // something structural
	extra     string              // raw lines at the end
	unmarked  bool
}

func newWorld(dir, port string) *world {
	return &world{dir: dir, port: port, backends: map[string][]string{}, hosts: map[string]string{}, timeout: "5s"}
}

// serverLine writes a server as the default templates do.
func serverLine(address string, weight int, options string) string {
	name := "n1_" + address
	return strings.TrimSpace(fmt.Sprintf("%s %s id %d weight %d pool-purge-delay 1s pool-max-conn -1 %s", name, address, serverID(name), weight, options))
}

func serverID(name string) int {
	id := 7
	for _, c := range []byte(name) {
		id = (id*131 + int(c)) % (1 << 20)
	}
	return id + 1
}

func (w *world) sockets() (stats, master string) {
	return w.dir + "/run/stats.sock", w.dir + "/run/master.sock"
}

func (w *world) files() []render.File {
	var b strings.Builder
	stats, _ := w.sockets()
	fmt.Fprintf(&b, "global\n  stats socket %s mode 600 level admin\n  hard-stop-after 3s\n  nbthread 2\n", stats)
	if !w.unmarked {
		fmt.Fprintf(&b, "  description fairway %s\n", render.Generation)
	}
	fmt.Fprintf(&b, `defaults
  mode http
  option idle-close-on-response
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response
  timeout connect 1s
  timeout client %s
  timeout server 5s
  timeout http-keep-alive 2s
frontend front
  bind 127.0.0.1:%s
  use_backend %%[req.hdr(host),lower,map(%s/maps/hosts.map)]
`, w.timeout, w.port, w.dir)
	for _, name := range sortedKeys(w.backends) {
		fmt.Fprintf(&b, "backend %s\n  balance roundrobin\n", name)
		for _, s := range w.backends[name] {
			b.WriteString("  server " + s + "\n")
		}
	}
	b.WriteString(w.extra)
	var m strings.Builder
	for _, host := range sortedKeys(w.hosts) {
		fmt.Fprintf(&m, "%s %s\n", host, w.hosts[host])
	}
	return []render.File{
		{Path: "haproxy.cfg", Data: []byte(b.String())},
		{Path: "maps/hosts.map", Data: []byte(m.String())},
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// mustRun fails the test on an error.
func mustRun[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
