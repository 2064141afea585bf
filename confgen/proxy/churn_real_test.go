//go:build real

package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/proxy/haproxy"
	"fairway/internal/reconcile"
)

// churn changes the world at random and applies it at once.
type churn struct {
	*rig
	web       []string
	random    *rand.Rand
	reloads   int
	structure int
	changes   int
	commands  int
	took      []time.Duration
}

func newChurn(t *testing.T, change ...func(*Options, *HAProxy)) *churn {
	t.Helper()
	c := &churn{rig: newRig(t, change...), web: backends(t, 12)}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c.random = rand.New(rand.NewPCG(seed, 0))
	for _, name := range []string{"a", "b"} {
		c.world.backends[name] = []string{serverLine(c.web[0], 100, "check inter 500ms")}
		c.world.hosts[name+".test"] = name
	}
	return c
}

// step makes one random change; now and then it is structural.
func (c *churn) step(structural bool) {
	name := []string{"a", "b"}[c.random.IntN(2)]
	if structural {
		c.structure++
		switch c.random.IntN(2) {
		case 0:
			c.world.timeout = fmt.Sprintf("%dms", 4000+c.random.IntN(1000)+c.structure)
		case 1:
			extra := fmt.Sprintf("x%d", c.structure)
			c.world.backends[extra] = []string{serverLine(c.web[c.random.IntN(len(c.web))], 100, "")}
			c.world.hosts[extra+".test"] = extra
		}
		return
	}
	if c.random.IntN(10) == 0 {
		c.world.hosts[fmt.Sprintf("h%d.test", c.random.IntN(20))] = name
		return
	}
	// One to five of the servers, each with its weight, at times one in maintenance.
	c.random.Shuffle(len(c.web), func(i, j int) { c.web[i], c.web[j] = c.web[j], c.web[i] })
	var lines []string
	for i, address := range c.web[:1+c.random.IntN(5)] {
		options := "check inter 500ms"
		if i > 0 && c.random.IntN(5) == 0 {
			options += " disabled"
		}
		lines = append(lines, serverLine(address, 1+c.random.IntN(256), options))
	}
	slices.Sort(lines)
	c.world.backends[name] = lines
}

// churnLimit bounds a run on a busy machine: a third of the changes says enough.
const churnLimit = 10 * time.Second

func (c *churn) run(changes, structuralEvery int) {
	c.t.Helper()
	began := time.Now()
	for i := 1; i <= changes && (i <= changes/3 || time.Since(began) < churnLimit); i++ {
		c.step(i%structuralEvery == 0)
		res, err := c.target.Apply(c.t.Context(), c.world.files())
		if err != nil {
			c.t.Fatalf("change %d: %v", i, err)
		}
		c.changes++
		c.reloads += res.Reloads
		c.commands += res.Commands
		if res.Reloads == 0 {
			c.took = append(c.took, res.Elapsed)
		}
		_ = reconcile.Sleep(c.t.Context(), time.Duration(c.random.IntN(10))*time.Millisecond)
	}
	res := c.apply()
	c.reloads += res.Reloads
	slices.Sort(c.took)
	c.t.Logf("%d changes, %d commands, %d structural, %d reloads; without a reload p50 %s p99 %s", c.changes, c.commands,
		c.structure, c.reloads, c.took[len(c.took)/2], c.took[len(c.took)*99/100])
}

func TestChurn_F50_randomChangesUnderLoad(t *testing.T) {
	c := newChurn(t, func(o *Options, _ *HAProxy) { o.ReloadInterval = 500 * time.Millisecond })
	c.up()
	clients := startLoad(t, "127.0.0.1:"+c.world.port, "a.test")
	c.run(300, 60)
	if c.reloads > c.structure {
		t.Errorf("%d reloads for %d structural changes", c.reloads, c.structure)
	}
	clients.expectNone(t, 1000)
	c.equal()
}

// Somebody else, an operator or a certificate renewal, reloads HAProxy all the time. HAProxy 2.6
// loses signals that come too fast; the newest state has to win nevertheless.
func TestChurn_F50_foreignReloads(t *testing.T) {
	c := newChurn(t, func(o *Options, h *HAProxy) { o.ReloadInterval, h.OldWorkers = 500*time.Millisecond, 50 })
	c.up()
	clients := startLoad(t, "127.0.0.1:"+c.world.port, "a.test")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for reconcile.Sleep(ctx, time.Duration(200+rand.IntN(500))*time.Millisecond) == nil {
			_ = c.child.Signal(ctx, syscall.SIGUSR2)
			n++
		}
		done <- n
	}()
	c.run(150, 40)
	cancel()
	t.Logf("%d foreign reloads", <-done)
	clients.expectNone(t, 1000)
	c.equal()
}

// Retired servers are deleted as soon as nothing is open to them, and come back when wanted.
func TestApply_F50_retiredServersAreDeleted(t *testing.T) {
	t.Parallel()
	c := newChurn(t)
	one := slices.Clone(c.world.backends["a"])
	all := slices.Clone(one)
	for _, address := range c.web[1:] {
		all = append(all, serverLine(address, 100, "check"))
	}
	c.world.backends["a"] = all
	c.up()
	clients := startLoad(t, "127.0.0.1:"+c.world.port, "a.test")
	_ = reconcile.Sleep(t.Context(), 200*time.Millisecond)
	c.world.backends["a"] = one
	if res := c.apply(); res.Retired == 0 { // those that nothing is open to are deleted at once
		t.Error("no server was retired while clients hold connections to them")
	}
	c.world.backends["a"] = all[:2] // One comes back before it is deleted.
	if res := c.apply(); res.Reloads != 0 {
		t.Errorf("a server came back: %+v, expected no reload", res)
	}
	for deadline := time.Now().Add(15 * time.Second); ; {
		res := c.apply()
		if res.Retired == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d servers are still not deleted", res.Retired)
		}
		<-c.wakes // Apply asked to be called again.
	}
	clients.expectNone(t, 50)
	c.equal()
	stats, _ := c.world.sockets()
	conn := mustRun[*haproxy.Conn](t)(haproxy.Socket{Path: stats}.Worker(t.Context()))
	defer conn.Close()
	if state := mustRun[string](t)(conn.Ask(t.Context(), "show servers state a")); strings.Count(state, " n1_") != 2 {
		t.Errorf("haproxy still has more than two servers:\n%s", state)
	}
}

// HAProxy is killed and comes back from what is on disk.
func TestChurn_F51_killedAndRestarted(t *testing.T) {
	t.Parallel()
	c := newChurn(t)
	c.up()
	for round := range 4 {
		c.run(20+c.random.IntN(20), 10)
		c.kill(syscall.SIGKILL)
		c.start()
		if err := c.compare(); err != nil {
			t.Fatalf("round %d: disk first means that a restart finds everything: %v", round, err)
		}
		if res := c.apply(); res.Reloads != 0 {
			t.Errorf("round %d: %+v, expected no reload after a restart from disk", round, res)
		}
	}
	c.equal()
}
