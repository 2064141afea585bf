//go:build bench

package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
)

// wireEngine speaks Docker's wire protocol as far as registrator reads it, for a number of
// containers that do not exist. Hundreds of engines fit into one process this way.
type wireEngine struct {
	host string // DOCKER_HOST
	name string

	mu         sync.Mutex
	containers []*container.InspectResponse
	streams    map[chan events.Message]bool
}

func newWireEngine(t testing.TB, dir string, number, containers int) *wireEngine {
	t.Helper()
	name := fmt.Sprintf("node-%03d", number)
	socket := filepath.Join(dir, name)
	e := &wireEngine{host: "unix://" + socket, name: name, streams: map[chan events.Message]bool{}}
	for i := range containers {
		e.containers = append(e.containers, wireContainer(number, i))
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("engine %s: %v", name, err)
		}
	})
	return e
}

func wireContainer(node, number int) *container.InspectResponse {
	c := &container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{
			ID: fmt.Sprintf("%06x%06x%052x", node, number, 1), Name: fmt.Sprintf("/web-%d", number), Created: "2026-01-02T03:04:05.6Z",
			State:      &container.State{Status: "running", Running: true, StartedAt: "2026-01-02T03:04:06Z"},
			HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		},
		Config: &container.Config{
			Image: "web:1", Env: []string{fmt.Sprintf("SERVICE_NAME=web-%d", number), "SERVICE_TAGS=a,b"},
			Labels: map[string]string{"fairway.host": fmt.Sprintf("web-%d.test", number)}, ExposedPorts: nat.PortSet{"80/tcp": {}},
		},
		NetworkSettings: &container.NetworkSettings{
			Networks: map[string]*network.EndpointSettings{"bridge": {NetworkID: "n1", IPAddress: "172.17.0.2"}},
		},
	}
	c.NetworkSettings.Ports = nat.PortMap{"80/tcp": {{HostIP: "0.0.0.0", HostPort: strconv.Itoa(20000 + number)}}}
	return c
}

// ServeHTTP answers what registrator asks.
func (e *wireEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	path := r.URL.Path
	if rest, versioned := strings.CutPrefix(path, "/v1.41"); versioned {
		path = rest
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case path == "/_ping":
	case path == "/version":
		answer(w, map[string]string{"Version": "20.10.24", "ApiVersion": "1.41"})
	case path == "/info":
		answer(w, map[string]string{"ID": e.name, "Name": e.name})
	case path == "/containers/json":
		answer(w, e.list())
	case path == "/events":
		e.mu.Unlock()
		e.follow(w, r)
		e.mu.Lock()
	case strings.HasPrefix(path, "/containers/"):
		for _, c := range e.containers {
			if path == "/containers/"+c.ID+"/json" {
				answer(w, c)
				return
			}
		}
		http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
	default:
		http.Error(w, `{"message":"not part of this engine"}`, http.StatusNotFound)
	}
}

func (e *wireEngine) list() []container.Summary {
	list := make([]container.Summary, 0, len(e.containers))
	for _, c := range e.containers {
		s := container.Summary{ID: c.ID, Names: []string{c.Name}, State: c.State.Status, Status: "Up 2 hours", Labels: c.Config.Labels}
		if c.State.Paused {
			s.Status += " (Paused)"
		}
		s.NetworkSettings = &container.NetworkSettingsSummary{Networks: c.NetworkSettings.Networks}
		list = append(list, s)
	}
	return list
}

// toggle pauses a container, or unpauses it.
func (e *wireEngine) toggle(number int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[number]
	state := *c.State
	action := events.ActionPause
	if state.Paused = !state.Paused; state.Paused {
		state.Status = "paused"
	} else {
		state.Status, action = "running", events.ActionUnPause
	}
	c.State = &state
	for stream := range e.streams {
		select {
		case stream <- events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: c.ID}, TimeNano: time.Now().UnixNano()}:
		default: // its reader is a thousand behind, and will be cut
		}
	}
}

// paused counts containers.
func (e *wireEngine) paused() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.State.Paused {
			n++
		}
	}
	return n
}

func (e *wireEngine) follow(w http.ResponseWriter, r *http.Request) {
	stream := make(chan events.Message, 1000)
	e.mu.Lock()
	e.streams[stream] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.streams, stream)
		e.mu.Unlock()
	}()
	flush := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	for {
		if err := flush.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case m := <-stream:
			answer(w, m)
		}
	}
}

// answer writes JSON; a reader that is gone is no matter of ours.
func answer(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
