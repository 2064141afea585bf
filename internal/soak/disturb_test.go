//go:build soak

package soak

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// most is how many containers there are at most at a time.
const most = 16

// disturber does random things to the containers of a world.
type disturber struct {
	w      *world
	random *rand.Rand
	prefix string // of the names it gives
	number int
}

// deeds are what is done to a container, each as often as it stands here.
var deeds = []string{
	"start", "start", "start", "start", "stop", "kill", "crash", "restart", "pause", "pause", "unpause", "unpause",
	"rename", "connect", "connect", "disconnect", "disconnect", "remove", "usr1",
}

// tally counts what was done, and what the engine refused: much is impossible just then.
type tally struct {
	mu            sync.Mutex
	done, refused map[string]int
}

func (c *tally) count(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.refused[what]++
		return
	}
	c.done[what]++
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.done)) {
		fmt.Fprintf(&b, " %s %d (refused %d)", what, c.done[what], c.refused[what])
	}
	return b.String()
}

// run disturbs until ctx ends. What it has begun it ends.
func (d *disturber) run(ctx context.Context, c *tally) {
	for ctx.Err() == nil {
		what, err := d.once()
		c.count(what, err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(d.random.IntN(400)) * time.Millisecond):
		}
	}
}

func (d *disturber) once() (what string, err error) {
	list, err := d.w.docker("ps", "-aq", "--no-trunc")
	if err != nil {
		return "list", err
	}
	ids := strings.Fields(list)
	if len(ids) < most/2 || len(ids) < most && d.random.IntN(4) == 0 {
		d.number++
		name := d.prefix + strconv.Itoa(d.number)
		if _, err = d.w.docker(create(name, d.random.IntN(len(kinds)))...); err == nil {
			_, err = d.w.docker("start", name)
		}
		return "create", err
	}
	id := ids[d.random.IntN(len(ids))]
	what = deeds[d.random.IntN(len(deeds))]
	return what, d.disturb(what, id)
}

func (d *disturber) disturb(what, id string) error {
	network := []string{"blue", "green", "bridge"}[d.random.IntN(3)]
	args := map[string][]string{
		"start": {"start", id}, "stop": {"stop", "-t", "1", id}, "kill": {"kill", id}, "restart": {"restart", "-t", "1", id},
		"pause": {"pause", id}, "unpause": {"unpause", id}, "remove": {"rm", "-f", id},
		"connect": {"network", "connect", network, id}, "disconnect": {"network", "disconnect", network, id},
		"usr1": {"kill", "-s", "URG", id}, // a signal that ends nothing
	}[what]
	if what == "rename" {
		d.number++
		args = []string{"rename", id, d.prefix + "r" + strconv.Itoa(d.number)}
	}
	if what == "crash" {
		return d.crash(id)
	}
	_, err := d.w.docker(args...)
	return err
}

// crash ends a container's process behind the engine's back, so that its restart policy counts.
func (d *disturber) crash(id string) error {
	pid, err := d.w.docker("inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		return fmt.Errorf("it does not run: pid %q", pid)
	}
	if out, err := d.w.docker("inspect", "-f", "{{.State.Pid}}", id); err != nil || out != pid {
		return fmt.Errorf("it ran as %s, now as %s: %w", pid, out, err)
	}
	return syscall.Kill(n, syscall.SIGKILL)
}

// fault does something to the engine, to Consul or to a registrator, and returns when that is over.
func (w *world) fault(random *rand.Rand) string {
	pause := time.Duration(random.IntN(4000)) * time.Millisecond
	n := w.nodes[random.IntN(len(w.nodes))]
	switch random.IntN(8) {
	case 0, 1:
		w.engine.Stop()
		wait(pause)
		w.engine.Start()
		return "docker restarted"
	case 2:
		w.consul.Stop()
		wait(pause)
		w.consul.Start()
		return "consul restarted"
	case 3:
		w.consul.Hang()
		wait(2 * pause)
		w.consul.Resume()
		return "consul hung"
	case 4:
		w.consul.Wipe()
		return "consul emptied"
	case 5:
		n.end(syscall.SIGTERM)
		wait(pause)
		n.start()
		return "registrator restarted"
	case 6:
		n.end(syscall.SIGKILL)
		wait(pause)
		n.start()
		return "registrator killed"
	}
	n.pause(pause)
	return "registrator frozen"
}

// pause freezes a registrator: everything it follows happens without it.
func (n *node) pause(d time.Duration) {
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		n.w.t.Errorf("registrator %s ended by itself: %v", n.name, err)
	}
	wait(d)
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		n.w.t.Errorf("registrator %s ended by itself: %v", n.name, err)
	}
}

// wait is a time without anything to wait for.
func wait(d time.Duration) { <-time.After(d) }
