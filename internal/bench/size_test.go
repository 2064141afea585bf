//go:build bench

package bench

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway/internal/testbed"
)

// running is a contender beside its own Consul server, all before one engine.
type running struct {
	contender
	consul *testbed.ConsulServer
	way    *counter
	cmd    *exec.Cmd
}

// TestMeasureSize starts each registrator before an engine that already runs $SIZE containers (500),
// and then leaves all of them alone for $IDLE (10m).
func TestMeasureSize(t *testing.T) {
	size, idle := number(t, "SIZE", 500), span(t, "IDLE", 10*time.Minute)
	l := newLab(t, "--userland-proxy=false") // of which Docker would start two processes for each port
	l.pauseImage()
	began := time.Now()
	l.crowd(size)
	t.Logf("%d containers started in %s", size, time.Since(began).Round(time.Second))

	var all []*running
	var rows [][]string
	for _, c := range contenders(t, true) {
		r := &running{contender: c, consul: testbed.Consul(t)}
		r.way = newCounter(t, r.consul.Addr)
		program, args := c.args(l, r.way.addr)
		began := time.Now()
		r.cmd = l.spawn(program, args...)
		testbed.Eventually(t, 2*time.Minute, "all rows of "+c.name, func() error { return r.holds(size) })
		took := time.Since(began)
		time.Sleep(5 * time.Second) // what comes after is a part of the start
		u := usageOf(t, r.cmd.Process.Pid)
		rows = append(rows, []string{
			c.name, ms(took), strconv.FormatInt(r.way.puts.Load(), 10), strconv.FormatInt(r.way.requests.Load(), 10),
			fmt.Sprintf("%.2f s", u.cpu.Seconds()), mib(u.peak),
		})
		all = append(all, r)
	}
	table(fmt.Sprintf("%d containers present at the start", size), []string{
		"", "start of the program → all rows passing", "writing requests", "requests", "CPU", "peak memory",
	}, rows)
	measureIdle(t, all, idle)
}

// measureIdle leaves all alone side by side.
func measureIdle(t *testing.T, all []*running, idle time.Duration) {
	t.Helper()
	type counts struct {
		requests, puts, beats int64
		usage                 usage
		index                 uint64
	}
	take := func(r *running) counts {
		return counts{r.way.requests.Load(), r.way.puts.Load(), r.way.beats.Load(), usageOf(t, r.cmd.Process.Pid), r.index()}
	}
	var before []counts
	for _, r := range all {
		before = append(before, take(r))
	}
	time.Sleep(idle)
	var rows [][]string
	for i, r := range all {
		a, b := before[i], take(r)
		rows = append(rows, []string{
			r.name, strconv.FormatInt(b.requests-a.requests, 10), strconv.FormatInt(b.beats-a.beats, 10), strconv.FormatInt(b.puts-a.puts, 10),
			strconv.FormatUint(b.index-a.index, 10), fmt.Sprintf("%.2f s", (b.usage.cpu - a.usage.cpu).Seconds()), mib(b.usage.rss), mib(b.usage.peak),
		})
	}
	table(fmt.Sprintf("%s without a change", idle), []string{
		"", "requests", "of them session renewals", "writing requests", "changes of the catalog", "CPU", "resident memory", "peak since the start",
	}, rows)
}

// holds reports whether n rows of the benchmark's service pass.
func (r *running) holds(n int) error {
	entries, _, err := r.consul.Client.Health().Service("bench", "", true, nil)
	if err == nil && len(entries) != n {
		err = fmt.Errorf("%d rows", len(entries))
	}
	return err
}

// index is the last change of the benchmark's service and its checks.
func (r *running) index() uint64 {
	_, meta, err := r.consul.Client.Health().Service("bench", "", false, &api.QueryOptions{})
	if err != nil {
		return 0
	}
	return meta.LastIndex
}

// crowd starts n containers that do nothing.
func (l *lab) crowd(n int) {
	l.b.Helper()
	var group errgroup.Group
	group.SetLimit(4)
	for i := range n {
		group.Go(func() error {
			name := fmt.Sprintf("crowd-%d", i)
			_, err := l.engine.Client.ContainerCreate(l.b.Context(), &container.Config{
				Image: "pause", StopSignal: "KILL", Env: []string{"SERVICE_NAME=bench", "SERVICE_TAGS=a,b", "SERVICE_REGION=eu"},
				Labels: map[string]string{"fairway.host": host},
			}, &container.HostConfig{PublishAllPorts: true}, nil, nil, name)
			if err != nil {
				return fmt.Errorf("create %s: %w", name, err)
			}
			return l.engine.Client.ContainerStart(l.b.Context(), name, container.StartOptions{})
		})
	}
	if err := group.Wait(); err != nil {
		l.b.Fatal(err)
	}
}
