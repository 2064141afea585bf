//go:build cluster

package acceptance

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// sessionTTL is that of the registrators of TestSwarm, the shortest that Consul allows.
const sessionTTL = 10 * time.Second

// TestSwarm is what the parts of a Swarm do to the catalog, without a front end: labels of services on
// workers, the routing mesh, managers that come and go, and nodes that fall silent. Its Consul has
// three servers, one of which is lost on the way. Each step begins with what the last one left.
func TestSwarm(t *testing.T) {
	t.Parallel()
	c := prepareCluster(t, fmt.Sprintf("accept-swarm-%d", os.Getpid()), "--consul-servers", "3")
	c.load([][]string{{"scripts/images", "linux/" + runtime.GOARCH}}, "fairway/registrator", "fairway/web")
	t.Cleanup(func() {
		if t.Failed() {
			c.tell()
		}
	})
	servers := []string{}
	for _, host := range []string{"consul", "consul-2", "consul-3"} {
		servers = append(servers, c.address(host)+":8500")
	}
	c.docker("cluster-master", "service", "create", "--detach", "--quiet", "--name", "fairway_registrator", "--mode", "global",
		"--no-resolve-image", "--user", "0:0", "--network", "host", "--env", "CONSUL_HTTP_ADDR="+strings.Join(servers, ","),
		"--mount", "type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock,readonly",
		"--restart-delay", "500ms", "fairway/registrator", "--session-ttl", sessionTTL.String())
	step := func(name string, do func(c *cluster)) {
		if t.Failed() {
			return // what follows stands on this
		}
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			do(&cluster{t: t, name: c.name, consul: c.consul, env: c.env})
			t.Logf("took %s", time.Since(began).Round(time.Millisecond))
		})
	}
	workers := []string{"app-server-1", "db-1"}

	step("C108 C111 C115 labels and the mesh's ports on workers", func(c *cluster) {
		c.docker("cluster-master", "service", "create", "--detach", "--quiet", "--name", "shop", "--replicas", "2", "--no-resolve-image",
			"--constraint", "node.role==worker", "--constraint", "node.labels.instance!=entrypoint", "--replicas-max-per-node", "1",
			"--publish", "published=8080,target=8080", "--restart-delay", "500ms",
			"--label", "fairway.host=service.test", "--container-label", "fairway.host=container.test", "--container-label", "fairway.path=/shop",
			"fairway/web", "-drain", "500ms")
		c.shop(workers, "service.test")
	})
	step("C111 a changed label", func(c *cluster) {
		c.docker("cluster-master", "service", "update", "--detach", "--quiet", "--label-add", "fairway.host=changed.test", "shop")
		c.shop(workers, "changed.test")
	})
	step("C116 ignored on every node", func(c *cluster) {
		c.docker("cluster-master", "service", "update", "--detach", "--quiet", "--label-add", "SERVICE_IGNORE=true", "shop")
		c.shop(nil, "")
		c.docker("cluster-master", "service", "update", "--detach", "--quiet", "--label-rm", "SERVICE_IGNORE", "shop")
		c.shop(workers, "changed.test")
	})
	step("C107 C109 C110 C115 each task where it can be reached, on workers and the manager", func(c *cluster) {
		c.docker("cluster-master", "network", "create", "--driver", "overlay", "inner")
		c.docker("cluster-master", "network", "create", "--driver", "overlay", "other")
		tasks := map[string][]string{
			"hosted": {"--publish", "mode=host,target=8080"},
			"vip":    {"--network", "other", "--network", "inner", "--container-label", "fairway.network=inner"},
			"dnsrr":  {"--network", "other", "--network", "inner", "--container-label", "fairway.network=inner", "--endpoint-mode", "dnsrr"},
		}
		for name, args := range tasks {
			c.docker("cluster-master", slices.Concat([]string{
				"service", "create", "--detach", "--quiet", "--name", "fairway_" + name,
				"--mode", "global", "--constraint", "node.labels.instance!=entrypoint", "--no-resolve-image",
			}, args,
				[]string{"fairway/web", "-drain", "100ms"})...)
		}
		for name := range tasks {
			c.reachable(name)
			c.docker("cluster-master", "service", "rm", "fairway_"+name)
		}
		for name := range tasks {
			testbed.Eventually(c.t, time.Minute, name+" is gone", func() error {
				entries, _, err := c.consul.Catalog().Service("fairway_"+name, "", nil)
				if err == nil && len(entries) > 0 {
					err = fmt.Errorf("%d instances", len(entries))
				}
				return err
			})
		}
	})
	step("C114 the only manager hands over and is demoted", func(c *cluster) {
		// The frontend has no task of shop, so that none moves with the roles.
		c.steady(workers, func() {
			c.docker("cluster-master", "node", "promote", "frontend")
			c.role("cluster-master", "frontend", "reachable")
			c.insist("frontend", "node", "demote", "cluster-master")
			c.role("frontend", "cluster-master", "")
		})
		c.insist("frontend", "service", "update", "--detach", "--quiet", "--label-add", "fairway.host=handed.test", "shop")
		c.shop(workers, "handed.test")
		c.insist("frontend", "node", "promote", "cluster-master")
		c.role("frontend", "cluster-master", "reachable")
	})
	step("a node is drained, registrator with its neighbours", func(c *cluster) {
		c.insist("cluster-master", "node", "update", "--availability", "drain", "db-1")
		testbed.Within(c.t, sessionTTL, "nothing passes on it", func() error { return c.silent("db-1") })
		wait(c.t, 2*sessionTTL) // nor when its session has run out, and those that stay are as they were
		if err := c.silent("db-1"); err != nil {
			c.t.Error(err)
		}
		if err := c.silent("app-server-1"); err == nil {
			c.t.Error("nothing passes on the other worker")
		}
		c.insist("cluster-master", "node", "update", "--availability", "active", "db-1")
		c.shop(workers, "handed.test")
	})
	leader := c.leader()
	c.consul = c.consulAt([]string{"consul", "consul-2"}[map[bool]int{true: 1}[leader == "consul"]])
	step("C103 a lost leader of Consul is no alarm", func(c *cluster) {
		c.steady(workers, func() {
			c.script("stop", leader)
			wait(c.t, 2*sessionTTL)
		})
	})
	step("C103 a node loses power", func(c *cluster) {
		cut := time.Now()
		c.script("stop", "db-1")
		testbed.Within(c.t, 3*sessionTTL, "its services stop passing", func() error { return c.silent("db-1") })
		if took := time.Since(cut); took > 2*sessionTTL+2*time.Second {
			c.t.Errorf("non-passing %s after the cut, want twice the session's %s at most", took, sessionTTL)
		} else {
			c.t.Logf("non-passing %s after the cut", took.Round(time.Millisecond))
		}
		if err := c.silent("app-server-1"); err == nil {
			c.t.Error("nothing passes on the other worker")
		}
		c.script("start", "db-1")
		on := time.Now()
		testbed.Eventually(c.t, time.Minute, "the node is back", func() error { return c.alive("db-1") })
		c.t.Logf("back %s after power was on and Docker answered", time.Since(on).Round(time.Millisecond))
		c.shop(workers, "handed.test")
	})
}

