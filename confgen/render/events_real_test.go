//go:build real

package render_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
)

// events is how many events an answer tells.
const events = 5

// telling tells one event, waits until the client says that it has it, and only then tells the
// next: a proxy that collects events before it passes them on gets stuck at the first.
func telling(had <-chan int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if r.URL.Path == "/until-close" {
			w.Header().Set("Connection", "close")
			w.Header().Set("Transfer-Encoding", "identity")
		}
		for i := range events {
			fmt.Fprintf(w, "data: %d\n\n", i)
			if flusher, ok := w.(http.Flusher); ok {
				flusher.Flush()
			}
			select {
			case <-had:
			case <-r.Context().Done():
				return
			case <-time.After(5 * time.Second):
				return
			}
		}
	}
}

// listens reads events one by one, and reports each that has arrived.
func listens(t *testing.T, address, host, path string, had chan<- int) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%s%s: no answer begins: %v, %v", host, path, r, err)
		return
	}
	defer r.Body.Close()
	lines := bufio.NewReader(r.Body)
	for i := range events {
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
		for _, want := range []string{fmt.Sprintf("data: %d\n", i), "\n"} {
			if line, err := lines.ReadString('\n'); line != want {
				t.Errorf("%s%s: event %d: %q, want %q: %v", host, path, i, line, want, err)
				return
			}
		}
		had <- i
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("%s%s: behind the last event: %q, %v", host, path, rest, err)
	}
}

// TestEvents wants server-sent events to arrive one by one: from servers that say their answer in
// chunks or until they hang up, over HTTP and FastCGI, on routes that are compressed and such that
// are not. nginx from 1.23.1 on may be asked to buffer, and is written another file.
func TestEvents(t *testing.T) {
	had := make(chan int)
	web, php := listen(t), listen(t)
	go func() { _ = http.Serve(web, telling(had)) }() //nolint:gosec // A test's own.
	go func() { _ = fcgi.Serve(php, telling(had)) }()
	s := catalog(t, strings.NewReplacer("WEB", web.Addr().String(), "PHP", php.Addr().String()).Replace(`
web n WEB passing 1 fairway-host=plain.com
zip n WEB passing 1 fairway-host=zip.com fairway-compress=true
php n PHP passing 1 fairway-host=php.com fairway-proto=fcgi
`))
	ask := func(t *testing.T, proxy int, dir string, v render.View) {
		address := start(t, proxy, dir, v)
		for _, host := range []string{"plain.com", "zip.com", "php.com"} {
			listens(t, address, host, "/", had)
		}
		listens(t, address, "plain.com", "/until-close", had)
	}
	each(t, func(t *testing.T, proxy int, dir string) {
		ask(t, proxy, dir, viewFor(t, proxy, s, dir))
	})
	t.Run("nginx 1.24", func(t *testing.T) {
		dir := t.TempDir()
		v := viewFor(t, 1, s, dir)
		v.Settings.Version = "1.24.0"
		ask(t, 1, dir, v)
	})
}
