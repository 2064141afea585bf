//go:build real || soak

// Package soak disturbs a real Docker Engine, a real Consul server and registrator itself for as
// long as one likes, and holds the catalog against docker inspect whenever the dust has settled.
package soak

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// nodeOptions is one registrator's view of the engine.
type nodeOptions struct {
	name     string
	address  string // of published ports
	internal bool   // registers containers' own addresses
}

// world is an engine and a Consul server with two registrators in between: one registers published
// ports, the other the containers' own addresses.
type world struct {
	t       testing.TB
	engine  *testbed.Engine
	consul  *testbed.ConsulServer
	program string
	nodes   []*node
}

// node is one registrator that can be ended and started.
type node struct {
	nodeOptions
	w     *world
	log   *os.File
	cmd   *exec.Cmd
	ended chan error
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, engine: testbed.Docker(t, "--live-restore"), consul: testbed.Consul(t)}
	w.engine.Image("web")
	w.engine.Image("healthy", `HEALTHCHECK --interval=1s --timeout=2s --retries=1 CMD ["/web","-healthcheck"]`)
	w.engine.Image("sick", `HEALTHCHECK --interval=1s --timeout=2s --retries=1 CMD ["/web","-healthcheck","-listen",":9"]`)
	for i, network := range []string{"blue", "green"} {
		w.engine.Run("network", "create", "--subnet", fmt.Sprintf("10.6%d.0.0/24", 6+i), network)
	}
	w.program = build(t)
	for _, o := range []nodeOptions{{name: "published"}, {name: "internal", internal: true}} {
		o.address = w.engine.Address
		n := &node{nodeOptions: o, w: w}
		var err error
		if n.log, err = os.Create(filepath.Join(t.TempDir(), o.name+".log")); err != nil {
			t.Fatal(err)
		}
		n.start()
		w.nodes = append(w.nodes, n)
		t.Cleanup(func() {
			n.end(syscall.SIGTERM)
			text, err := os.ReadFile(n.log.Name())
			_ = n.log.Close()
			if err != nil || strings.Contains(string(text), "DATA RACE") || strings.Contains(string(text), "panic:") {
				t.Errorf("registrator %s raced, panicked or left no log: %v", o.name, err)
			}
			if t.Failed() {
				t.Logf("registrator %s said last:\n%s", o.name, text[max(0, len(text)-30000):])
			}
		})
	}
	return w
}

// build compiles registrator with the race detector.
func build(t testing.TB) string {
	program := filepath.Join(t.TempDir(), "registrator")
	cmd := exec.Command("go", "build", "-race", "-o", program, "./registrator")
	cmd.Dir = testbed.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build registrator: %v: %s", err, out)
	}
	return program
}

// start starts the registrator. It compares anew only every ten minutes, so that nothing it
// misses is mended before the checker sees it.
func (n *node) start() {
	args := []string{
		"--docker-host", n.w.engine.Host, "--consul-addr", n.w.consul.Addr, "--node-name", n.name, "--ip", n.address,
		"--http-addr", "off", "--resync", "10m", "--log-level", "debug",
	}
	if n.internal {
		args = append(args, "--internal", "--network", "blue")
	}
	cmd, ended := exec.Command(n.w.program, args...), make(chan error, 1)
	cmd.Stdout, cmd.Stderr = n.log, n.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		n.w.t.Errorf("start registrator %s: %v", n.name, err)
		return
	}
	go func() { ended <- cmd.Wait() }()
	n.cmd, n.ended = cmd, ended
}

// end sends a signal and waits for the end; only a killed one may end badly.
func (n *node) end(signal syscall.Signal) {
	if err := n.cmd.Process.Signal(signal); err != nil {
		n.w.t.Errorf("registrator %s ended by itself: %v", n.name, err)
	}
	select {
	case err := <-n.ended:
		if err != nil && signal != syscall.SIGKILL {
			n.w.t.Errorf("registrator %s ended with %v", n.name, err)
		}
	case <-time.After(20 * time.Second):
		n.w.t.Errorf("registrator %s did not end within 20 s of %s", n.name, signal)
		_ = n.cmd.Process.Kill()
		if err := <-n.ended; err == nil {
			n.w.t.Errorf("registrator %s ended well although it was killed", n.name)
		}
	}
}

// check holds the catalog against the engine, for both nodes.
func (w *world) check() error {
	inspect, err := w.inspect()
	if err != nil {
		return err
	}
	var faults []error
	for _, n := range w.nodes {
		want, err := expected(inspect, n.nodeOptions)
		if err != nil {
			return err
		}
		got, err := held(w.consul.Client, n.name)
		if err != nil {
			return err
		}
		faults = append(faults, differ(want, got))
	}
	return errors.Join(faults...)
}

// inspect is docker inspect of every container there is.
func (w *world) inspect() (string, error) {
	ids, err := w.docker("ps", "-aq", "--no-trunc")
	if err != nil || ids == "" {
		return "[]", err
	}
	return w.docker(append([]string{"inspect"}, strings.Fields(ids)...)...)
}

// docker runs the docker command; it may fail.
func (w *world) docker(args ...string) (string, error) {
	cmd := exec.Command(testbed.Program(w.t, "timeout"), append([]string{"30", testbed.Program(w.t, "docker")}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+w.engine.Host)
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("docker %q: %w", args, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// kinds are the containers of a soak, as arguments of docker create. All die at once when asked to.
var kinds = [][]string{
	{"-P", "web", "-abrupt"},
	{"-P", "-l", "SERVICE_NAME=shop", "-l", "SERVICE_TAGS=a,b", "-l", "SERVICE_REGION=eu", "-l", "fairway.host=shop.test", "web", "-abrupt"},
	{"-p", "8080", "-p", "8081", "web", "-abrupt"},
	{"-p", "8080", "-p", "53/udp", "web", "-abrupt"},
	{"-P", "healthy", "-abrupt"},
	{"-P", "sick", "-abrupt"},
	{"-P", "--restart", "always", "web", "-abrupt"},
	{"-P", "--network", "blue", "-l", "SERVICE_CHECK_HTTP=/healthz", "-l", "SERVICE_CHECK_INTERVAL=1s", "web", "-abrupt"},
	{"-p", "8080", "-p", "8082", "-l", "SERVICE_CHECK_HTTP=/healthz", "-l", "SERVICE_CHECK_INTERVAL=1s", "web", "-abrupt"},
	{"--network", "host", "web", "-listen", ":18080", "-abrupt"},
	{"--network", "none", "web", "-abrupt"},
	{"-P", "-l", "SERVICE_IGNORE=true", "web", "-abrupt"},
	{"web", "-abrupt"}, // publishes nothing
}

func create(name string, kind int) []string {
	return append([]string{"create", "--name", name}, kinds[kind%len(kinds)]...)
}
