package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine speaks Docker's wire protocol as far as this package reads it, with faults.
type fakeEngine struct {
	t      *testing.T
	server *httptest.Server

	mu         sync.Mutex
	containers map[string]*container.InspectResponse
	inspects   map[string]int
	failing    map[string]int // inspect answers this status
	hanging    map[string]bool
	slow       map[string]time.Duration // how long the inspect of an id takes
	imagesHang bool
	unlisted   map[string]bool // listed, but gone when inspected
	networks   []network.Summary
	swarm      string // of /info, in place of a worker's
	services   string
	lists      int
	since      []string // of each event stream
	streams    []chan events.Message
	down       bool
	hold       chan struct{} // where not nil, a listing is answered when it is closed

	asked, mostAsked int // inspects on their way, and the most of them at once

	holdInspect chan struct{} // the same for an inspect
	holdAnswer  chan struct{} // the same, when it is known what the answer is
}

func newFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	f := &fakeEngine{
		t: t, containers: map[string]*container.InspectResponse{}, inspects: map[string]int{},
		failing: map[string]int{}, hanging: map[string]bool{}, unlisted: map[string]bool{}, slow: map[string]time.Duration{},
	}
	f.server = httptest.NewServer(f)
	t.Cleanup(func() { f.cut(); f.server.CloseClientConnections(); f.server.Close() })
	return f
}

func (f *fakeEngine) client(opt Options) *Client {
	f.t.Helper()
	opt.Host = "tcp://" + f.server.Listener.Addr().String()
	c, err := New(opt)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(c.Close)
	return c
}

// add makes a running container that publishes 80/tcp at a host port; 0 leaves it unbound.
func (f *fakeEngine) add(name string, hostPort string) string {
	id := fmt.Sprintf("%064x", name)
	bound := []nat.PortBinding{{HostIP: "0.0.0.0", HostPort: hostPort}}
	if hostPort == "" {
		bound = nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.containers[id] = &container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{
			ID: id, Name: "/" + name, Created: "2026-01-02T03:04:05.6Z",
			State: &container.State{Status: "running", Running: true, StartedAt: time.Now().UTC().Format(time.RFC3339Nano)},
			HostConfig: &container.HostConfig{
				NetworkMode: "bridge", PortBindings: nat.PortMap{"80/tcp": {{}}},
			},
		},
		Config: &container.Config{Image: "web:1", ExposedPorts: nat.PortSet{"80/tcp": {}}},
		NetworkSettings: &container.NetworkSettings{
			Networks: map[string]*network.EndpointSettings{"bridge": {NetworkID: "n1", IPAddress: "172.17.0.2"}},
		},
	}
	f.containers[id].NetworkSettings.Ports = nat.PortMap{"80/tcp": bound}
	return id
}

func (f *fakeEngine) change(id string, do func(*container.InspectResponse)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f.containers[id])
}

func (f *fakeEngine) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// takeInspects returns how often each container was inspected since the last time.
func (f *fakeEngine) takeInspects() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, name := range []string{"a", "b", "c"} {
		if n := f.inspects[name]; n > 0 {
			list = append(list, fmt.Sprintf("%s×%d", name, n))
		}
	}
	clear(f.inspects)
	return strings.Join(list, " ")
}

func (f *fakeEngine) emit(m events.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.TimeNano == 0 {
		m.TimeNano = time.Now().UnixNano()
	}
	for _, s := range f.streams {
		s <- m
	}
}

func containerEvent(action events.Action, id string, attributes ...string) events.Message {
	m := events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: map[string]string{}}}
	for i := 0; i < len(attributes); i += 2 {
		m.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	return m
}

