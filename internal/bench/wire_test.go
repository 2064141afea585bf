//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// wire stands between a program and Consul and counts what goes over it.
type wire struct {
	addr     string
	to       string
	spread   bool // pretend to be many clients, so that Consul's limit for each does not apply
	listener net.Listener
	closing  sync.WaitGroup

	opened, open, most atomic.Int64 // connections
	requests, refused  atomic.Int64
	received           atomic.Int64 // bytes from Consul

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// newWire forwards to a Consul server until the benchmark ends. Consul allows 200 connections of
// one source address; spread takes addresses in turn.
func newWire(b testing.TB, to string, spread bool) *wire {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), to: to, spread: spread, listener: l, conns: map[net.Conn]bool{}}
	w.closing.Go(w.accept)
	b.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		for c := range w.conns {
			_ = c.Close()
		}
		w.conns = nil
		w.mu.Unlock()
		w.closing.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		c, err := w.listener.Accept()
		if err != nil {
			return
		}
		n := w.opened.Add(1)
		w.closing.Go(func() { w.forward(c, n) })
	}
}

func (w *wire) forward(c net.Conn, n int64) {
	now := w.open.Add(1)
	defer w.open.Add(-1)
	for most := w.most.Load(); now > most && !w.most.CompareAndSwap(most, now); most = w.most.Load() {
	}
	d := net.Dialer{}
	if w.spread {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("127.0.1.%d", 1+n%200))}
	}
	s, err := d.Dial("tcp", w.to)
	if err != nil {
		_ = c.Close()
		return
	}
	w.remember(c, s)
	defer w.forget(c, s)
	var both sync.WaitGroup
	copying := func(to, from net.Conn, look func([]byte)) {
		_, _ = io.Copy(to, watched{from, look}) // ends with either side
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() {
		copying(s, c, func(p []byte) { w.requests.Add(int64(bytes.Count(p, []byte("GET /v1/")))) })
	})
	both.Go(func() {
		copying(c, s, func(p []byte) {
			w.received.Add(int64(len(p)))
			w.refused.Add(int64(bytes.Count(p, []byte("HTTP/1.1 429"))))
		})
	})
	both.Wait()
}

// watched shows what is read. It hides everything else of the connection from io.Copy, which
// would let the kernel copy otherwise.
type watched struct {
	from io.Reader
	look func([]byte)
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.look(p[:n])
	return n, err
}

func (w *wire) remember(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		if w.conns == nil { // the benchmark is over
			_ = c.Close()
			continue
		}
		w.conns[c] = true
	}
}

func (w *wire) forget(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		delete(w.conns, c)
	}
}