// leader is the Consul server that leads the others.
func (c *cluster) leader() string {
	c.t.Helper()
	raft, err := c.consul.Operator().RaftGetConfiguration(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range raft.Servers {
		if s.Leader {
			return s.Node
		}
	}
	c.t.Fatalf("no leader among %+v", raft.Servers)
	return ""
}

// instances are those of shop, whatever their health.
func (c *cluster) instances() ([]*api.ServiceEntry, error) {
	entries, _, err := c.consul.Health().Service("shop", "", false, nil)
	return entries, err
}

// shop waits until exactly one instance passes on each of some nodes, at the node's address and the
// published port, with this host.
func (c *cluster) shop(nodes []string, host string) {
	c.t.Helper()
	testbed.Eventually(c.t, time.Minute, fmt.Sprintf("shop on %v with host %q", nodes, host), func() error {
		entries, err := c.instances()
		if err != nil {
			return err
		}
		var got []string
		for _, e := range entries {
			if status := e.Checks.AggregatedStatus(); status != api.HealthPassing {
				return fmt.Errorf("%s is %s", e.Service.ID, status)
			}
			meta := e.Service.Meta
			if meta["fairway-host"] != host || meta["fairway-path"] != "/shop" || meta["swarm-labels"] != "" {
				return fmt.Errorf("%s says %v", e.Service.ID, meta)
			}
			if at, want := e.Service.Address, c.address(e.Node.Node); at != want || e.Service.Port != 8080 {
				return fmt.Errorf("%s is at %s:%d, want %s:8080", e.Service.ID, at, e.Service.Port, want)
			}
			got = append(got, e.Node.Node)
		}
		if slices.Sort(got); !slices.Equal(got, nodes) {
			return fmt.Errorf("on %v", got)
		}
		return nil
	})
}

// reachable waits until Consul has exactly the tasks of a service that run, one on each application
// node, where Docker says that they can be reached: a port of the node, or an address on the network inner.
func (c *cluster) reachable(service string) {
	c.t.Helper()
	testbed.Eventually(c.t, time.Minute, "tasks of "+service, func() error {
		var want, got []string
		tasks := c.containers(service)
		for _, task := range tasks {
			row, err := c.row(task)
			if err != nil {
				return err
			}
			want = append(want, row+" passing")
		}
		if len(tasks) != len(appNodes) {
			return fmt.Errorf("%d tasks", len(tasks))
		}
		entries, _, err := c.consul.Health().Service("fairway_"+service, "", false, nil)
		if err != nil {
			return err
		}
		for _, e := range entries {
			got = append(got, fmt.Sprintf("%s %s:%d %s", e.Service.ID, e.Service.Address, e.Service.Port, e.Checks.AggregatedStatus()))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			return fmt.Errorf("they are %q, Consul has %q", want, got)
		}
		return nil
	})
}

// row is the ID and the address that a task must have in Consul.
func (c *cluster) row(task container) (string, error) {
	said := map[string]string{}
	for what, args := range map[string][]string{
		"name":  {"inspect", "-f", `{{index .Config.Labels "com.docker.swarm.task.name"}}`, task.id},
		"inner": {"inspect", "-f", `{{with .NetworkSettings.Networks.inner}}{{.IPAddress}}{{end}}`, task.id},
		"port":  {"inspect", "-f", `{{range index .NetworkSettings.Ports "8080/tcp"}}{{.HostPort}} {{end}}`, task.id},
	} {
		out, err := c.try(append([]string{"docker", task.node}, args...)...)
		if err != nil {
			return "", err
		}
		said[what] = out
	}
	at := said["inner"] + ":8080"
	if port, _, _ := strings.Cut(said["port"], " "); port != "" { // once for each family
		at = c.address(task.node) + ":" + port
	}
	return fmt.Sprintf("%s:%s:8080 %s", task.node, said["name"], at), nil
}

// steady does something and looks at the catalog all the while: one passing instance of shop on each
// of the nodes, neither less nor more, and no node without a sign of life.
func (c *cluster) steady(nodes []string, do func()) {
	c.t.Helper()
	done, ended := make(chan struct{}), make(chan string, 1)
	go func() {
		looks := 0
		for {
			select {
			case <-done:
				ended <- map[bool]string{true: "nobody looked"}[looks < 10]
				return
			case <-time.After(50 * time.Millisecond):
			}
			entries, err := c.instances()
			if err != nil {
				continue // a server that is down is not what is looked for
			}
			looks++
			var got []string
			for _, e := range entries {
				if e.Checks.AggregatedStatus() == api.HealthPassing {
					got = append(got, e.Node.Node)
				}
			}
			if slices.Sort(got); !slices.Equal(got, nodes) {
				ended <- fmt.Sprintf("shop passes on %v", got)
				return
			}
		}
	}()
	do()
	close(done)
	if what := <-ended; what != "" {
		c.t.Error(what)
	}
}

// insist runs the docker command on a manager until it succeeds: one that was just promoted, or
// whose Swarm has no leader for a moment, refuses.
func (c *cluster) insist(manager string, args ...string) {
	c.t.Helper()
	testbed.Eventually(c.t, 30*time.Second, fmt.Sprintf("docker %q on %s", args, manager), func() error {
		_, err := c.try(append([]string{"docker", manager}, args...)...)
		return err
	})
}

// role waits until a manager knows a node in its role.
func (c *cluster) role(from, node, reachability string) {
	c.t.Helper()
	testbed.Eventually(c.t, time.Minute, fmt.Sprintf("%s is %q", node, reachability), func() error {
		got, err := c.try("docker", from, "node", "inspect", "--format", "{{if .ManagerStatus}}{{.ManagerStatus.Reachability}}{{end}}", node)
		if err == nil && got != reachability {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

// silent returns an error while anything of a node passes.
func (c *cluster) silent(node string) error {
	entries, err := c.instances()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Node.Node == node && e.Checks.AggregatedStatus() == api.HealthPassing {
			return fmt.Errorf("%s passes", e.Service.ID)
		}
	}
	return nil
}

// alive returns an error until something of a node passes.
func (c *cluster) alive(node string) error {
	if c.silent(node) == nil {
		return fmt.Errorf("nothing passes on %s", node)
	}
	return nil
}
