//go:build real

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/daemon"
	traffic "fairway/internal/load"
	"fairway/internal/testbed"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// asProgram makes the test binary behave as confgen, so that it can be killed.
const asProgram = "FAIRWAY_TEST_AS_CONFGEN"

func beTheProgram() {
	if os.Getenv(asProgram) != "" {
		os.Exit(daemon.Main(newApp(), os.Args))
	}
}

// churning is a world in which everything changes and dies at random moments.
type churning struct {
	*rig
	random *rand.Rand
	webs   []web
	master func() int // HAProxy's
	signal func(syscall.Signal)

	program *exec.Cmd
	living  map[string]string // instance ID → service, as registered
	changes int
	kills   map[string]int
	bag     []string // what is still to be struck before anything is again
	clients *traffic.Run
	alive   traffic.Report // while HAProxy was to be there
	dead    traffic.Report // while it was not
}

func (c *churning) startConfgen() {
	c.t.Helper()
	cmd := exec.Command(os.Args[0], append(c.line(), "--reload-interval", "300ms", "--old-workers", "50", "--hard-stop-after", "5s")...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = c.log, c.log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.program = cmd
}

func (c *churning) endConfgen(sig syscall.Signal) {
	_ = c.program.Process.Signal(sig)
	_ = c.program.Wait()
}

// change changes the catalog: mostly which instances there are and how they are, at times a
// service comes or goes. The service that is under load always keeps an instance that passes.
func (c *churning) change() {
	c.t.Helper()
	c.changes++
	service := []string{"main", "a", "b"}[c.random.IntN(3)]
	if c.random.IntN(30) == 0 {
		service = fmt.Sprintf("x%d", c.random.IntN(4))
	}
	n := c.random.IntN(len(c.webs))
	id := fmt.Sprintf("%s-%d", service, n)
	if service == "main" && n == 0 {
		return
	}
	if c.living[id] != "" && c.random.IntN(2) == 0 {
		c.deregisterID(id)
		return
	}
	status := api.HealthPassing
	if c.random.IntN(4) == 0 {
		status = api.HealthCritical
	}
	c.put(service, id, c.webs[n], status)
}

func (c *churning) put(service, id string, w web, status string) {
	c.t.Helper()
	c.living[id] = service
	_, err := c.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: "n1", Address: "127.0.0.1",
		Service: &api.AgentService{ID: id, Service: service, Address: w.host, Port: w.port, Meta: host(service + ".test")},
		Check:   &api.AgentCheck{Node: "n1", CheckID: "service:" + id, Name: "container", Status: status, ServiceID: id},
	}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *churning) deregisterID(id string) {
	c.t.Helper()
	delete(c.living, id)
	if _, err := c.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "n1", ServiceID: id}, nil); err != nil {
		c.t.Fatal(err)
	}
}

