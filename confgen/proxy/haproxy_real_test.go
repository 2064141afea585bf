//go:build real

package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/go-hclog"
)

// rig is a real HAProxy, its folder and a target for it.
type rig struct {
	t      testing.TB
	world  *world
	target *Target
	wakes  chan struct{}
	child  *Child
	stop   context.CancelFunc
	ended  chan error
	exit   error
	output *testbed.Log
}

// newRig makes the folder and the target; nothing runs yet.
func newRig(t testing.TB, change ...func(*Options, *HAProxy)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw") // Short: a socket's path has at most 107 bytes.
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, wakes: make(chan struct{}, 1), output: &testbed.Log{}}
	t.Cleanup(func() {
		r.kill(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("haproxy said:\n%s", r.output)
		}
		_ = os.RemoveAll(dir)
	})
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.world = newWorld(dir, fmt.Sprint(testbed.Port(t)))
	r.target = r.newTarget(change...)
	return r
}

func (r *rig) newTarget(change ...func(*Options, *HAProxy)) *Target {
	r.t.Helper()
	stats, master := r.world.sockets()
	opt := Options{
		Dir: r.world.dir, Main: "haproxy.cfg",
		Check:          Check{Command: []string{testbed.Program(r.t, "haproxy"), "-c", "-f", "{{file}}"}},
		ReloadInterval: 50 * time.Millisecond,
		ReloadTimeout:  10 * time.Second,
		Wake: func() {
			select {
			case r.wakes <- struct{}{}:
			default:
			}
		},
		Log: hclog.New(&hclog.LoggerOptions{Output: r.output, Level: hclog.Debug}),
	}
	h := HAProxy{StatsSocket: stats, MasterSocket: master}
	for _, f := range change {
		f(&opt, &h)
	}
	target, err := NewHAProxy(opt, h)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = target.Close() })
	return target
}

// start runs HAProxy on what is on disk.
func (r *rig) start() {
	r.t.Helper()
	_, master := r.world.sockets()
	child, err := NewChild(ChildOptions{
		Command: []string{testbed.Program(r.t, "haproxy"), "-W", "-S", master, "-f", filepath.Join(r.world.dir, "haproxy.cfg")},
		Stdout:  r.output, Stderr: r.output, StopTimeout: time.Second,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.child, r.stop, r.ended = child, cancel, make(chan error, 1)
	go func() { r.ended <- child.Run(ctx) }()
	testbed.Eventually(r.t, 30*time.Second, "haproxy answers", func() error {
		_, err := r.target.driver.status(r.t.Context())
		return err
	})
}

// kill ends HAProxy and waits for it.
func (r *rig) kill(sig syscall.Signal) {
	if r.stop == nil {
		return
	}
	if sig != syscall.SIGTERM {
		_ = r.child.Signal(context.Background(), sig)
		r.exit = <-r.ended
	}
	r.stop()
	if sig == syscall.SIGTERM {
		r.exit = <-r.ended
	}
	r.stop = nil
}

// wantReloads applies the world, and wants so many reloads for it.
func (r *rig) wantReloads(want int, why string) {
	r.t.Helper()
	if res := r.apply(); res.Reloads != want {
		r.t.Errorf("%s: %+v, expected %d reloads", why, res, want)
	}
}

// apply applies the world until nothing is put off any more.
func (r *rig) apply() Result {
	r.t.Helper()
	var total Result
	for {
		res, err := r.target.Apply(r.t.Context(), r.world.files())
		// While a reload is put off, what was rejected before still stands.
		if rejected := new(RejectedError); err != nil && (res.Deferred == "" || !errors.As(err, &rejected)) {
			r.t.Fatalf("apply: %v", err)
		}
		total.Commands += res.Commands
		total.Reloads += res.Reloads
		total.Retired, total.Generation = res.Retired, res.Generation
		if res.Action != None {
			total.Action = res.Action
		}
		if res.Deferred == "" {
			return total
		}
		<-r.wakes
	}
}

// up commits the world, starts HAProxy and has it confirmed.
func (r *rig) up() {
	r.t.Helper()
	if _, err := r.target.Apply(r.t.Context(), r.world.files()); !errors.Is(err, ErrNotRunning) {
		r.t.Fatalf("apply without haproxy: %v, expected ErrNotRunning", err)
	}
	r.start()
	if res := r.apply(); res.Reloads != 0 || res.Commands != 0 {
		r.t.Fatalf("haproxy came up with our files, yet: %+v", res)
	}
}

func TestApply_F45_F49_scaleAndStructure(t *testing.T) {
	r := newRig(t)
	web := backends(t, 8)
	r.world.backends["a"] = []string{serverLine(web[0], 100, "check")}
	r.world.hosts["a.test"] = "a"
	r.up()
	clients := startLoad(t, "127.0.0.1:"+r.world.port, "a.test")

	for _, n := range []int{8, 3, 1, 5, 1} {
		var lines []string
		for _, address := range web[:n] {
			lines = append(lines, serverLine(address, 100, "check"))
		}
		r.world.backends["a"] = lines
		res := r.apply()
		if res.Action != Runtime || res.Reloads != 0 {
			t.Errorf("F45: scale to %d: %+v, expected runtime commands only", n, res)
		}
	}
	r.world.timeout = "6s"
	r.wantReloads(1, "F49: a changed timeout")
	r.world.backends["b"] = []string{serverLine(web[1], 100, "check")}
	r.world.hosts["b.test"] = "b"
	r.wantReloads(1, "F49: a new service")
	r.world.hosts["c.test"] = "b"
	if res := r.apply(); res.Reloads != 0 || res.Action != Runtime {
		t.Errorf("F48: new host: %+v, expected runtime commands only", res)
	}
	one := &noRetry{address: "127.0.0.1:" + r.world.port}
	defer one.close()
	if err := one.get("c.test"); err != nil {
		t.Errorf("F48: new host: %v", err)
	}
	clients.expectNone(t, 200)
}
