//go:build cluster

// Package acceptance deploys the examples on a real Swarm of several nodes beside a real Consul
// server, and does to it what operators and accidents do.
package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/load"
	"fairway/internal/testbed"
)

// appNodes are the nodes that the web service runs on: all but the front end.
var appNodes = []string{"app-server-1", "cluster-master", "db-1"}

// cluster is one cluster of scripts/cluster.
type cluster struct {
	t      *testing.T
	name   string
	consul *api.Client
	env    []string // what the stack files read
}

// newCluster brings a cluster up with every image on every node. It is taken down with the test.
func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	c := prepareCluster(t, name)
	c.load(imageCommands(), images...)
	return c
}

// prepareCluster brings a cluster up, without images. It is taken down with the test.
func prepareCluster(t *testing.T, name string, options ...string) *cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the cluster tests make network namespaces: run them as root")
	}
	c := &cluster{t: t, name: name}
	t.Cleanup(func() { c.script("down") })
	c.script(append([]string{"up"}, options...)...)
	c.consul = c.consulAt("consul")
	c.env = []string{
		"CONSUL_HTTP_ADDR=" + c.address("consul") + ":8500",
		"HAPROXY_IMAGE=fairway-test/haproxy:debian",
		"CONFGEN_STATS_USER=operator", "CONFGEN_STATS_PASSWORD=secret",
	}
	return c
}

// images are what the stacks are made of; the proxies' come from this machine's own programs.
var images = []string{"fairway/registrator", "fairway/confgen", "fairway/web", "fairway-test/haproxy:debian", "fairway/nginx"}

// build compiles what goes into the images, once for all clusters.
var build = sync.OnceValue(func() error {
	return output(exec.Command("make", "--no-print-directory", "build-linux", "ARCHS="+runtime.GOARCH))
})

// consulAt speaks to one of the Consul servers.
func (c *cluster) consulAt(host string) *api.Client {
	c.t.Helper()
	client, err := api.NewClient(&api.Config{Address: c.address(host) + ":8500"})
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// load makes images on the manager and copies them to every node.
func (c *cluster) load(commands [][]string, images ...string) {
	c.t.Helper()
	if err := build(); err != nil {
		c.t.Fatal(err)
	}
	engine := c.script("env", "cluster-master")
	for _, args := range commands {
		if err := inModule(append(os.Environ(), engine), args...); err != nil {
			c.t.Fatal(err)
		}
	}
	_, host, _ := strings.Cut(engine, "=")
	c.script(append([]string{"load", "--from", host}, images...)...)
}

// script runs scripts/cluster and returns what it printed, trimmed.
func (c *cluster) script(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("scripts/cluster %q: %v", args, err)
	}
	return out
}

func (c *cluster) try(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(testbed.Root(), "scripts", "cluster"), append([]string{"--name", c.name}, args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s%s", err, out, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

// docker runs the docker command on a host.
func (c *cluster) docker(host string, args ...string) string {
	c.t.Helper()
	return c.script(append([]string{"docker", host}, args...)...)
}

func (c *cluster) address(host string) string { return c.script("ip", host) }

// web is the URL of the front end's public listener.
func (c *cluster) web() string { return "http://" + c.address("frontend") + ":80" }

// deploy deploys a stack file. The stack ends with its cluster.
func (c *cluster) deploy(file string) {
	c.t.Helper()
	c.docker("cluster-master", "stack", "deploy", "--resolve-image", "never",
		"-c", filepath.Join(testbed.Root(), "examples", file), "fairway")
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.tell()
		}
	})
}

// tell logs what helps to understand a failure.
func (c *cluster) tell() {
	for _, args := range [][]string{
		{"status"},
		{"docker", "cluster-master", "service", "ls"},
		{"docker", "cluster-master", "stack", "ps", "--no-trunc", "fairway"},
		{"docker", "cluster-master", "service", "logs", "--tail", "40", "fairway_registrator"},
		{"docker", "cluster-master", "service", "logs", "--tail", "40", "fairway_confgen"},
		{"docker", "cluster-master", "service", "logs", "--tail", "20", "fairway_haproxy"},
		{"docker", "cluster-master", "service", "logs", "--tail", "60", "fairway_nginx"},
	} {
		cmd := exec.Command(filepath.Join(testbed.Root(), "scripts", "cluster"), append([]string{"--name", c.name}, args...)...)
		out, err := cmd.CombinedOutput() // containers log to standard error
		c.t.Logf("%q: %v\n%s", args, err, out)
	}
}

// scale changes the number of web containers and returns when Swarm has told its nodes.
func (c *cluster) scale(n int) {
	c.t.Helper()
	c.docker("cluster-master", "service", "scale", "--detach", fmt.Sprintf("fairway_web=%d", n))
}

