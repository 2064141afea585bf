//go:build real

package render_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStalledAnswer asks for an answer that stops after exactly as many bytes as a buffer may
// hold. The proxy must give up on it in time. nginx 1.17.5 to 1.23.0 forgets its timer there when
// it buffers (ticket 2367), and a worker without timers exits at a reload with the request under
// way.
func TestStalledAnswer(t *testing.T) {
	for size := 1 << 12; size <= 1<<16; size <<= 1 {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			s := catalog(t, "web n "+stalling(t, size)+" passing 1 fairway-host=a.com")
			each(t, func(t *testing.T, proxy int, dir string) {
				v := view(t, s, dir)
				v.Settings.Timeouts.Server = 300 * time.Millisecond
				c, err := net.DialTimeout("tcp", start(t, proxy, dir, v), 2*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || r.StatusCode != http.StatusOK {
					t.Fatalf("no answer began: %v, %v", r, err)
				}
				defer r.Body.Close()
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					t.Error("an answer that never ended was passed on as whole")
				} else if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the proxy still waits after 5s; it was told 300ms")
				}
			})
		})
	}
}

// stalling is a server whose answers stop after so many bytes, headers included, with one more
// promised. It asks for buffering, which nginx grants to whoever asks.
func stalling(t *testing.T, size int) string {
	t.Helper()
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Accel-Buffering: yes\r\nContent-Length: %d\r\n\r\n", size)
	answer := head + strings.Repeat("x", size-len(head))
	return tcpServer(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return // A health check of HAProxy's, which only connects.
		}
		if _, err := io.WriteString(c, answer); err == nil {
			_, _ = io.Copy(io.Discard, c) // until the proxy hangs up
		}
	})
}
