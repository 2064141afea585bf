//go:build cluster

package scripts

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// cluster runs ./cluster for one cluster of its own state folder.
type cluster struct {
	t     *testing.T
	name  string
	state string
}

// newCluster brings a cluster up; it is taken down with the test.
func newCluster(t *testing.T, name string, up ...string) *cluster {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("scripts/cluster makes network namespaces: run this test as root")
	}
	// Not t.TempDir: its path is too long for a socket's.
	c := &cluster{t: t, name: name, state: "/var/lib/fairway-cluster-test"}
	c.do("down") // what an interrupted run left
	t.Cleanup(func() { c.do("down") })
	c.do("up", up...)
	return c
}

func (c *cluster) try(verb string, args ...string) (string, error) {
	cmd := exec.Command("./cluster", append([]string{"--name", c.name, verb}, args...)...)
	cmd.Env = append(os.Environ(), "FAIRWAY_CLUSTER_STATE="+c.state)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("cluster %s %s %q: %w: %s", c.name, verb, args, err, out)
	}
	return string(bytes.TrimSpace(out)), err
}

func (c *cluster) do(verb string, args ...string) string {
	c.t.Helper()
	out, err := c.try(verb, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// dial opens a connection to a port of a host.
func (c *cluster) dial(host, port string) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(c.do("ip", host), port), 500*time.Millisecond)
	if err == nil {
		err = conn.Close()
	}
	return err
}

// TestCluster takes two clusters side by side through what they are for.
func TestCluster(t *testing.T) {
	t.Run("article", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, "script-a")
		c.standsAsTheArticleSays()
		c.cutAndHeal()
		c.stopAndStart()
		c.do("up") // nothing to do, nothing broken
		c.do("status")
		c.leavesNothing()
	})
	t.Run("larger", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, "script-b", "--consul-servers", "3", "--extra-nodes", "1")
		if out := c.do("consul", "operator", "raft", "list-peers"); strings.Count(out, "true") < 3 {
			t.Errorf("want three voting Consul servers:\n%s", out)
		}
		c.wantNodes("app-server-1", "app-server-2", "cluster-master", "db-1", "frontend")
		if _, err := c.try("up", "--consul-servers", "5"); err == nil {
			t.Error("up changed the number of Consul servers of a cluster that stands")
		}
		c.leavesNothing()
	})
}

func (c *cluster) wantNodes(want ...string) {
	c.t.Helper()
	got := strings.Fields(c.do("docker", "cluster-master", "node", "ls", "--format", "{{.Hostname}}"))
	seen := map[string]bool{}
	for _, node := range got {
		seen[node] = true
	}
	for _, node := range want {
		if !seen[node] {
			c.t.Errorf("node %s is not in the Swarm: %q", node, got)
		}
	}
	if len(got) != len(want) {
		c.t.Errorf("want the nodes %q, got %q", want, got)
	}
}

func (c *cluster) standsAsTheArticleSays() {
	c.t.Helper()
	c.wantNodes("app-server-1", "cluster-master", "db-1", "frontend")
	if got := c.do("docker", "cluster-master", "node", "inspect", "--format", "{{.Spec.Labels.instance}}", "frontend"); got != "entrypoint" {
		c.t.Errorf("frontend's label instance is %q", got)
	}
	// Containers find their own engine at the usual place, and hosts are machines to themselves.
	if got := c.do("exec", "db-1", "curl", "-s", "--unix-socket", "/var/run/docker.sock", "http://docker/info"); !strings.Contains(got, `"Name":"db-1"`) {
		c.t.Errorf("the engine at db-1's /var/run/docker.sock says %q", got)
	}
	if got := c.do("exec", "db-1", "hostname"); got != "db-1" {
		c.t.Errorf("db-1 calls itself %q", got)
	}
	ids := map[string]bool{}
	for _, host := range []string{"cluster-master", "frontend", "app-server-1", "db-1"} {
		ids[c.do("docker", host, "info", "--format", "{{.ID}}")] = true
	}
	if len(ids) != 4 {
		c.t.Errorf("four engines share %d identities", len(ids))
	}
	if _, err := c.try("exec", "frontend", "sh", "-c", "exit 7"); exitCode(err) != 7 {
		c.t.Errorf("exec does not pass on the exit code: %v", err)
	}
}

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

func (c *cluster) cutAndHeal() {
	c.t.Helper()
	c.do("cut", "consul")
	if err := c.dial("consul", "8500"); err == nil {
		c.t.Error("a host that was cut off still answers")
	}
	if _, err := c.try("status"); exitCode(err) != 1 {
		c.t.Errorf("status of a cluster with a cut cable: %v", err)
	}
	c.do("heal", "consul")
	testbed.Eventually(c.t, 5*time.Second, "consul answers when healed", func() error { return c.dial("consul", "8500") })
}

func (c *cluster) stopAndStart() {
	c.t.Helper()
	c.do("consul", "kv", "put", "kept", "on disk")
	id := c.do("docker", "db-1", "info", "--format", "{{.ID}}")
	c.do("stop", "consul", "db-1")
	if err := c.dial("consul", "8500"); err == nil {
		c.t.Error("a host without power still answers")
	}
	if _, err := c.try("docker", "db-1", "info"); err == nil {
		c.t.Error("the engine of a host without power still answers")
	}
	c.do("start", "consul", "db-1")
	testbed.Eventually(c.t, 20*time.Second, "consul has kept its data", func() error {
		if got, err := c.try("consul", "kv", "get", "kept"); got != "on disk" {
			return fmt.Errorf("got %q: %w", got, err)
		}
		return nil
	})
	if got := c.do("docker", "db-1", "info", "--format", "{{.ID}}"); got != id {
		c.t.Errorf("db-1's engine was %s and is %s", id, got)
	}
	testbed.Eventually(c.t, 60*time.Second, "db-1 is ready again", func() error {
		if got := c.do("docker", "cluster-master", "node", "inspect", "--format", "{{.Status.State}}", "db-1"); got != "ready" {
			return errors.New(got)
		}
		return nil
	})
}

// leavesNothing takes the cluster down and looks where it has been.
func (c *cluster) leavesNothing() {
	c.t.Helper()
	base := strings.TrimSuffix(c.do("ip", "gateway"), "1")
	c.do("down")
	for what, command := range map[string]string{
		"network namespaces": "ip netns list | grep -F 'fairway." + c.name + ".'",
		"addresses":          "ip -4 addr | grep -F ' " + base + "'",
		"iptables rules":     "iptables -S | grep -F 'fairway cluster " + c.name + "'",
		"cgroups":            "find /sys/fs/cgroup -type d -name 'fairway." + c.name + "' | grep .",
		"mounts":             "grep -F " + filepath.Join(c.state, c.name) + " /proc/mounts",
		"files":              "ls -d " + filepath.Join(c.state, c.name),
		"processes":          "ps -eo args | grep -F " + filepath.Join(c.state, c.name) + "/ | grep -v grep",
	} {
		if out, err := exec.Command("sh", "-c", command).Output(); err == nil {
			c.t.Errorf("down left %s:\n%s", what, out)
		}
	}
}
