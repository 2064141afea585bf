//go:build bench

package bench

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// TestMeasureNodes runs many real registrators, each before an engine that exists on the wire only,
// against one real cluster of three Consul servers: what do they cost it while nothing happens, and
// under 50 changes a second, as their number grows? $NODES (200) with $PER_NODE (50) containers each
// are the most; each phase takes $PHASE (15s).
func TestMeasureNodes(t *testing.T) {
	most, each, phase := number(t, "NODES", 200), number(t, "PER_NODE", 50), span(t, "PHASE", 15*time.Second)
	// All nodes share one source address here, which Consul would not let have so many connections.
	servers := testbed.ConsulServers(t, 3, "-hcl", "limits { http_max_conns_per_client = 10000 }")
	l := &lab{b: t, dir: t.TempDir()}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, servers: servers, each: each}
	var rows [][]string
	var counts, idle, busy []float64
	for _, size := range sizes(most) {
		began := time.Now()
		f.grow(l, filepath.Join(bin, "registrator"), size)
		f.settle(2 * time.Minute)
		joined := time.Since(began)
		time.Sleep(5 * time.Second)
		quiet := f.measure(phase, nil)
		changing := f.measure(phase, f.change)
		behind := f.settle(time.Minute)
		counts, idle, busy = append(counts, float64(size)), append(idle, quiet.cpu), append(busy, changing.cpu)
		rows = append(rows, []string{
			strconv.Itoa(size), strconv.Itoa(size * each), joined.Round(time.Millisecond).String(), strconv.Itoa(f.connections()),
			percent(quiet.cpu), fmt.Sprintf("%.2f", quiet.writes), percent(quiet.nodes), percent(changing.cpu), fmt.Sprintf("%.1f", changing.writes),
			behind.Round(time.Millisecond).String(), mib(f.memory()),
		})
	}
	table("Many nodes before three Consul servers", []string{
		"nodes", "rows", "time for these to join", "connections to Consul", "idle: CPU of the three servers", "raft writes/s", "CPU of all registrators",
		"50 changes/s: CPU of the three servers", "raft writes/s", "last change → catalog right", "memory of the largest server",
	}, rows)
	if most < 100 {
		fmt.Println("Too few nodes to say what many more would cost.")
	} else {
		fixed, slope := line(counts, idle)
		busyFixed, busySlope := line(counts, busy)
		fmt.Printf("Least squares, CPU of the three servers in %% of one core: idle %.2f + %.4f × nodes, at 50 changes/s %.2f + %.4f × nodes.\nAt 5,000 nodes of %d containers that is %s idle and %s at 50 changes/s.\n\n",
			100*fixed, 100*slope, 100*busyFixed, 100*busySlope, each, percent(fixed+5000*slope), percent(busyFixed+5000*busySlope))
	}
}

// sizes are an eighth, a quarter, a half and all of the nodes.
func sizes(most int) []int {
	var list []int
	for _, part := range []int{8, 4, 2, 1} {
		if n := most / part; n > 0 {
			list = append(list, n)
		}
	}
	return list
}

