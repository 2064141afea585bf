package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"fairway/confgen/watch"
)

// controlSocket is where the running confgen takes orders, in its state folder. It is a unix
// socket of mode 600 and no part of the admin listener: that one may be reached by everybody who
// can have the proxy send requests to an address, which a label can.
const controlSocket = "control.sock"

// controlRetry is the time between two tries to make the socket: its folder may be mended.
const controlRetry = 5 * time.Second

// control takes orders until ctx ends. That it cannot is no reason to end: traffic goes on.
func (p *program) control(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /status", p.fronts.page(func(f *front) http.Handler { return f.report }))
	mux.HandleFunc("GET /held", p.held)
	mux.HandleFunc("POST /approve", p.approve)
	p.rollbackPages(mux)
	warned := false
	for {
		err := serveUnix(ctx, p.config.Proxies[0].Control, mux)
		if ctx.Err() != nil {
			return nil
		}
		if !warned {
			p.d.Log.Warn("no orders can be taken, trying again", "socket", p.config.Proxies[0].Control, "err", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(controlRetry):
		}
	}
}

// serveUnix serves on a socket that only this user, and root, can reach.
func serveUnix(ctx context.Context, path string, h http.Handler) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	fresh := path + "~"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", fresh)
	if err != nil {
		return fmt.Errorf("control socket: %w (a socket's path has at most 107 bytes; --state-dir names a shorter one)", err)
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false) // It has moved by then.
	}
	// Under its own name it never has another mode, and takes the place of what a crash left.
	err = errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path))
	if err != nil {
		return errors.Join(fmt.Errorf("control socket: %w", err), listener.Close())
	}
	defer os.Remove(path)
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	return server.Serve(listener)
}

// refuse answers an order that cannot be carried out.
func refuse(w http.ResponseWriter, code int, err error) { http.Error(w, oneLine(err), code) }

// obey answers an order that has been carried out.
func obey(w http.ResponseWriter, document any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document) // Who asked has gone if this fails.
}

// approved is the answer to an approval.
type approved struct {
	Approved []string `json:"approved"`
}

// held is the answer to the question what there is to approve.
type held struct {
	Catalog  string       `json:"catalog,omitempty"` // why an emptied catalog is not believed
	Services []watch.Held `json:"services"`
}

func (p *program) held(w http.ResponseWriter, req *http.Request) {
	s := p.watcher.Status(req.Context())
	obey(w, held{s.Held, s.Losses})
}

// approve has losses believed: ?service=NAME, repeated, or ?all=true.
func (p *program) approve(w http.ResponseWriter, req *http.Request) {
	services := req.URL.Query()["service"]
	if len(services) == 0 && req.URL.Query().Get("all") != "true" {
		refuse(w, http.StatusBadRequest, errors.New("want service=NAME or all=true"))
		return
	}
	names, err := p.watcher.Approve(req.Context(), services)
	switch {
	case errors.Is(err, watch.ErrNotHeld):
		refuse(w, http.StatusNotFound, err)
	case err != nil:
		refuse(w, http.StatusServiceUnavailable, err)
	default:
		p.d.Log.Info("loss approved by an operator", "service", names)
		obey(w, approved{names})
	}
}
