//go:build real

package render_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway/confgen/route/routetest"
	"fairway/internal/testbed"
)

// busy is a server that takes its time, and remembers how many requests it had at once.
func busy(t *testing.T, takes time.Duration) (address string, most *atomic.Int32) {
	t.Helper()
	var now atomic.Int32
	most = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		select {
		case <-time.After(takes):
			fmt.Fprintln(w, "busy")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), most
}

// together sends requests at the same time and counts the answers.
func together(t *testing.T, n int, address, host string) (served, refused int) {
	t.Helper()
	results := make(chan string, n)
	for range n {
		go func() { results <- get(t, address, host, "/").who() }()
	}
	for range n {
		switch who := <-results; who {
		case "busy":
			served++
		case "503":
			refused++
		default:
			t.Errorf("answer %s", who)
		}
	}
	return served, refused
}

// TestMaxConn sends more requests at once than a server takes. HAProxy lets them wait, nginx has
// no queue and refuses.
func TestMaxConn(t *testing.T) {
	limited, most := busy(t, 200*time.Millisecond)
	free, mostFree := busy(t, 200*time.Millisecond)
	s := catalog(t, "limited n "+limited+" passing 1 fairway-host=a.com fairway-maxconn=2\nfree n "+free+" passing 1 fairway-host=b.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		served, refused := together(t, 6, address, "a.com")
		if most.Load() != 2 {
			t.Errorf("the server had %d requests at once, want 2", most.Load())
		}
		if want := map[string]int{"haproxy": 6, "nginx": 2}[proxies[proxy].name]; served != want || refused != 6-want {
			t.Errorf("%d served and %d refused, want %d served", served, refused, want)
		}
		if served, _ := together(t, 6, address, "b.com"); served != 6 || mostFree.Load() != 6 {
			t.Errorf("without a limit %d served, %d at once", served, mostFree.Load())
		}
	})
}

// TestTimeoutQueue lets a request wait for a server longer than its label allows; nginx refuses
// the label.
func TestTimeoutQueue(t *testing.T) {
	server, most := busy(t, time.Second)
	s := catalog(t, "web n "+server+" passing 1 fairway-host=a.com fairway-maxconn=1 fairway-timeout-queue=200ms")
	dir := t.TempDir()
	address := start(t, 0, dir, viewFor(t, 0, s, dir))
	first := make(chan answer, 1)
	go func() { first <- get(t, address, "a.com", "/") }()
	testbed.Eventually(t, 5*time.Second, "the server is taken", func() error {
		if most.Load() == 0 {
			return errors.New("it has no request")
		}
		return nil
	})
	began := time.Now()
	if got := get(t, address, "a.com", "/"); got.status != 503 || time.Since(began) > 700*time.Millisecond {
		t.Errorf("%d after %v, want 503 after 200ms", got.status, time.Since(began))
	}
	if got := <-first; got.who() != "busy" {
		t.Errorf("the first request: %s", got.who())
	}
}