// cut ends every event stream.
func (f *fakeEngine) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		close(s)
	}
	f.streams = nil
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.IndexByte(path[1:], '/')+1:]
	}
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	switch {
	case down:
		http.Error(w, `{"message":"down"}`, http.StatusServiceUnavailable)
	case path == "/_ping":
	case path == "/version":
		fmt.Fprint(w, `{}`)
	case path == "/info":
		f.with(func() {
			fmt.Fprintf(w, `{"ID":"engine","Name":"host","Swarm":%s}`, cmp.Or(f.swarm, `{"NodeID":"node","NodeAddr":"192.0.2.1"}`))
		})
	case path == "/services" && f.services != "":
		f.with(func() { fmt.Fprint(w, f.services) })
	case path == "/containers/json":
		f.list(w, r.URL.Query().Get("all") != "")
	case path == "/networks":
		f.with(func() { answer(w, f.networks) })
	case path == "/events":
		f.stream(w, r)
	case strings.HasPrefix(path, "/containers/"):
		f.inspect(w, r, strings.Split(path, "/")[2])
	case strings.HasPrefix(path, "/images/") && f.imagesHang:
		<-r.Context().Done()
	default:
		f.t.Errorf("asked for %s, which the documentation does not list", path)
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (f *fakeEngine) list(w http.ResponseWriter, all bool) {
	f.mu.Lock()
	hold := f.hold
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	list := []container.Summary{}
	for id, c := range f.containers {
		if !all && !c.State.Running {
			continue
		}
		s := container.Summary{
			ID: id, Names: []string{c.Name}, State: c.State.Status, Status: fmt.Sprintf("Up %d seconds", f.lists),
			Labels: c.Config.Labels, NetworkSettings: &container.NetworkSettingsSummary{Networks: c.NetworkSettings.Networks},
		}
		if !c.State.Running {
			s.Status = fmt.Sprintf("Exited (%d) %d seconds ago", c.State.ExitCode, f.lists)
		}
		if h := c.State.Health; h != nil {
			s.Status += " (" + h.Status + ")"
		}
		list = append(list, s)
	}
	answer(w, list)
}

func (f *fakeEngine) inspect(w http.ResponseWriter, r *http.Request, id string) {
	f.mu.Lock()
	c := f.containers[id]
	name := ""
	if c != nil {
		name = strings.TrimPrefix(c.Name, "/")
		f.inspects[name]++
	}
	f.asked++
	f.mostAsked = max(f.mostAsked, f.asked)
	defer f.with(func() { f.asked-- })
	slow := f.slow[id]
	status, hang, gone, hold, late := f.failing[id], f.hanging[id], f.unlisted[id], f.holdInspect, f.holdAnswer
	f.mu.Unlock()
	if hold != nil {
		<-hold
	}
	time.Sleep(slow)
	switch {
	case c == nil || gone:
		http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
	case hang:
		<-r.Context().Done()
	case status != 0:
		http.Error(w, `{"message":"no"}`, status)
	default:
		known := httptest.NewRecorder()
		f.with(func() { answer(known, c) })
		if late != nil {
			<-late
		}
		_, _ = known.Body.WriteTo(w)
	}
}

func (f *fakeEngine) stream(w http.ResponseWriter, r *http.Request) {
	s := make(chan events.Message, 100)
	f.with(func() {
		f.since = append(f.since, r.URL.Query().Get("since"))
		f.streams = append(f.streams, s)
	})
	w.(http.Flusher).Flush()
	for {
		select {
		case m, open := <-s:
			if !open {
				return
			}
			answer(w, m)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// watch follows the engine's events; woken counts the wakes.
func (f *fakeEngine) watch(c *Client, change ...func(*WatchOptions)) (woken chan struct{}) {
	f.t.Helper()
	woken = make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	connected := make(chan struct{}, 100)
	opt := WatchOptions{
		RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond,
		Connected: func() { connected <- struct{}{} },
	}
	for _, f := range change {
		f(&opt)
	}
	go func() {
		defer close(done)
		c.Watch(ctx, opt, func() { woken <- struct{}{} })
	}()
	f.t.Cleanup(func() { cancel(); <-done })
	<-connected
	await(f.t, woken)
	return woken
}

func await(t *testing.T, woken <-chan struct{}) {
	t.Helper()
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody woke")
	}
}