// under starts three kinds of load.
func (c *churning) under() {
	c.t.Helper()
	var err error
	c.clients, err = traffic.Start(c.t.Context(), traffic.Options{
		Address: fmt.Sprintf("127.0.0.1:%d", c.port), Host: "main.test", KeepAlive: 4, NewConn: 2, Rate: 300,
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// rest ends the load and adds up what it saw.
func (c *churning) rest(sum *traffic.Report) {
	r := c.clients.Stop()
	sum.Requests += r.Requests
	sum.Failed += r.Failed
	sum.Failures = append(sum.Failures, r.Failures...)
}

// strike has something die, or be reloaded by somebody else.
func (c *churning) strike() {
	c.t.Helper()
	if len(c.bag) == 0 {
		c.bag = []string{"confgen", "master", "worker", "foreign"}
		c.random.Shuffle(len(c.bag), func(i, j int) { c.bag[i], c.bag[j] = c.bag[j], c.bag[i] })
	}
	what := c.bag[0]
	c.bag = c.bag[1:]
	switch what {
	case "confgen":
		c.endConfgen(syscall.SIGKILL)
		c.startConfgen()
	case "foreign":
		c.signal(syscall.SIGUSR2)
	default:
		master := c.master()
		victim := master
		if what == "worker" {
			if victim = youngest(master); victim == 0 {
				return // it has none at this moment
			}
		}
		c.rest(&c.alive)
		c.under()
		_ = syscall.Kill(victim, syscall.SIGKILL)
		testbed.Eventually(c.t, 20*time.Second, "haproxy is back", func() error {
			// A worker that was just being replaced takes no master along.
			replaced := what == "worker" && !slices.Contains([]int{0, victim}, youngest(master))
			if now := c.master(); now == 0 || now == master && !replaced {
				return errors.New("not started again")
			}
			if code, body := get(c.t, fmt.Sprintf("http://127.0.0.1:%d/", c.port), "main.test"); code != 200 {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
		c.rest(&c.dead)
		c.under()
	}
	c.kills[what]++
}

// youngest returns the newest child of a process.
func youngest(pid int) int {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	newest := 0
	for f := range strings.FieldsSeq(string(data)) {
		if n, err := strconv.Atoi(f); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// catalogState is what the catalog asks for, asked of Consul itself: "service address state".
// Where no instance passes, all of them get requests.
func (r *rig) catalogState() ([]string, error) {
	var list []string
	services, _, err := r.consul.Client.Catalog().Services(nil)
	if err != nil {
		return nil, err
	}
	for name := range services {
		entries, _, err := r.consul.Client.Health().Service(name, "", false, nil)
		if err != nil {
			return nil, err
		}
		passing := slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return e.Checks.AggregatedStatus() == api.HealthPassing })
		for _, e := range entries {
			if e.Service.Meta["fairway-host"] == "" {
				continue
			}
			state := "ready"
			if passing && e.Checks.AggregatedStatus() != api.HealthPassing {
				state = "maint"
			}
			list = append(list, fmt.Sprintf("%s %s:%d %s", name, e.Service.Address, e.Service.Port, state))
		}
	}
	slices.Sort(list)
	return list, nil
}

// fileState is the same as haproxy.cfg says it.
func (r *rig) fileState() (list, names []string, err error) {
	data, err := os.ReadFile(filepath.Join(r.dir, "haproxy.cfg"))
	backend := ""
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 1 && !strings.HasPrefix(line, " ") {
			backend = f[1]
		}
		if len(f) < 3 || f[0] != "server" || strings.HasPrefix(backend, "_") { // those are HAProxy's own
			continue
		}
		state := "ready"
		if slices.Contains(f, "disabled") {
			state = "maint"
		}
		list = append(list, fmt.Sprintf("%s %s %s", backend, f[2], state))
		names = append(names, backend+"/"+f[1])
	}
	slices.Sort(list)
	return list, names, err
}

// runtimeState is the same as HAProxy says it, without servers that only wait for their deletion.
func (r *rig) runtimeState(written []string) ([]string, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(r.dir, "haproxy.sock"), 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "show servers state\n"); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.Lines(string(answer)) {
		// be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state … srv_port (19th)
		f := strings.Fields(line)
		if len(f) < 19 || strings.HasPrefix(line, "#") || strings.HasPrefix(f[1], "_") {
			continue
		}
		state := "ready"
		if admin, _ := strconv.Atoi(f[6]); admin&^4 != 0 { // 4: was disabled in the file
			state = "maint"
		}
		if state == "maint" && !slices.Contains(written, f[1]+"/"+f[3]) {
			continue
		}
		list = append(list, fmt.Sprintf("%s %s:%s %s", f[1], f[4], f[18], state))
	}
	slices.Sort(list)
	return list, nil
}

// agree says where file, runtime and catalog differ.
func (r *rig) agree() error {
	catalog, err := r.catalogState()
	if err != nil {
		return err
	}
	file, names, err := r.fileState()
	if err != nil {
		return err
	}
	runtime, err := r.runtimeState(names)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(catalog, file); diff != "" {
		return fmt.Errorf("file differs (-catalog +file):\n%s", diff)
	}
	if diff := cmp.Diff(file, runtime); diff != "" {
		return fmt.Errorf("haproxy differs (-file +runtime):\n%s", diff)
	}
	return nil
}

func newChurning(t *testing.T) *churning {
	c := &churning{rig: newRig(t, "haproxy"), living: map[string]string{}, kills: map[string]int{}}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c.random = rand.New(rand.NewPCG(seed, 0))
	for i := range 8 {
		c.webs = append(c.webs, c.web(fmt.Sprintf("w%d", i)))
	}
	c.put("main", "main-0", c.webs[0], api.HealthPassing)
	c.put("a", "a-1", c.webs[1], api.HealthPassing)
	c.startConfgen()
	t.Cleanup(func() { c.endConfgen(syscall.SIGTERM) })
	child := c.haproxy()
	c.master = child.PID
	c.signal = func(sig syscall.Signal) { _ = child.Signal(context.Background(), sig) }
	c.answers("main.test", "w0")
	return c
}

// line is that of this world: the guard lets go at once, since here losses are true.
func (c *churning) line() []string { return append(c.rig.line(), "--guard-grace", "0s") }

// Changes at random, structural ones among them, under load, while HAProxy's master and worker and
// confgen are killed and somebody else reloads HAProxy: in the end file, runtime and catalog are
// equal, and requests fail only while HAProxy is dead. FAIRWAY_CHURN=30s has it run longer.
func TestChurn_F27_F50_F51_everythingDies(t *testing.T) {
	length := 6 * time.Second
	if text := os.Getenv("FAIRWAY_CHURN"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	c := newChurning(t)
	c.under()
	pace := time.NewTicker(30 * time.Millisecond)
	defer pace.Stop()
	began, next := time.Now(), time.Second
	for time.Since(began) < length {
		c.change()
		<-pace.C
		if time.Since(began) > next {
			c.strike()
			next = time.Since(began) + 300*time.Millisecond + time.Duration(c.random.IntN(1200))*time.Millisecond
		}
	}
	testbed.Eventually(t, 45*time.Second, "file, runtime and catalog agree", c.agree)
	c.rest(&c.alive)
	t.Logf("%d changes, killed %v; %d requests, %d failed; while haproxy was dead %d, %d failed", c.changes, c.kills,
		c.alive.Requests, c.alive.Failed, c.dead.Requests, c.dead.Failed)
	if c.alive.Requests < 100 {
		t.Errorf("only %d requests", c.alive.Requests)
	}
	if c.alive.Failed > 0 {
		t.Errorf("%d requests failed while haproxy was alive: %+v", c.alive.Failed, c.alive.Failures)
	}
}

// The checker of the churn sees it when one of the three is falsified.
func TestChurn_F50_theCheckerSeesFalsification(t *testing.T) {
	c := newChurning(t)
	testbed.Eventually(t, 20*time.Second, "file, runtime and catalog agree", c.agree)
	c.endConfgen(syscall.SIGKILL) // nobody is to mend it
	defer c.startConfgen()
	refused := func(what string) {
		t.Helper()
		if err := c.agree(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("falsified, and the checker says %v; want %q", err, what)
		}
	}
	_, names, err := c.fileState()
	if err != nil {
		t.Fatal(err)
	}
	tell := func(command string) {
		t.Helper()
		conn, err := net.Dial("unix", filepath.Join(c.dir, "haproxy.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, command+"\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Fatal(err)
		}
	}
	tell("set server " + names[0] + " state maint")
	refused("haproxy differs")
	tell("set server " + names[0] + " state ready")
	if err := c.agree(); err != nil {
		t.Fatal(err)
	}
	c.put("a", "a-2", c.webs[2], api.HealthPassing)
	refused("file differs")
	c.deregisterID("a-2")
	if err := c.agree(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.dir, "haproxy.cfg")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(data), "\n    server n1_", "\n    # server n1_", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	refused("file differs")
}