// line is the least squares of y = a + b·x.
func line(x, y []float64) (a, b float64) {
	var n, sx, sy, sxx, sxy float64
	for i := range x {
		n, sx, sy, sxx, sxy = n+1, sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	b = (n*sxy - sx*sy) / (n*sxx - sx*sx)
	return (sy - b*sx) / n, b
}

func percent(cores float64) string { return fmt.Sprintf("%.1f %%", 100*cores) }

// fleet is a number of simulated nodes.
type fleet struct {
	t       *testing.T
	servers []*testbed.ConsulServer
	each    int
	engines []*wireEngine
	cmds    []*exec.Cmd
}

func (f *fleet) grow(l *lab, program string, size int) {
	for i := len(f.engines); i < size; i++ {
		e := newWireEngine(f.t, l.dir, i, f.each)
		l.engine = &testbed.Engine{Host: e.host} // for spawn's environment
		f.engines = append(f.engines, e)
		f.cmds = append(f.cmds, l.spawn(program, "--consul-addr", f.servers[i%len(f.servers)].Addr, "--ip", fmt.Sprintf("192.0.%d.%d", 2+i/250, 1+i%250),
			"--http-addr", "off", "--log-level", "warn"))
	}
}

// settle waits until the catalog holds every container in its state and returns how long that took.
func (f *fleet) settle(within time.Duration) time.Duration {
	f.t.Helper()
	began := time.Now()
	testbed.Eventually(f.t, within, fmt.Sprintf("the rows of %d nodes", len(f.engines)), func() error {
		paused := 0
		for _, e := range f.engines {
			paused += e.paused()
		}
		checks, _, err := f.servers[0].Client.Health().State(api.HealthAny, nil)
		if err != nil {
			return err
		}
		rows, critical := 0, 0
		for _, k := range checks {
			if strings.HasPrefix(k.CheckID, "service:") {
				rows++
				if k.Status == api.HealthCritical {
					critical++
				}
			}
		}
		if want := len(f.engines) * f.each; rows != want || critical != paused {
			time.Sleep(100 * time.Millisecond) // reading ten thousand rows is work for the server
			return fmt.Errorf("%d of %d rows, %d of %d critical", rows, want, critical, paused)
		}
		return nil
	})
	return time.Since(began)
}

// change toggles random containers, 50 a second, until stop.
func (f *fleet) change(stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			f.engines[rand.IntN(len(f.engines))].toggle(rand.IntN(f.each))
		}
	}
}

// cost is in cores and per second.
type cost struct{ cpu, nodes, writes float64 }

// measure measures a phase in which something may be done.
func (f *fleet) measure(phase time.Duration, do func(stop <-chan struct{})) cost {
	f.t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		if do != nil {
			do(stop)
		}
	}()
	began, servers, nodes, index := time.Now(), f.serverCPU(), f.nodeCPU(), f.applied()
	time.Sleep(phase)
	took := time.Since(began).Seconds()
	c := cost{
		cpu: (f.serverCPU() - servers).Seconds() / took, nodes: (f.nodeCPU() - nodes).Seconds() / took,
		writes: float64(f.applied()-index) / took,
	}
	close(stop)
	<-stopped
	return c
}

func (f *fleet) serverCPU() (sum time.Duration) {
	for _, s := range f.servers {
		sum += usageOf(f.t, s.PID()).cpu
	}
	return sum
}

func (f *fleet) nodeCPU() (sum time.Duration) {
	for _, c := range f.cmds {
		sum += usageOf(f.t, c.Process.Pid).cpu
	}
	return sum
}

// memory is the resident memory of the largest server.
func (f *fleet) memory() (kib int) {
	for _, s := range f.servers {
		kib = max(kib, usageOf(f.t, s.PID()).rss)
	}
	return kib
}

// applied is how much has ever been written to raft.
func (f *fleet) applied() uint64 {
	f.t.Helper()
	self, err := f.servers[0].Client.Agent().Self()
	if err != nil {
		f.t.Fatal(err)
	}
	raft, ok := self["Stats"]["raft"].(map[string]any)
	if !ok {
		f.t.Fatal(errors.New("consul tells nothing of raft"))
	}
	index, err := strconv.ParseUint(fmt.Sprint(raft["applied_index"]), 10, 64)
	if err != nil {
		f.t.Fatal(err)
	}
	return index
}

// connections counts those of all nodes to all servers.
func (f *fleet) connections() int {
	f.t.Helper()
	out, err := exec.Command(testbed.Program(f.t, "ss"), "-Htn", "state", "established").Output()
	if err != nil {
		f.t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, s := range f.servers {
			_, port, _ := net.SplitHostPort(s.Addr)
			if len(fields) > 2 && strings.HasSuffix(fields[2], ":"+port) {
				n++
			}
		}
	}
	return n
}
