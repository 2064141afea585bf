//go:build bench

package bench

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/hashicorp/consul/api"
)

// TestMeasureStartStop measures `docker start` returned → row passing in Consul, and stop issued →
// row not passing, for a container that takes half a second to end: $TIMES containers (40) for each
// registrator, in turns, so that what else the machine does falls on all of them alike.
func TestMeasureStartStop(t *testing.T) {
	times := number(t, "TIMES", 40)
	type turn struct {
		contender
		*lab
		starts, stops []time.Duration
	}
	var turns []*turn
	for _, c := range contenders(t, false) {
		l := newLab(t)
		program, args := c.args(l, l.consul.Addr)
		l.spawn(program, args...)
		turns = append(turns, &turn{contender: c, lab: l})
	}
	for i := range times + 1 {
		for _, r := range turns {
			start, stop := r.startAndStop()
			if i > 0 { // the first one finds a program that has only just begun
				r.starts, r.stops = append(r.starts, start), append(r.stops, stop)
			}
		}
	}
	var rows [][]string
	for _, r := range turns {
		slices.Sort(r.starts)
		slices.Sort(r.stops)
		rows = append(rows, []string{
			r.name, ms(r.starts[0]), ms(quantile(r.starts, .5)), ms(quantile(r.starts, .99)), ms(r.stops[0]), ms(quantile(r.stops, .5)), ms(quantile(r.stops, .99)),
		})
	}
	table(fmt.Sprintf("One container, %d times", times), []string{
		"", "start returned → passing, best", "median", "99 %", "stop issued → not passing, best (the container ends after 500 ms)", "median", "99 %",
	}, rows)
}

// startAndStop starts a container of its own, and stops and removes it.
func (l *lab) startAndStop() (start, stop time.Duration) {
	l.b.Helper()
	name := l.create("-drain", "500ms")
	l.start(name)
	began := time.Now()
	start = l.passing(1, began)
	stopped, ended := time.Now(), make(chan error, 1)
	go func() { ended <- l.engine.Client.ContainerStop(l.b.Context(), name, container.StopOptions{}) }()
	stop = l.passing(0, stopped)
	if err := <-ended; err != nil {
		l.b.Fatal(err)
	}
	l.engine.Run("rm", name)
	return start, stop
}

// passing waits until n instances of the benchmark's service pass, with blocking queries, and
// returns how long that took since a moment.
func (l *lab) passing(n int, since time.Time) time.Duration {
	l.b.Helper()
	query := &api.QueryOptions{WaitTime: 5 * time.Second}
	for time.Since(since) < time.Minute {
		entries, meta, err := l.consul.Client.Health().Service("bench", "", true, query)
		if err != nil {
			l.b.Fatal(err)
		}
		if len(entries) == n {
			return time.Since(since)
		}
		query.WaitIndex = meta.LastIndex
	}
	l.b.Fatalf("not %d passing within a minute", n)
	return 0
}

// TestMeasureBurst issues 100 starts, stops and restarts within one second, and then counts the
// rows that are wrong and how long they stay so.
func TestMeasureBurst(t *testing.T) {
	const starts, stops, restarts = 40, 40, 20
	var rows [][]string
	for _, c := range contenders(t, false) {
		l := newLab(t)
		program, args := c.args(l, l.consul.Addr)
		l.spawn(program, args...)
		var names []string
		for i := range starts + stops + restarts {
			names = append(names, l.create("-abrupt"))
			if i >= starts {
				l.start(names[i])
			}
		}
		if wrong := l.settle(time.Minute); wrong > 0 {
			t.Fatalf("%s: %d rows are wrong before the burst", c.name, wrong)
		}
		began := time.Now()
		var group sync.WaitGroup
		for i := range names {
			do := i * 37 % len(names) // starts, stops and restarts mixed
			group.Go(func() {
				<-time.After(time.Duration(i) * time.Second / time.Duration(len(names)))
				if err := l.burst(names[do], do, starts, stops); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		answered := time.Now()
		wrong := l.settle(30 * time.Second)
		took := "–"
		if wrong == 0 {
			took = ms(time.Since(answered))
		}
		rows = append(rows, []string{c.name, ms(answered.Sub(began)), took, strconv.Itoa(wrong)})
	}
	table("A burst of 40 starts, 40 stops and 20 restarts issued within one second", []string{
		"", "the engine had done it after", "rows right that long after", "rows still wrong after 30 s",
	}, rows)
}

func (l *lab) burst(name string, number, starts, stops int) error {
	now := 0
	switch {
	case number < starts:
		return l.engine.Client.ContainerStart(l.b.Context(), name, container.StartOptions{})
	case number < starts+stops:
		return l.engine.Client.ContainerStop(l.b.Context(), name, container.StopOptions{Timeout: &now})
	}
	return l.engine.Client.ContainerRestart(l.b.Context(), name, container.StopOptions{Timeout: &now})
}

// settle waits until the passing rows are those of the running containers and returns how many are
// wrong at the end: missing, too many or at a wrong port.
func (l *lab) settle(within time.Duration) (wrong int) {
	l.b.Helper()
	for deadline := time.Now().Add(within); ; {
		list, err := l.engine.Client.ContainerList(l.b.Context(), container.ListOptions{})
		if err != nil {
			l.b.Fatal(err)
		}
		want := map[int]int{} // host port → rows
		for _, c := range list {
			for _, p := range c.Ports {
				if p.PublicPort != 0 {
					want[int(p.PublicPort)] = 1
				}
			}
		}
		entries, _, err := l.consul.Client.Health().Service("bench", "", true, nil)
		if err != nil {
			l.b.Fatal(err)
		}
		for _, e := range entries {
			want[e.Service.Port]--
		}
		wrong = 0
		for n := range maps.Values(want) {
			wrong += max(n, -n)
		}
		if wrong == 0 || time.Now().After(deadline) {
			return wrong
		}
		time.Sleep(5 * time.Millisecond)
	}
}
