//go:build real

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/internal/testbed"
	"fairway/registrator/docker"
	"fairway/registrator/liveness"
	"fairway/registrator/service"
)

const (
	testNode = "hostname"
	testIP   = "192.168.1.102"
	soon     = 10 * time.Second
)

// world is one Docker Engine and one Consul server, with a registrator in between.
type world struct {
	t      *testing.T
	engine *testbed.Engine
	consul *testbed.ConsulServer
	log    *testbed.Log
	admin  string // address of the admin listener of the registrator that runs
}

func newWorld(t *testing.T, dockerd ...string) *world {
	t.Helper()
	w := &world{t: t, engine: testbed.Docker(t, dockerd...), consul: testbed.Consul(t), log: &testbed.Log{}}
	w.engine.Image("web")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("registrator said:\n%s", w.log.String())
		}
	})
	return w
}

// sub runs a subtest in the same world.
func (w *world) sub(name string, f func(t *testing.T, w *world)) {
	w.t.Run(name, func(t *testing.T) {
		same := *w
		same.t = t
		f(t, &same)
	})
}

func (w *world) options() Options {
	o := Options{
		Service:  service.Defaults(),
		Docker:   docker.Options{Host: w.engine.Host},
		Consul:   consul.Config{Addresses: []string{w.consul.Addr}},
		NodeName: testNode, IP: testIP,
		Resync: time.Minute, SessionTTL: liveness.MinTTL, ReapAfter: time.Hour,
	}
	return o
}

// start runs a registrator; the returned function ends it as SIGTERM does and returns what run
// returned. It is ended with the test at the latest.
func (w *world) start(change ...func(*Options)) (stop func() error) {
	w.t.Helper()
	opt := w.options()
	for _, f := range change {
		f(&opt)
	}
	d := daemon.ForTest(hclog.New(&hclog.LoggerOptions{Name: "registrator", Level: hclog.Debug, Output: w.log}), "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, opt, d) }()
	addr, err := d.Addr(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.admin = addr.String()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	w.t.Cleanup(func() {
		if err := stop(); err != nil {
			w.t.Errorf("registrator: %v", err)
		}
	})
	return stop
}

func (w *world) ready() {
	w.t.Helper()
	testbed.Eventually(w.t, 2*soon, "registrator is ready", func() error {
		text, err := w.readyz()
		if err == nil && strings.Count(text, ": ok\n") != strings.Count(text, "\n") {
			err = errors.New(text)
		}
		return err
	})
}

func (w *world) readyz() (string, error) {
	resp, err := http.Get("http://" + w.admin + "/readyz")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func discard() hclog.Logger { return hclog.NewNullLogger() }

// kill ends a process on this machine: one of a container that its engine does not look after.
func (w *world) kill(pid string) {
	w.t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		w.t.Fatalf("no process id: %q", pid)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
}

// metrics reads all of registrator's numbers.
func (w *world) metrics() string {
	w.t.Helper()
	resp, err := http.Get("http://" + w.admin + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// metric reads one of registrator's numbers.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	all := w.metrics()
	for line := range strings.SplitSeq(all, "\n") {
		var value float64
		if rest, found := strings.CutPrefix(line, "fairway_registrator_"+name+" "); found {
			if _, err := fmt.Sscan(rest, &value); err != nil {
				w.t.Fatal(err)
			}
			return value
		}
	}
	w.t.Fatalf("no metric %s in:\n%s", name, all)
	return 0
}

// wakesInVain has a container cause events that wake registrator and change nothing, and waits for
// the passes that follow.
func (w *world) wakesInVain(container string) {
	w.t.Helper()
	passes := w.metric("passes_total")
	for range 5 {
		w.engine.Run("kill", "-s", "USR1", container)
	}
	testbed.Eventually(w.t, soon, "passes were made", func() error {
		if w.metric("passes_total") < passes+2 {
			return errors.New("not yet")
		}
		return nil
	})
	w.quiet()
}

// rows reads our node as "id" → "status: output"; rows of other nodes are not looked at.
func (w *world) rows() (map[string]string, error) {
	list, _, err := w.consul.Client.Catalog().NodeServiceList(testNode, nil)
	if err != nil {
		return nil, err
	}
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		return nil, err
	}
	rows := map[string]string{}
	for _, s := range list.Services {
		rows[s.ID] = "no check"
	}
	for _, c := range checks {
		if _, known := rows[c.ServiceID]; known {
			rows[c.ServiceID] = c.Status + ": " + c.Output
		} else if c.ServiceID != "" {
			return nil, fmt.Errorf("check %s of no service", c.CheckID)
		}
	}
	return rows, nil
}

// same reports how the rows differ from what is wanted.
func (w *world) same(want map[string]string) error {
	got, err := w.rows()
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("rows (-want +got):\n%s", diff)
	}
	return nil
}

// is waits until our node holds exactly these rows.
func (w *world) is(want map[string]string) {
	w.t.Helper()
	testbed.Eventually(w.t, soon, "the catalog holds the rows", func() error { return w.same(want) })
}

// row waits until one row is as wanted; "" means that it is gone.
func (w *world) row(id, want string) {
	w.t.Helper()
	w.rowWithin(soon, id, want)
}

func (w *world) rowWithin(within time.Duration, id, want string) {
	w.t.Helper()
	testbed.Eventually(w.t, within, "row "+id, func() error {
		rows, err := w.rows()
		if err == nil && rows[id] != want {
			err = fmt.Errorf("is %q, want %q (all: %q)", rows[id], want, slices.Sorted(maps.Keys(rows)))
		}
		return err
	})
}

// never fails the test when bad returns an error within d.
func (w *world) never(d time.Duration, what string, bad func() error) {
	w.t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-tick.C:
			if err := bad(); err != nil {
				w.t.Fatalf("%s: %v", what, err)
			}
		}
	}
}

func id(container string) string { return testNode + ":" + container + ":8080" }

const passing = "passing: running"

// run starts a container of the web image with a random published port.
func (w *world) run(name string, args ...string) string {
	w.t.Helper()
	return w.engine.Run(append([]string{"run", "-d", "-P", "--name", name}, args...)...)
}

// published asks Docker for the host port of a container.
func (w *world) published(name string) int {
	w.t.Helper()
	out := w.engine.Run("port", name, "8080/tcp")
	line, _, _ := strings.Cut(out, "\n")
	var port int
	if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ':')+1:], &port); err != nil {
		w.t.Fatalf("docker port %s: %q: %v", name, out, err)
	}
	return port
}

func (w *world) service(id string) *api.AgentService {
	w.t.Helper()
	list, _, err := w.consul.Client.Catalog().NodeServiceList(testNode, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range list.Services {
		if s.ID == id {
			return s
		}
	}
	text, _ := json.Marshal(list.Services)
	w.t.Fatalf("no service %s in %s", id, text)
	return nil
}
