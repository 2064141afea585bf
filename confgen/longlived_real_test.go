//go:build real

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// beat is the time between two words of a stream.
const beat = 50 * time.Millisecond

// streaming is an application whose answers take a while: /events tells events, /download sends
// chunks, /echo is a websocket as far as a proxy can see.
func streaming(t *testing.T, length time.Duration) web {
	t.Helper()
	words := int(length / beat)
	paced := func(r *http.Request, do func(i int)) {
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for i := range words {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				do(i)
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "stream") })
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		paced(r, func(i int) {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
		})
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		chunk := make([]byte, 16<<10)
		w.Header().Set("Content-Length", strconv.Itoa(words*len(chunk)))
		paced(r, func(int) { _, _ = w.Write(chunk) })
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, line)
		}
	})
	s := httptest.NewServer(mux)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return addressed(t, "stream", s)
}

// socket opens a websocket.
func (r *rig) socket() (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return nil, nil, err
	}
	_, err = io.WriteString(conn, "GET /echo HTTP/1.1\r\nHost: stream.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	in := bufio.NewReader(conn)
	for err == nil {
		var line string
		if line, err = in.ReadString('\n'); strings.TrimSpace(line) == "" {
			break
		}
	}
	return conn, in, err
}

// talk speaks over a websocket for a time.
func (r *rig) talk(ctx context.Context, length time.Duration) error {
	conn, in, err := r.socket()
	if err != nil {
		return fmt.Errorf("websocket: %w", err)
	}
	defer conn.Close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for i := range int(length / beat) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		word := fmt.Sprintf("word %d\n", i)
		if _, err := io.WriteString(conn, word); err != nil {
			return fmt.Errorf("websocket: %w", err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != word {
			return fmt.Errorf("websocket: %q, want %q: %w", line, word, err)
		}
	}
	return nil
}

// read reads an answer to its end and returns how long it was.
func (r *rig) read(ctx context.Context, path string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), nil)
	if err != nil {
		return 0, err
	}
	req.Host = "stream.test"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return n, fmt.Errorf("%s after %d bytes: %w", path, n, err)
	}
	return n, nil
}

// A websocket, events and a download survive 50 changes and 5 reloads; a websocket that nobody
// closes ends with its worker, within --hard-stop-after; and there are never more old workers than
// allowed. FAIRWAY_STREAMS=60s has them last longer.
func TestRun_F53_streamsSurviveReloads(t *testing.T) {
	length := 6 * time.Second
	if text := os.Getenv("FAIRWAY_STREAMS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	const most = 5
	hardStop := length + 10*time.Second
	r := newRig(t, "haproxy")
	r.register("stream", streaming(t, length), "passing", host("stream.test"))
	c := r.confgen("--hard-stop-after", hardStop.String(), "--old-workers", strconv.Itoa(most), "--guard-grace", "0s")
	child := r.haproxy()
	c.ready()
	r.answers("stream.test", "stream")
	workers := func() int {
		pid := child.PID()
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		return len(strings.Fields(string(data)))
	}

	idle, _, err := r.socket()
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	results := make(chan error, 3)
	go func() { results <- r.talk(t.Context(), length) }()
	for path, want := range map[string]int64{"/events": 0, "/download": int64(length/beat) * 16 << 10} {
		go func() {
			n, err := r.read(t.Context(), path)
			if err == nil && (want > 0 && n != want || n == 0) {
				err = fmt.Errorf("%s: %d bytes, want %d", path, n, want)
			}
			results <- err
		}()
	}

	reloads := c.metric("fairway_confgen_reloads_total")
	guest := r.web("guest")
	tick := time.NewTicker(length * 8 / 10 / 50)
	defer tick.Stop()
	for i := range 50 {
		<-tick.C
		switch {
		case i%10 == 5:
			name := fmt.Sprintf("s%d", i)
			_, err := r.consul.Client.Catalog().Register(&api.CatalogRegistration{
				Node: "n1", Address: "127.0.0.1",
				Service: &api.AgentService{ID: name, Service: name, Address: guest.host, Port: guest.port, Meta: host(name + ".test")},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
		case i%2 == 0:
			r.register("stream", guest, "passing", host("stream.test"))
		default:
			r.deregister(guest)
		}
		if n := workers(); n > most+1 {
			t.Errorf("%d workers at once", n)
		}
	}
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := c.metric("fairway_confgen_reloads_total") - reloads; n < 2 { // of five changes; those that come while one is written become one
		t.Errorf("only %g reloads", n)
	}
	testbed.Eventually(t, hardStop+5*time.Second, "old workers have ended", func() error {
		if n := workers(); n != 1 {
			return fmt.Errorf("%d workers", n)
		}
		return nil
	})
	_ = idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a websocket outlives its worker: %v", err)
	}
}
