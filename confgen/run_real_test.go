//go:build real

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	beTheProgram()
	goleak.VerifyTestMain(m)
}

// The article's story: a service appears, is scaled up and down, and goes.
func TestRun_followsTheCatalog_F3_F5_F39_F49(t *testing.T) {
	r := newRig(t, "haproxy")
	a, b := r.web("a"), r.web("b")
	r.register("web", a, "passing", host("cluster.test"))
	c := r.confgen()
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	if s := c.status(); s.Apply.Last == nil || s.Routes != 1 || s.Servers["ready"] != 1 {
		t.Errorf("status %+v", s)
	}
	reloads := c.metric("fairway_confgen_reloads_total")

	began := time.Now()
	r.register("web", b, "passing", host("cluster.test"))
	testbed.Eventually(t, 5*time.Second, "F39: one change is applied at once", func() error {
		if s := c.status(); s.Servers["ready"] != 2 || s.Apply.Applied != s.Snapshot.Version {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if took := time.Since(began); took > 500*time.Millisecond {
		t.Errorf("one change took %s", took)
	}
	r.answers("cluster.test", "a", "b")
	r.register("web", a, "critical", host("cluster.test"))
	r.answers("cluster.test", "b")
	r.deregister(a)
	r.answers("cluster.test", "b")
	if n := c.metric("fairway_confgen_reloads_total"); n != reloads {
		t.Errorf("%g reloads for changes of servers", n-reloads)
	}

	other := r.web("other")
	r.register("other", other, "passing", host("other.test"))
	r.answers("other.test", "other")
	testbed.Eventually(t, 5*time.Second, "F49: one reload for a new service", func() error {
		if n := c.metric("fairway_confgen_reloads_total"); n != reloads+1 {
			return fmt.Errorf("%g reloads", n-reloads)
		}
		return nil
	})

	before := r.files()
	c.stop()
	again := r.confgen()
	again.ready()
	if !maps.Equal(before, r.files()) {
		t.Error("F5: a restart without a change wrote files")
	}
	if n := again.metric("fairway_confgen_reloads_total"); n != 0 {
		t.Errorf("F5: %g reloads", n)
	}
}

func TestRun_F1_withoutConsulNothingIsTouched(t *testing.T) {
	r := newRig(t, "haproxy")
	r.consul.Stop()
	file := filepath.Join(r.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte("# good\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := r.files()
	c := r.confgen()
	testbed.Eventually(t, 5*time.Second, "the outage is shown", func() error {
		if s := c.status(); !strings.Contains(s.Catalog.Err, "refused") {
			return errors.New(s.Catalog.Err)
		}
		return nil
	})
	if code, body := get(t, "http://"+c.addr+"/readyz", ""); code != 503 || !strings.Contains(body, "consul: ") {
		t.Errorf("readyz %d %q", code, body)
	}
	if !maps.Equal(before, r.files()) {
		t.Error("files were touched")
	}
}

func TestRun_F2_savedSnapshotIsServedWithoutConsul(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	first := r.confgen()
	r.haproxy()
	first.ready()
	first.stop()
	r.consul.Stop()
	for name := range r.files() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	c := r.confgen()
	r.answers("cluster.test", "a")
	testbed.Eventually(t, 5*time.Second, "the files are back", func() error {
		_, err := os.Stat(filepath.Join(r.dir, "haproxy.cfg"))
		return err
	})
	if s := c.status(); s.Snapshot == nil || !s.Snapshot.Restored || s.Snapshot.Age == "" {
		t.Errorf("status %+v", s.Snapshot)
	}
	r.consul.Start()
	r.register("web", r.web("b"), "passing", host("cluster.test"))
	r.answers("cluster.test", "a", "b")
	if s := c.status(); s.Snapshot.Restored {
		t.Error("still said to be restored")
	}
}

func TestRun_F41_F69_templates(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	dir := t.TempDir()
	file := filepath.Join(dir, "extra.tmpl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	noted := func(what string) func() error {
		return func() error {
			if data, err := os.ReadFile(filepath.Join(r.dir, "extra")); err != nil || string(data) != what {
				return fmt.Errorf("%q, %w", data, err)
			}
			return nil
		}
	}
	write("{{len .Routes}} of mine")
	c := r.confgen("--template", file)
	r.haproxy()
	c.ready()
	testbed.Eventually(t, 5*time.Second, "own file", noted("1 of mine"))

	for _, broken := range []struct{ name, text, want string }{
		{"parse", "{{if}}", "extra.tmpl:1: missing value for if"},
		{"execute", "{{.Nonsense}}", "extra.tmpl:1:2: executing"},
	} {
		write(broken.text)
		testbed.Eventually(t, 5*time.Second, broken.name+": the error has file and line", func() error {
			if s := c.status(); !strings.Contains(s.Template, broken.want) {
				return errors.New(s.Template)
			}
			return nil
		})
		// The catalog is followed all the same, with the last good templates.
		r.register("svc-"+broken.name, r.web(broken.name), "passing", host(broken.name+".test"))
		r.answers(broken.name+".test", broken.name)
	}
	if c.metric("fairway_confgen_template_error") != 1 {
		t.Error("metric says nothing")
	}
	write("{{len .Routes}} mended")
	testbed.Eventually(t, 5*time.Second, "mended", noted("3 mended"))
	if s := c.status(); s.Template != "" {
		t.Error(s.Template)
	}
	before, readAgain := r.files(), strings.Count(r.log.String(), "templates read again")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 5*time.Second, "SIGHUP reads again", func() error {
		if strings.Count(r.log.String(), "templates read again") == readAgain {
			return errors.New("not yet")
		}
		return nil
	})
	write("{{len .Routes}} mended{{/* and says the same */}}")
	testbed.Eventually(t, 5*time.Second, "an edit reads again", func() error {
		if strings.Count(r.log.String(), "templates read again") == readAgain+1 {
			return errors.New("not yet")
		}
		return nil
	})
	r.answers("cluster.test", "a")
	if !maps.Equal(before, r.files()) {
		t.Error("F69: files were written though nothing changed")
	}
}

func TestRun_F51_proxyRestarts_F36_editedByHand(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	c := r.confgen("--resync", "200ms")
	child := r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	if err := syscall.Kill(child.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.answers("cluster.test", "a")
	r.register("web", r.web("b"), "passing", host("cluster.test"))
	r.answers("cluster.test", "a", "b")

	file := filepath.Join(r.dir, "haproxy.cfg")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append([]byte("# by hand\n"), good...), 0o644); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 5*time.Second, "the edit is repaired", func() error {
		data, err := os.ReadFile(file)
		if string(data) != string(good) {
			return fmt.Errorf("%.80q, %w", data, err)
		}
		return nil
	})
}

func TestRun_F9_wipedConsulKeepsTheRoutes(t *testing.T) {
	r := newRig(t, "haproxy")
	a := r.web("a")
	r.register("web", a, "passing", host("cluster.test"))
	c := r.confgen("--empty-grace", "1h")
	r.haproxy()
	c.ready()
	before := r.files()
	r.consul.Wipe()
	testbed.Eventually(t, 20*time.Second, "the empty catalog is held", func() error {
		if c.status().Catalog.Held == "" {
			return errors.New("not held")
		}
		return nil
	})
	if !maps.Equal(before, r.files()) || c.metric("fairway_confgen_snapshot_held") != 1 {
		t.Error("not kept or not shown")
	}
	r.answers("cluster.test", "a")
}

func TestRun_problemsAreShown(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", map[string]string{"fairway-host": "cluster.test", "fairway-hots": "x"})
	c := r.confgen()
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	if s := c.status(); len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Reason, "host") {
		t.Errorf("problems %+v", s.Problems)
	}
	if _, body := get(t, "http://"+c.addr+"/status", ""); !strings.Contains(body, `"service": "web"`) || strings.Contains(body, `"Service"`) {
		t.Errorf("keys of problems:\n%s", body)
	}
	if c.metric("fairway_confgen_problems") != 1 || strings.Count(r.log.String(), "routing label cannot be used") != 1 {
		t.Error("not counted, or not said once")
	}
}

func TestOnce_F7_exitCodes(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	if code, out := r.once("--once"); code != 0 {
		t.Errorf("rendered: %d %s", code, out)
	}
	if code, out := r.once("--once"); code != exitUnchanged {
		t.Errorf("unchanged: %d %s", code, out)
	}
	broken := filepath.Join(t.TempDir(), "haproxy.cfg.tmpl")
	if err := os.WriteFile(broken, []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := r.once("--once", "--template", broken); code != exitInvalid || !strings.Contains(out, "nonsense") {
		t.Errorf("invalid: %d %s", code, out)
	}
	if data, err := os.ReadFile(filepath.Join(r.dir, "haproxy.cfg")); err != nil || strings.HasPrefix(string(data), "nonsense") {
		t.Error("an invalid file was written")
	}
	r.consul.Stop()
	if code, out := r.once("--once", "--timeout", "300ms"); code != exitTimeout || !strings.Contains(out, "catalog/services") {
		t.Errorf("timed out: %d %s", code, out)
	}
}

func TestDryRun_F8_diff(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	args := []string{"--dry-run", "--diff", "--stats-user", "me", "--stats-password", "hunter2"}
	code, out := r.once(args...)
	if code != exitDifferent || !strings.Contains(out, "--- /dev/null\n+++ b/haproxy.cfg") || !strings.Contains(out, "+web/cluster.test/ #") {
		t.Errorf("new: %d\n%s", code, out)
	}
	if strings.Contains(out, "hunter2") {
		t.Error("the password was printed")
	}
	if entries, err := os.ReadDir(r.dir); err != nil || len(entries) > 0 {
		t.Errorf("touched: %v, %v", entries, err)
	}
	if code, out := r.once("--once"); code != 0 {
		t.Fatal(out)
	}
	mode := func() os.FileMode {
		t.Helper()
		info, err := os.Stat(filepath.Join(r.dir, "haproxy.cfg"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if mode() != 0o644 {
		t.Errorf("mode %o without a password", mode())
	}
	if code, out := r.once("--once", "--stats-user", "me", "--stats-password", "hunter2"); code != 0 {
		t.Fatal(out)
	}
	if mode() != 0o640 {
		t.Errorf("mode %o with a password in the file", mode())
	}
	if code, out := r.once(args...); code != 0 || out != "" {
		t.Errorf("equal: %d\n%s", code, out)
	}
	r.register("web", r.web("b"), "passing", host("cluster.test"))
	code, out = r.once(args...)
	if code != exitDifferent || strings.Count(out, "\n+") != 2 {
		t.Errorf("one server more: %d\n%s", code, out)
	}
}

func TestRun_F37_theSecondRefuses(t *testing.T) {
	r := newRig(t, "haproxy")
	c := r.confgen()
	testbed.Eventually(t, 5*time.Second, "the first holds the folder", func() error {
		_, err := os.Stat(filepath.Join(r.dir, ".fairway", "lock"))
		return err
	})
	if code, out := r.once("--once"); code != 1 || !strings.Contains(out, "another confgen") {
		t.Errorf("%d %s", code, out)
	}
	c.stop()
}

func TestRun_F44_proxyAsChild(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, kind)
			a, b := r.web("a"), r.web("b")
			r.register("web", a, "passing", host("cluster.test"))
			c := r.confgen("--", testbed.Program(t, kind))
			c.ready()
			r.answers("cluster.test", "a")
			r.register("web", b, "passing", host("cluster.test"))
			r.answers("cluster.test", "a", "b")
			r.register("other", r.web("other"), "passing", host("other.test"))
			r.answers("other.test", "other")
			r.deregister(a)
			r.answers("cluster.test", "b")
			c.stop()
			if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "cluster.test"); code != 0 {
				t.Errorf("the child outlives confgen: %d", code)
			}
		})
	}
}