// ask sends a command to HAProxy's runtime socket.
func ask(t testing.TB, socket, command string) string {
	t.Helper()
	var c net.Conn
	testbed.Eventually(t, 5*time.Second, "the socket answers", func() (err error) {
		c, err = net.Dial("unix", socket) // its name comes a moment after the listeners
		return err
	})
	defer c.Close()
	if _, err := io.WriteString(c, command+"\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestBackup wants a backup to be asked only when nobody else can be.
func TestBackup(t *testing.T) {
	for status, want := range map[string]string{"passing": "main", "maintenance": "spare", "gone": "spare"} {
		var text strings.Builder
		if status != "gone" {
			fmt.Fprintf(&text, "web n1 %s %s 1 fairway-host=a.com\n", service(t, "main"), status)
		}
		fmt.Fprintf(&text, "web n2 %s passing 2 fairway-host=a.com fairway-backup=true\n", service(t, "spare"))
		s := catalog(t, text.String())
		t.Run(status, func(t *testing.T) {
			each(t, func(t *testing.T, proxy int, dir string) {
				address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
				for range 20 {
					if got := get(t, address, "a.com", "/"); got.who() != want {
						t.Fatalf("%s, want %s", got.who(), want)
					}
				}
			})
		})
	}
	t.Run("fails", func(t *testing.T) {
		s := catalog(t, "web n1 DEAD passing 1 fairway-host=a.com\nweb n2 "+service(t, "spare")+" passing 2 fairway-host=a.com fairway-backup=true")
		each(t, func(t *testing.T, proxy int, dir string) {
			address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
			testbed.Eventually(t, 5*time.Second, "the backup takes over", func() error {
				if got := get(t, address, "a.com", "/"); got.who() != "spare" {
					return fmt.Errorf("got %s", got.who())
				}
				return nil
			})
		})
	})
}

// TestSlowStart takes a server out and in again, and counts what it gets then; nginx refuses the
// label.
func TestSlowStart(t *testing.T) {
	var text strings.Builder
	for host, more := range map[string]string{"slow": " fairway-slowstart=1m", "quick": ""} {
		for n := range 2 {
			fmt.Fprintf(&text, "%s n%d %s passing 1 fairway-host=%s.com%s\n", host, n, service(t, fmt.Sprint(n)), host, more)
		}
	}
	dir := t.TempDir()
	v := viewFor(t, 0, routetest.Snapshot(t, text.String()), dir)
	address := start(t, 0, dir, v)
	for _, b := range v.Backends {
		for _, state := range []string{"maint", "ready"} {
			if got := ask(t, dir+"/haproxy.sock", "set server "+b.Name+"/"+b.Servers[1].Name+" state "+state); strings.TrimSpace(got) != "" {
				t.Fatal(got)
			}
		}
	}
	for host, share := range map[string]int{"slow": 10, "quick": 50} {
		seen := 0
		for range 100 {
			if get(t, address, host+".com", "/").who() == "1" {
				seen++
			}
		}
		if seen < share-10 || seen > share+5 {
			t.Errorf("%s: the server that came back got %d of 100 requests", host, seen)
		}
	}
}

// TestOptionsAtRunTime adds a server with every option that a label can put on its line to a
// running HAProxy, under every way to choose one: what no reload may be needed for.
func TestOptionsAtRunTime(t *testing.T) {
	var text strings.Builder
	for i, b := range []string{"roundrobin", "leastconn", "random", "source", "uri", "header:x-user"} {
		fmt.Fprintf(&text, "s%d n %s passing 1 fairway-host=%d.com fairway-balance=%s fairway-maxconn=9 fairway-slowstart=10ms fairway-check=%s\n", i, service(t, "old"), i, b, []string{"off", "tcp"}[i%2])
	}
	dir := t.TempDir()
	v := viewFor(t, 0, routetest.Snapshot(t, text.String()), dir)
	address := start(t, 0, dir, v)
	for _, b := range v.Backends {
		addServer(t, dir, b.Name, "new", service(t, "new"), "")
		addServer(t, dir, b.Name, "spare", "127.0.0.1:9", " backup")
		testbed.Eventually(t, 5*time.Second, b.Name+" sends to the new server", func() error {
			for i := range 60 {
				got := sendFrom(t, fmt.Sprintf("127.0.0.%d", i+1), address, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: %s.com\r\nX-User: %d\r\nConnection: close\r\n\r\n", i, b.Name[1:], i))
				if got.who() == "new" {
					return nil
				}
			}
			return errors.New("no request reached it")
		})
	}
}

// addServer adds a server to a running HAProxy, with what the file says of the first that the
// backend has and more.
func addServer(t *testing.T, dir, backend, name, address, more string) {
	t.Helper()
	cfg, err := os.ReadFile(dir + "/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(cfg), "\nbackend "+backend+"\n")
	_, line, _ := strings.Cut(section, " weight ")
	options, _, _ := strings.Cut(line, "\n")
	socket := dir + "/haproxy.sock"
	if got := ask(t, socket, fmt.Sprintf("add server %s/%s %s id %d weight %s%s", backend, name, address, 1000+len(name), options, more)); !strings.Contains(got, "registered") {
		t.Fatalf("%s: %s", options, got)
	}
	if got := ask(t, socket, "set server "+backend+"/"+name+" state ready"); strings.TrimSpace(got) != "" {
		t.Fatal(got)
	}
}
