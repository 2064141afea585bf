package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
	"fairway/registrator/docker"
	"fairway/registrator/service"
)

// TestSwarmView_C114_withoutALeader: a manager that cannot tell of its services reads what was shared
// of them before, also when registrator starts only now.
func TestSwarmView_C114_withoutALeader(t *testing.T) {
	var state atomic.Value // string
	state.Store(`{"LocalNodeState":"inactive"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("API-Version", "1.41")
		if strings.HasSuffix(r.URL.Path, "/info") {
			fmt.Fprintf(w, `{"Name":"n","Swarm":%s}`, state.Load())
		}
	}))
	defer server.Close()
	engine, err := docker.New(docker.Options{Host: "tcp://" + server.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	d := daemon.ForTest(hclog.New(&hclog.LoggerOptions{Output: &testbed.Log{}}), "")
	v := newSwarmView(engine, nil, service.ByTask, func() {}, d)
	reads := func() bool {
		select {
		case <-v.joined:
			return true
		default:
			return false
		}
	}
	if err := v.look(t.Context()); err != nil || reads() {
		t.Errorf("outside a Swarm: %v, reads %t", err, reads())
	}
	state.Store(`{"NodeID":"x","LocalNodeState":"active","ControlAvailable":true,"Error":"no leader"}`)
	if err := v.look(t.Context()); err == nil || !reads() {
		t.Errorf("on a manager without a leader: %v, reads %t", err, reads())
	}
}
