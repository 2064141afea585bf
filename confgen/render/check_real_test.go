//go:build real

package render_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestCheckHTTP lets a service say of itself whether it is well; nginx refuses the label.
func TestCheckHTTP(t *testing.T) {
	var sick atomic.Bool
	var asked atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			fmt.Fprintln(w, "moody")
			return
		}
		asked.Store(r.Method + " " + r.RequestURI + " " + r.Host)
		if sick.Load() {
			w.WriteHeader(http.StatusOK) // well by default, but the label says 204
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	labels := ` passing 1 fairway-host=a.com "fairway-check=GET /health?x=$y 204" fairway-check-interval=100ms fairway-check-fall=1 fairway-check-rise=1 fairway-check-timeout=500ms`
	well := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprintln(w, "well")
	}))
	t.Cleanup(well.Close)
	dir := t.TempDir()
	text := "web n1 " + strings.TrimPrefix(s.URL, "http://") + labels + "\nweb n2 " + strings.TrimPrefix(well.URL, "http://") + labels
	address := start(t, 0, dir, viewFor(t, 0, catalog(t, text), dir))
	serves := func(want bool) func() error {
		return func() error {
			seen := map[string]int{}
			for range 10 {
				seen[get(t, address, "a.com", "/").who()]++
			}
			if seen["moody"]+seen["well"] != 10 || (seen["moody"] > 0) != want {
				return fmt.Errorf("answers %v", seen)
			}
			return nil
		}
	}
	testbed.Eventually(t, 5*time.Second, "both serve", serves(true))
	sick.Store(true)
	testbed.Eventually(t, 5*time.Second, "the sick one is left out", serves(false))
	sick.Store(false)
	testbed.Eventually(t, 5*time.Second, "it is back", serves(true))
	if got := fmt.Sprint(asked.Load()); got != "GET /health?x=$y a.com" {
		t.Errorf("asked with %s", got)
	}
}

// tries is a server that ends every connection at once, and counts them.
func tries(t *testing.T) (address string, n *atomic.Int32) {
	t.Helper()
	n = new(atomic.Int32)
	return tcpServer(t, func(net.Conn) { n.Add(1) }), n
}

// TestCheckOff has servers that are gone: HAProxy finds out where it checks, and does not ask
// where it shall not.
func TestCheckOff(t *testing.T) {
	dir := t.TempDir()
	start(t, 0, dir, viewFor(t, 0, catalog(t, "a n DEAD passing 1 fairway-host=a.com fairway-check-interval=50ms\nb n DEAD passing 1 fairway-host=b.com fairway-check=off"), dir))
	status := func(backend string) string {
		for line := range strings.Lines(ask(t, dir+"/haproxy.sock", "show stat")) {
			if columns := strings.Split(line, ","); columns[0] == backend && columns[1] != "BACKEND" {
				return columns[17]
			}
		}
		return ""
	}
	testbed.Eventually(t, 5*time.Second, "the check fails", func() error {
		if got := status("a"); got != "DOWN" {
			return errors.New(got)
		}
		return nil
	})
	if got := status("b"); got != "no check" {
		t.Errorf("status %q", got)
	}
}

// TestCheckNginx counts how often nginx tries a server that fails: check.fall times within
// check.interval, and every time where checks are off.
func TestCheckNginx(t *testing.T) {
	for labels, want := range map[string]int32{"": 1, "fairway-check-fall=3 fairway-check-interval=1m": 3, "fairway-check=off": 20} {
		bad, n := tries(t)
		dir := t.TempDir()
		s := catalog(t, "web n1 "+bad+" passing 1 fairway-host=a.com "+labels+"\nweb n2 "+service(t, "web")+" passing 1 fairway-host=a.com "+labels)
		address := start(t, 1, dir, viewFor(t, 1, s, dir))
		for range 40 {
			if got := get(t, address, "a.com", "/"); got.who() != "web" {
				t.Fatalf("%q: %s", labels, got.who())
			}
		}
		if got := n.Load(); got != want {
			t.Errorf("%q: tried %d times, want %d", labels, got, want)
		}
	}
}

// TestRetries counts on how many servers a request is tried of which each ends the connection.
func TestRetries(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		var text strings.Builder
		counts := make(map[string][]*atomic.Int32)
		cases := map[string]int32{"0": 1, "1": 2, "5": 6}
		for retries := range cases {
			for n := range 8 {
				address, count := tries(t)
				counts[retries] = append(counts[retries], count)
				fmt.Fprintf(&text, "r%s n%d %s passing 1 fairway-host=r%s.com fairway-retries=%s\n", retries, n, address, retries, retries)
			}
		}
		v := viewFor(t, proxy, catalog(t, text.String()), dir)
		v.Settings.Timeouts.Interval = time.Hour // no checks in between
		address := start(t, proxy, dir, v)
		for retries, want := range cases {
			before := total(counts[retries])
			if got := get(t, address, "r"+retries+".com", "/"); got.status < 500 {
				t.Errorf("%d %s", got.status, got.body)
			}
			if n := total(counts[retries]) - before; n != want {
				t.Errorf("retries=%s: tried %d times, want %d", retries, n, want)
			}
		}
	})
}

func total(list []*atomic.Int32) (n int32) {
	for _, count := range list {
		n += count.Load()
	}
	return n
}
