//go:build real

package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// request is one that passed a tap.
type request struct {
	name  string // "PUT /v1/txn", without what follows the last of three parts
	at    time.Time
	waits bool // it is a blocking query
}

func (r request) reads() bool { return strings.HasPrefix(r.name, "GET ") }

// tap is a way to Consul that remembers what passes, and can let nothing pass that writes.
type tap struct {
	addr string

	mu       sync.Mutex
	seen     []request
	refusing bool
}

func newTap(t *testing.T, consul string) *tap {
	t.Helper()
	p := &tap{}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: consul})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	to.Transport, to.ErrorLog = transport, log.New(io.Discard, "", 0) // a blocking query is given up at the end
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.passes(r) {
			to.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no cluster leader", http.StatusInternalServerError)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close(); transport.CloseIdleConnections() })
	p.addr = server.Listener.Addr().String()
	return p
}

func (p *tap) passes(r *http.Request) bool {
	parts := strings.SplitN(r.URL.Path, "/", 5)
	q := request{
		name: r.Method + " " + strings.Join(parts[:min(4, len(parts))], "/"), at: time.Now(),
		waits: r.URL.Query().Get("index") != "",
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing && !q.reads() {
		return false
	}
	p.seen = append(p.seen, q)
	return true
}

// refuse begins or ends to answer all that writes as a server without a leader does.
func (p *tap) refuse(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = yes
}

// forget begins to remember anew.
func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = nil
}

// passed returns what passed and is wanted, in order.
func (p *tap) passed(wanted func(request) bool) []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.seen), func(r request) bool { return !wanted(r) })
}

const renewal = "PUT /v1/session/renew"

// writes returns the names of all that changed something in Consul: not of renewals.
func (p *tap) writes() []string {
	var names []string
	for _, r := range p.passed(func(r request) bool { return !r.reads() && r.name != renewal }) {
		names = append(names, r.name)
	}
	return names
}
