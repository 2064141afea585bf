package main

import (
	"context"
	"net/http"
	"time"

	"fairway/confgen/route"
	"fairway/confgen/watch"
)

// status is the document of /status.
type status struct {
	Version  string         `json:"version"`
	Proxy    string         `json:"proxy,omitempty"` // its name, where it has one
	Catalog  watch.Status   `json:"catalog"`
	Snapshot *snapshotInfo  `json:"snapshot"` // null before there is one
	Routes   int            `json:"routes"`
	Backends int            `json:"backends"`
	Servers  map[string]int `json:"servers"` // by state
	Problems []problem      `json:"problems"`
	Template string         `json:"template_error,omitempty"`

	Certificates []certificateInfo `json:"certificates,omitempty"`
	Faults       []faultInfo       `json:"certificate_faults,omitempty"`

	Config string     `json:"config_error,omitempty"` // why the configuration as it stands is not in use
	Apply  applyState `json:"apply"`
}

// problem is a route.Problem as /status tells it.
type problem struct {
	Service  string `json:"service"`
	Instance string `json:"instance,omitempty"` // none where the whole service is meant
	Key      string `json:"key"`
	Reason   string `json:"reason"`
}

// certificateInfo is a certificate of the store as /status tells it.
type certificateInfo struct {
	Name     string    `json:"name"`
	Hosts    []string  `json:"hosts"`
	NotAfter time.Time `json:"not_after"`
	Expired  bool      `json:"expired,omitempty"`
}

// faultInfo is a file of the store that cannot be used.
type faultInfo struct {
	File   string `json:"file"`
	Reason string `json:"reason"`
	Kept   bool   `json:"old_one_serves"`
}

type snapshotInfo struct {
	Version  uint64    `json:"version"`
	Time     time.Time `json:"time"`
	Age      string    `json:"age"` // since Consul last said that this is how things are
	Restored bool      `json:"restored"`
}

// ServeHTTP answers /status.
func (r *report) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.send(w, r.status(req.Context()))
}

// status is how things are now.
func (r *report) status(ctx context.Context) status {
	s := status{Version: version, Proxy: r.proxy, Catalog: r.watcher.Status(ctx), Problems: []problem{}}
	if view, known := r.watcher.Latest(); known {
		s.Snapshot = &snapshotInfo{
			Version: view.Version, Time: view.Time, Restored: view.Restored,
			Age: age(view, s.Catalog).Round(time.Millisecond).String(),
		}
	}
	if err := r.source.Err(); err != nil {
		s.Template = err.Error()
	}
	if err := r.config.Err(); err != nil {
		s.Config = oneLine(err)
	}
	r.mu.Lock()
	s.Apply = r.state
	s.Routes, s.Backends, s.Servers = len(r.table.Routes), len(r.table.Backends), servers(r.table)
	for _, p := range r.table.Problems {
		s.Problems = append(s.Problems, problem{p.Service, p.Instance, p.Key, p.Reason})
	}
	for _, c := range r.held.Certificates {
		s.Certificates = append(s.Certificates, certificateInfo{c.Name, c.Hosts, c.NotAfter.UTC(), time.Now().After(c.NotAfter)})
	}
	for _, f := range r.held.Faults {
		s.Faults = append(s.Faults, faultInfo(f))
	}
	r.mu.Unlock()
	return s
}

// age is how long ago Consul last confirmed a view.
func age(view watch.View, s watch.Status) time.Duration {
	at := view.Time
	if s.Fresh.After(at) && !view.Restored {
		at = s.Fresh
	}
	return time.Since(at)
}

func servers(t route.Table) map[string]int {
	count := map[string]int{string(route.Ready): 0, string(route.Maint): 0}
	for _, b := range t.Backends {
		for _, s := range b.Servers {
			count[string(s.State)]++
		}
	}
	return count
}
