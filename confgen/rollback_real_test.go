//go:build real

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// An operator goes back, through the confgen that runs and without one. What was gone back to
// stays, whatever the catalog says, until it is released.
func TestRun_rollback(t *testing.T) {
	r := newRig(t, "haproxy")
	a, b := r.web("a"), r.web("b")
	r.register("web", a, "passing", host("cluster.test"))
	own := filepath.Join(t.TempDir(), "own.tmpl")
	if err := os.WriteFile(own, []byte("fine"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--template", own}
	c := r.confgen(args...)
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	r.register("other", r.web("other"), "passing", host("other.test"))
	r.answers("other.test", "other")
	gone := func(name string) {
		t.Helper()
		testbed.Eventually(t, 10*time.Second, name+" is not routed", func() error {
			if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), name); code != http.StatusNotFound {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
	}
	var out string
	testbed.Eventually(t, 10*time.Second, "what ran before is kept", func() (err error) { // once the reload is confirmed
		if out, err = r.command("rollback", "--dir", r.dir, "--list"); err == nil && !strings.HasPrefix(out, "1  ") {
			err = fmt.Errorf("it lists %q", out)
		}
		return err
	})
	if out, err := r.command("release", "--dir", r.dir); err == nil {
		t.Errorf("released nothing: %q", out)
	}
	if out, err := r.command("rollback", "--dir", r.dir, "9"); err == nil || !strings.Contains(err.Error(), "no such generation: 9") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := r.command("rollback", "--dir", r.dir); err != nil || !strings.Contains(out, "until confgen release") {
		t.Fatalf("%q, %v", out, err)
	}
	gone("other.test")
	// Not the next render, nor a broken template, nor a restart ends it; servers go on.
	r.register("third", r.web("third"), "passing", host("third.test"))
	r.register("web", b, "passing", host("cluster.test"))
	r.answers("cluster.test", "a", "b")
	gone("third.test")
	if out, err := r.command("status", "--http-addr", c.addr); err != nil || !strings.Contains(out, "HELD ON TO") || c.metric("fairway_confgen_pinned") != 1 {
		t.Errorf("status does not tell: %v\n%s", err, out)
	}
	c.stop()
	c = r.confgen(args...)
	c.ready()
	gone("third.test")
	if out, err := r.command("release", "--dir", r.dir); err != nil {
		t.Errorf("%q, %v", out, err)
	}
	r.answers("third.test", "third")
	r.answers("other.test", "other")
	c.stop()

	// Without a running confgen.
	list, err := r.command(append([]string{"rollback", "--list"}, r.line()...)...)
	if err != nil || !strings.HasPrefix(list, "1  ") {
		t.Fatalf("%q, %v", list, err)
	}
	if out, err := r.command(append(append([]string{"rollback"}, r.line()...), "1")...); err != nil {
		t.Fatalf("%q, %v", out, err)
	}
	gone("other.test")
	r.answers("cluster.test", "a", "b")
	c = r.confgen(args...)
	c.ready()
	gone("third.test")
	if out, err := r.command("release", "--dir", r.dir); err != nil {
		t.Errorf("%q, %v", out, err)
	}
	r.answers("third.test", "third")
}

// line is the command line of this rig.
func (r *rig) line() []string {
	return []string{
		"--proxy", r.kind, "--dir", r.dir, "--consul-addr", r.consul.Addr,
		"--entrypoint", fmt.Sprintf("web=127.0.0.1:%d", r.port), "--http-addr", "127.0.0.1:0", "--log-level", "warn",
	}
}
