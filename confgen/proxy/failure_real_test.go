//go:build real

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/proxy/haproxy"
	"fairway/internal/testbed"
)

// snapshot returns all files of the folder that are the proxy's.
func (r *rig) snapshot() map[string]string {
	r.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(r.world.dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == stateDir || d.Name() == "run"):
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			files[path] = string(data)
			return err
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return files
}

func (r *rig) instance() string {
	r.t.Helper()
	s, err := r.target.driver.status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s.instance
}

// oneBackend is a world with one service.
func (r *rig) oneBackend(web []string) {
	r.world.backends["a"] = []string{serverLine(web[0], 100, "check")}
	r.world.hosts["a.test"] = "a"
}

// taken returns a bind line for a port that somebody else has.
func taken(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return fmt.Sprintf("frontend taken\n  bind %s\n", l.Addr())
}

// expectRejected applies and expects the structure to be refused, with disk and proxy as before.
func (r *rig) expectRejected(by string, reloads int, before map[string]string, instance string) {
	r.t.Helper()
	res, err := r.target.Apply(r.t.Context(), r.world.files())
	for res.Deferred != "" {
		<-r.wakes
		res, err = r.target.Apply(r.t.Context(), r.world.files())
	}
	var rejected *RejectedError
	if !errors.As(err, &rejected) || rejected.By != by {
		r.t.Fatalf("apply: %v, expected a rejection by %s", err, by)
	}
	// On a busy machine one try of many may come too late to be made.
	if res.Reloads != reloads && (reloads < 3 || res.Reloads > reloads || res.Reloads < 2) {
		r.t.Errorf("%d reloads, expected %d", res.Reloads, reloads)
	}
	if now := r.snapshot(); fmt.Sprint(now) != fmt.Sprint(before) {
		r.t.Errorf("files changed:\n%s\nbefore:\n%s", now, before)
	}
	if now := r.instance(); now != instance {
		r.t.Errorf("instance %s, before %s", now, instance)
	}
}

func TestApply_F24_F29_checkerRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := backends(t, 2)
	r.oneBackend(web)
	r.up()
	before, instance := r.snapshot(), r.instance()
	r.world.extra = "backend broken\n  balance nonsense\n"
	r.world.hosts["new.test"] = "broken"
	r.expectRejected("check", 0, before, instance)

	_, err := r.target.Apply(t.Context(), r.world.files())
	if err == nil || !strings.Contains(err.Error(), "balance only supports") || !strings.Contains(err.Error(), filepath.Join(r.world.dir, "haproxy.cfg:")) {
		t.Errorf("the checker's words, with the real file and its line, are expected: %v", err)
	}
	// The rest goes on: a server that comes while the structure is refused is served.
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	res, err := r.target.Apply(t.Context(), r.world.files())
	if err == nil || res.Action != Runtime || res.Reloads != 0 {
		t.Errorf("%+v %v, expected the rejection and runtime commands", res, err)
	}
	if main := r.snapshot()[filepath.Join(r.world.dir, "haproxy.cfg")]; !strings.Contains(main, web[1]) || strings.Contains(main, "nonsense") {
		t.Errorf("expected the new server in the old structure on disk:\n%s", main)
	}
	// Tried again when the bytes change.
	r.world.extra = ""
	if res := r.apply(); res.Reloads != 0 || r.instance() != instance {
		t.Errorf("%+v: the old structure is wanted again, and it runs", res)
	}
	r.equal()
	r.world.extra = "backend fine\n"
	r.wantReloads(1, "another structure")
	r.equal()
}

func TestApply_F26_reloadFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := backends(t, 2)
	r.oneBackend(web)
	r.world.backends["_web-next"] = []string{"next unix@" + filepath.Join(r.world.dir, "run", "next.sock") + " send-proxy-v2 weight 1"}
	r.up()
	before, instance := r.snapshot(), r.instance()
	r.world.extra = taken(t) // The checker does not see it.
	r.world.hosts["new.test"] = "a"
	r.expectRejected("reload", 1, before, instance)
	stats, _ := r.world.sockets()
	worker := mustRun[*haproxy.Conn](t)((haproxy.Socket{Path: stats}).Worker(t.Context()))
	if weight := mustRun[string](t)(worker.Ask(t.Context(), "get weight _web-next/next")); !strings.HasPrefix(weight, "1 ") {
		t.Errorf("nobody replaces the worker, and it would hand over: weight %s", weight)
	}
	_ = worker.Close()
	r.world.hosts["new.test"] = "a"
	r.expectRejected("reload", 0, before, instance) // Never tried again.

	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	if res, err := r.target.Apply(t.Context(), r.world.files()); err == nil || res.Action != Runtime || res.Reloads != 0 {
		t.Errorf("%+v %v, expected the rejection and runtime commands", res, err)
	}
	r.world.extra = ""
	r.wantReloads(0, "the good structure never stopped running")
	r.equal()
	r.world.timeout = "7s"
	r.wantReloads(1, "another structure")
	r.equal()
}

func TestApply_F26_testBind(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Options, h *HAProxy) { h.TestBind = true })
	r.oneBackend(backends(t, 1))
	r.up()
	before, instance := r.snapshot(), r.instance()
	r.world.extra = taken(t)
	r.expectRejected("bind", 0, before, instance)
}

