package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// ConsulServer is a real Consul server on loopback: a server only, as in the article, so that no
// agent owns any node but its own. Agent and ConsulACL start others of its kind.
type ConsulServer struct {
	Addr   string // "127.0.0.1:port" of its HTTP API
	Client *api.Client
	Token  string // that Client has; "" without ACLs

	t      testing.TB
	node   string
	serf   int // port of its gossip, for agents that join
	dir    string
	args   []string
	output Log
	proc   *process
}

// consulPath finds the Consul binary: $FAIRWAY_CONSUL, PATH, or the one scripts/get-consul built.
func consulPath(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("FAIRWAY_CONSUL"); path != "" {
		return path
	}
	if path, err := exec.LookPath("consul"); err == nil {
		return path
	}
	path := filepath.Join(Root(), "bin", "consul")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no consul in $FAIRWAY_CONSUL, on PATH or at bin/consul: run scripts/get-consul")
	}
	return path
}

// Consul starts a server that ends with the test. args are added to its command line.
func Consul(t testing.TB, args ...string) *ConsulServer {
	t.Helper()
	return startConsul(t, "consul-server", "", append([]string{"-server", "-bootstrap"}, args...)...)
}

// ConsulServers starts a cluster of n servers that ends with the test. args are added to the command
// line of each.
func ConsulServers(t testing.TB, n int, args ...string) []*ConsulServer {
	t.Helper()
	var servers []*ConsulServer
	gossip := Port(t)
	join := []string{"-server", fmt.Sprintf("-bootstrap-expect=%d", n), fmt.Sprintf("-retry-join=127.0.0.1:%d", gossip), "-retry-interval=1s"}
	for i := range n {
		s := newConsul(t, fmt.Sprintf("consul-server-%d", i+1), "", gossip, append(join, args...))
		s.launch() // none has a leader before all run
		servers = append(servers, s)
		gossip = Port(t)
	}
	for _, s := range servers {
		s.await()
	}
	return servers
}

// startConsul starts a server or an agent called node, whose Client has a token or none.
func startConsul(t testing.TB, node, token string, args ...string) *ConsulServer {
	t.Helper()
	s := newConsul(t, node, token, Port(t), args)
	s.Start()
	return s
}

// newConsul prepares a server or an agent that is not started yet.
func newConsul(t testing.TB, node, token string, gossip int, args []string) *ConsulServer {
	t.Helper()
	http := Port(t)
	s := &ConsulServer{
		Addr: fmt.Sprintf("127.0.0.1:%d", http), Token: token,
		t: t, node: node, serf: gossip, dir: tempDir(t, "fairway-consul-"),
	}
	config := fmt.Sprintf(`{
  "ports": {"http": %d, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1, "serf_lan": %d, "server": %d},
  "performance": {"raft_multiplier": 1}, "disable_update_check": true, "log_level": "warn",
  "limits": {"http_max_conns_per_client": 200}
}`, http, gossip, Port(t))
	path := filepath.Join(s.dir, "test.json")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.args = append([]string{
		"agent", "-node", node, "-bind", "127.0.0.1",
		"-client", "127.0.0.1", "-data-dir", filepath.Join(s.dir, "data"), "-config-file", path,
	}, args...)
	client, err := api.NewClient(&api.Config{Address: s.Addr, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	s.Client = client
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("consul said:\n%s", s.output.tail())
		}
	})
	return s
}

// Start starts the server, again with the same port and data, and waits for its leader.
func (s *ConsulServer) Start() {
	s.t.Helper()
	s.launch()
	s.await()
}

// PID is the process id of a server that runs.
func (s *ConsulServer) PID() int { return s.proc.cmd.Process.Pid }

func (s *ConsulServer) launch() {
	s.t.Helper()
	s.proc = startProcess(s.t, &s.output, consulPath(s.t), s.args...)
}

// await waits until the server knows its leader and itself.
func (s *ConsulServer) await() {
	s.t.Helper()
	Eventually(s.t, 30*time.Second, "consul elects itself", func() error {
		if err := s.proc.err(); err != nil {
			s.t.Fatalf("%v: %s", err, s.output.tail())
		}
		leader, err := s.Client.Status().Leader()
		if err == nil && leader == "" {
			err = errors.New("no leader yet")
		}
		if err != nil {
			return err
		}
		// The leader answers for certain only when it has registered its own node.
		nodes, _, err := s.Client.Catalog().Nodes(&api.QueryOptions{RequireConsistent: true})
		if err == nil && !slices.ContainsFunc(nodes, func(n *api.Node) bool { return n.Node == s.node }) {
			err = errors.New("not in its own catalog yet")
		}
		return err
	})
}

// Stop ends the server at once, as a crash does. It may be started again.
func (s *ConsulServer) Stop() {
	if s.proc != nil {
		s.proc.stop(syscall.SIGKILL, 5*time.Second)
		s.proc = nil
	}
}

// Hang freezes the server: connections stay open and nothing answers, until Resume.
func (s *ConsulServer) Hang() { s.signal(syscall.SIGSTOP) }

// Resume ends Hang.
func (s *ConsulServer) Resume() { s.signal(syscall.SIGCONT) }

func (s *ConsulServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.proc.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Wipe restarts the server with an empty catalog on the same port.
func (s *ConsulServer) Wipe() {
	s.t.Helper()
	s.Stop()
	if err := os.RemoveAll(filepath.Join(s.dir, "data")); err != nil {
		s.t.Fatal(err)
	}
	s.Start()
}
