//go:build real

package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/reconcile"
)

// load is a client that never retries: whatever fails is counted.
type load struct {
	ok     atomic.Int64
	mu     sync.Mutex
	failed []string
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// startLoad sends requests for host until stopped: over kept connections, over new ones, and
// over kept ones that are mostly idle.
func startLoad(t testing.TB, address, host string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	for range 3 {
		l.done.Go(func() { l.client(ctx, address, host, true, 2*time.Millisecond) })
		l.done.Go(func() { l.client(ctx, address, host, false, 2*time.Millisecond) })
		l.done.Go(func() { l.client(ctx, address, host, true, 150*time.Millisecond) })
	}
	t.Cleanup(func() { l.finish() })
	return l
}

func (l *load) client(ctx context.Context, address, host string, keep bool, gap time.Duration) {
	transport := &noRetry{address: address, keep: keep}
	defer transport.close()
	for ctx.Err() == nil {
		if err := transport.get(host); err != nil {
			l.mu.Lock()
			l.failed = append(l.failed, fmt.Sprintf("%s keep=%t gap=%s: %v", time.Now().Format("05.000"), keep, gap, err))
			l.mu.Unlock()
		} else {
			l.ok.Add(1)
		}
		_ = reconcile.Sleep(ctx, gap)
	}
}

func (l *load) finish() (ok int64, failed []string) {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ok.Load(), l.failed
}

// expectNone fails the test if a request failed, or if there were too few to mean anything.
func (l *load) expectNone(t testing.TB, atLeast int64) {
	t.Helper()
	ok, failed := l.finish()
	t.Logf("%d requests, %d failed", ok, len(failed))
	for i, f := range failed {
		if i < 10 {
			t.Errorf("failed: %s", f)
		}
	}
	if ok < atLeast {
		t.Errorf("only %d requests", ok)
	}
	if len(failed) > 0 {
		t.Errorf("%d requests failed", len(failed))
	}
}

// noRetry is one connection at a time. net/http retries a request on a kept connection that the
// server closed; this one does not, unless the server had said so in its last answer.
type noRetry struct {
	address string
	keep    bool
	client  *http.Client
	said    string
}

func (n *noRetry) get(host string) error {
	if n.client == nil {
		dialer := &net.Dialer{Timeout: 3 * time.Second}
		n.client = &http.Client{Timeout: 8 * time.Second, Transport: &http.Transport{
			DisableKeepAlives:   !n.keep,
			MaxIdleConnsPerHost: 1,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", n.address)
			},
		}}
	}
	// A POST with a body that cannot be rewound is never sent twice by net/http.
	req, err := http.NewRequest(http.MethodPost, "http://"+host+"/", io.NopCloser(&once{}))
	if err != nil {
		return err
	}
	req.ContentLength = 2
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	n.said = string(body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

func (n *noRetry) close() {
	if n.client != nil {
		n.client.CloseIdleConnections()
	}
}

// once is a body of two bytes.
type once struct{ read bool }

func (o *once) Read(p []byte) (int, error) {
	if o.read {
		return 0, io.EOF
	}
	o.read = true
	return copy(p, "ok"), nil
}

// backends starts n web servers and returns their addresses.
func backends(t testing.TB, n int) []string {
	t.Helper()
	var list []string
	for i := range n {
		name := fmt.Sprintf("web%d", i)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
				_ = reconcile.Sleep(r.Context(), d)
			}
			_, _ = io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		list = append(list, s.Listener.Addr().String())
	}
	return list
}