// get asks the front end once, over a connection of its own, and returns who served it.
func (c *cluster) get(host, path string) (status int, servedBy string, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.web()+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("X-Served-By"), nil
}

// stats asks for HAProxy's page and returns the status.
func (c *cluster) stats(user, password string) int {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.web()+"/haproxy?stats", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if password != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// container is one running container of the web service.
type container struct{ node, id string }

// containers lists what Docker itself says is running.
func (c *cluster) containers(service string) []container {
	c.t.Helper()
	var found []container
	for _, host := range append([]string{"frontend"}, appNodes...) {
		out, err := c.try("docker", host, "ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=fairway_"+service)
		if err != nil {
			continue // powered off
		}
		for id := range strings.FieldsSeq(out) {
			found = append(found, container{node: host, id: id})
		}
	}
	return found
}

// answersFrom waits until exactly n containers answer for the host, each from a node of its own,
// and nobody else does.
func (c *cluster) answersFrom(n int) {
	c.t.Helper()
	testbed.Eventually(c.t, 2*time.Minute, fmt.Sprintf("%d containers answer", n), func() error {
		return exactly(n, func() (string, error) {
			status, by, err := c.get("cluster.test", "/")
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d served by %q", status, by)
			}
			return by, err
		})
	})
}

// truth checks that Consul says what Docker says: as many passing instances of the web service as
// run, on the nodes they run on, and every Docker node in the catalog.
func (c *cluster) truth() {
	c.t.Helper()
	testbed.Eventually(c.t, time.Minute, "the catalog tells the truth", func() error {
		var want, got []string
		for _, r := range c.containers("web") {
			want = append(want, r.node)
		}
		entries, _, err := c.consul.Health().Service("fairway_web", "", true, nil)
		if err != nil {
			return err
		}
		for _, e := range entries {
			got = append(got, e.Node.Node)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return fmt.Errorf("web runs on %v, Consul has it passing on %v", want, got)
		}
		return nil
	})
	names := c.script("consul", "catalog", "services")
	if !slices.Contains(strings.Fields(names), "fairway_web") {
		c.t.Errorf("consul catalog services:\n%s", names)
	}
	nodes := c.script("consul", "catalog", "nodes")
	for _, host := range append([]string{"frontend"}, appNodes...) {
		if !strings.Contains(nodes, host) {
			c.t.Errorf("consul catalog nodes without %s:\n%s", host, nodes)
		}
	}
}

// under runs what under a steady load of clients that never retry and returns what they counted.
// The load begins a second before and ends settle after; keepAlive clients keep their connections,
// four others open one for each request. They ask for an answer that a server writes at once: what
// a killed server has half written, no front end can complete.
func (c *cluster) under(keepAlive int, what func(), settle time.Duration) load.Report {
	c.t.Helper()
	run, err := load.Start(c.t.Context(), load.Options{
		Address: c.address("frontend") + ":80", Host: "cluster.test", Path: "/slow?ms=1",
		KeepAlive: keepAlive, NewConn: 4, Rate: 400, Timeout: 10 * time.Second,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	wait(c.t, time.Second)
	what()
	wait(c.t, settle)
	return run.Stop()
}

// lossless fails the test when a request of the report failed.
func lossless(t *testing.T, what string, r load.Report) {
	t.Helper()
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s:\n%s", what, text.String())
	if r.Failed > 0 || r.Requests == 0 {
		t.Errorf("%s: %d of %d requests failed", what, r.Failed, r.Requests)
	}
}

// wait lets time pass for the cluster; the clock is part of what is tested.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(errors.New("test ended"))
	}
}

// exactly asks often enough to see whether n answer, and no more.
func exactly(n int, ask func() (string, error)) error {
	seen := map[string]bool{}
	for range 4 * max(n, 1) {
		by, err := ask()
		if err != nil {
			return err
		}
		seen[by] = true
	}
	if len(seen) != n || seen[""] {
		return fmt.Errorf("answers of %v", seen)
	}
	return nil
}

// imageCommands make the images of every example in the engine that docker talks to.
func imageCommands() [][]string {
	return [][]string{
		{"scripts/images", "linux/" + runtime.GOARCH},
		{"scripts/proxy-image", "haproxy"},
		{"scripts/proxy-image", "nginx"},
		{"docker", "build", "-t", "fairway/nginx", "--build-arg", "NGINX_IMAGE=fairway-test/nginx:debian", "examples/nginx"},
	}
}

// inModule runs a program, or a script by its path in the module, in the module's folder.
func inModule(env []string, args ...string) error {
	name := args[0]
	if path := filepath.Join(testbed.Root(), name); filepath.Dir(name) != "." {
		name = path
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Env = env
	return output(cmd)
}

// output runs cmd in the module's folder; its error carries what it printed.
func output(cmd *exec.Cmd) error {
	cmd.Dir = testbed.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}