// F28: a signal to the master of HAProxy succeeds whatever HAProxy makes of it.
func TestApply_F28_signalAcceptedNothingLoaded(t *testing.T) {
	t.Parallel()
	var r *rig
	r = newRig(t, func(o *Options, h *HAProxy) {
		o.Check = Check{}
		o.ReloadTimeout = 9 * time.Second // A busy machine may take seconds to load.
		h.MasterSocket = ""
		h.Signal = signalRig(func() *Child { return r.child })
	})
	web := backends(t, 1)
	r.oneBackend(web)
	r.up()
	r.world.timeout = "7s"
	// A signal to a master that has only just started may be lost, and is sent again.
	if res := r.apply(); res.Reloads < 1 || res.Reloads > 3 {
		t.Errorf("%+v, expected a reload by signal", res)
	}
	r.equal()
	before, instance := r.snapshot(), r.instance()
	r.world.extra = "this is not a configuration\n"
	r.expectRejected("reload", 5, before, instance) // At once, and every 2 s until 9 s are over.
	r.world.extra = ""
	r.world.timeout = "8s"
	// One is enough, unless the master is still busy with the last bad one and loses the signal.
	if res := r.apply(); res.Reloads < 1 || res.Reloads > 3 {
		t.Errorf("%+v, expected a reload by signal", res)
	}
	r.equal()
}

// Files of a user who did not write the generation anywhere.
func TestApply_F26_withoutGeneration(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *Options, _ *HAProxy) { o.Check = Check{} })
	web := backends(t, 2)
	r.oneBackend(web)
	r.world.unmarked = true
	r.up()
	instance := r.instance()
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	if res := r.apply(); res.Action != Runtime || r.instance() != instance {
		t.Errorf("%+v, expected runtime commands", res)
	}
	r.world.timeout = "7s"
	if res := r.apply(); res.Reloads != 1 || r.instance() == instance {
		t.Errorf("%+v, expected one reload", res)
	}
	before, instance := r.snapshot(), r.instance()
	r.world.extra = "this is not a configuration\n"
	r.expectRejected("reload", 1, before, instance)
	r.world.extra = ""
	r.wantReloads(0, "there is nothing to do")
	r.equal()
}

type signalRig func() *Child

func (f signalRig) Signal(ctx context.Context, sig syscall.Signal) error { return f().Signal(ctx, sig) }

// F52: the stats socket is gone, or HAProxy's worker hangs; the master is there.
func TestApply_F52_statsSocketGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := backends(t, 2)
	r.oneBackend(web)
	r.up()
	stats, _ := r.world.sockets()
	if err := os.Remove(stats); err != nil {
		t.Fatal(err)
	}
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	r.wantReloads(1, "instead of runtime commands")
	if !strings.Contains(r.output.String(), "stats socket") {
		t.Error("the reason was not logged")
	}
	// A reload hands the listener on and does not make the socket again, so this goes on.
	r.wantReloads(0, "nothing changed")
	r.world.backends["a"] = []string{serverLine(web[1], 50, "check")}
	r.wantReloads(1, "still instead of runtime commands")
	one := &noRetry{address: "127.0.0.1:" + r.world.port}
	defer one.close()
	if err := one.get("a.test"); err != nil || one.said != "web1" {
		t.Errorf("answer %q, %v; expected web1's", one.said, err)
	}
}

func TestApply_F52_workerHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *Options, h *HAProxy) { h.Timeout = 300 * time.Millisecond })
	web := backends(t, 2)
	r.oneBackend(web)
	r.up()
	var pid int
	if _, err := fmt.Sscanf(r.instance(), "%d@", &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	_, err := r.target.Apply(t.Context(), r.world.files())
	t.Logf("apply with a worker that hangs: %v", err)
	testbed.Eventually(t, 10*time.Second, "reloaded past the hanging worker", func() error {
		_, err := r.target.Apply(t.Context(), r.world.files())
		return err
	})
	_ = syscall.Kill(pid, syscall.SIGCONT)
	r.equal()
}

// F31: at no moment is there a file that *.cfg or conf.d/* would match.
func TestApply_F31_temporaryFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.oneBackend(backends(t, 1))
	moments := 0
	r.target.reached = func(string) {
		moments++
		_ = filepath.WalkDir(r.world.dir, func(path string, d os.DirEntry, err error) error {
			if d != nil && d.IsDir() && d.Name() == stateDir {
				return filepath.SkipDir
			}
			name := filepath.Base(path)
			cfg, _ := filepath.Match("*.cfg", name)
			if cfg && name != "haproxy.cfg" || d != nil && d.Type().IsRegular() && !strings.HasPrefix(name, ".") && name != "haproxy.cfg" && name != "hosts.map" {
				t.Errorf("unexpected file %s", path)
			}
			return err
		})
	}
	r.up()
	r.world.timeout = "7s"
	r.apply()
	if moments < 5 {
		t.Errorf("looked only %d times", moments)
	}
	if leftover, _ := filepath.Glob(filepath.Join(r.world.dir, ".haproxy.cfg*")); len(leftover) > 0 {
		t.Errorf("left over: %s", leftover)
	}
	if !bytes.Contains([]byte(r.snapshot()[filepath.Join(r.world.dir, "haproxy.cfg")]), []byte("7s")) {
		t.Error("not written")
	}
}
