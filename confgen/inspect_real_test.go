//go:build real

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway/internal/daemon"
	"fairway/internal/testbed"

	"github.com/urfave/cli/v2"
)

// oneCommand keeps commands of parallel tests apart: cli has a flag for help that all share.
var oneCommand sync.Mutex

// command runs the program with arguments and returns its exit code and output, or what it would
// say on standard error.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	oneCommand.Lock()
	defer oneCommand.Unlock()
	var out bytes.Buffer
	app := newApp()
	app.Writer, app.ErrWriter = &out, &out
	var said error
	for _, c := range app.Commands {
		action := c.Action
		c.Action = func(ctx *cli.Context) error { said = action(ctx); return said }
	}
	code := daemon.Main(app, append([]string{"confgen"}, args...))
	if said != nil {
		out.WriteString(said.Error())
	}
	return code, out.String()
}

func TestStatus_F66_ofARunningConfgen(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", map[string]string{"fairway-host": "cluster.test", "fairway-hots": "x"})
	r.register("web", r.web("b"), "passing", map[string]string{"fairway-host": "cluster.test"})
	c := r.confgen("--empty-grace", "1h")
	testbed.Eventually(t, 10*time.Second, "the files are there", func() error {
		_, err := os.Stat(filepath.Join(r.dir, "haproxy.cfg"))
		return err
	})
	if code, out := command(t, "status", "--http-addr", c.addr); code != daemon.ExitFailure || !strings.Contains(out, "NOT READY") || !strings.Contains(out, "not running") {
		t.Errorf("without a proxy: %d\n%s", code, out)
	}
	r.haproxy()
	c.ready()
	t.Setenv("CONFGEN_HTTP_ADDR", c.addr) // as in a container, where the daemon is told so too
	code, out := command(t, "status")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"dev, ready", "consul  ", "ok", "confirmed", "2 services, 1 routed with 2 instances", "nothing is held back",
		"1 to 1 backends", "0 maint, 2 ready", c.status().Apply.Structure, "because: start", "problems", "fairway.hots: unknown key",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	code, out = command(t, "status", "--json")
	var s status
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil || s.Servers["ready"] != 2 {
		t.Errorf("%d %v\n%s", code, err, out)
	}
	r.consul.Wipe()
	testbed.Eventually(t, 20*time.Second, "a held answer is told", func() error {
		if _, out := command(t, "status"); !strings.Contains(out, "the catalog has lost every routed service") {
			return errors.New(out)
		}
		return nil
	})
	c.stop()
	if code, out := command(t, "status"); code != daemon.ExitFailure || !strings.Contains(out, "refused") {
		t.Errorf("nobody there: %d %s", code, out)
	}
}

func TestExplain_F65_ofARunningConfgen(t *testing.T) {
	r := newRig(t, "haproxy")
	c := r.confgen()
	r.register("web", r.web("a"), "passing", map[string]string{"fairway-host": "cluster.test"})
	r.register("api", r.web("b"), "passing", map[string]string{"fairway-host": "cluster.test", "fairway-path": "/api"})
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	ask := func(args ...string) (int, string) {
		return command(t, append([]string{"explain", "--http-addr", c.addr}, args...)...)
	}
	url := fmt.Sprintf("http://cluster.test:%d/api/x", r.port)
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{url}, 0, []string{"goes to service api, 1 of 1 servers", "cluster.test /api (service api, on web)", "127.0.0.1:", "ready", "not taken", "the longer path /api goes before /"}},
		{[]string{"cluster.test/api/x"}, 0, []string{"goes to service api"}},
		{[]string{"--json", url}, 0, []string{`"outcome": "goes to service api`, `"pattern": "cluster.test /"`}},
		{[]string{"cluster.tset"}, daemon.ExitFailure, []string{"no route: answered with 404", "nearest", "its host is not cluster.tset"}},
		{[]string{"--entrypoint", "nope", "cluster.test"}, daemon.ExitFailure, []string{"no listener for it; there is web (http, port"}},
		{[]string{"ftp://cluster.test"}, daemon.ExitUsage, []string{"want http or https"}},
		{nil, daemon.ExitUsage, []string{"want one URL"}},
	} {
		code, out := ask(c.args...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q: no %q in\n%s", c.args, want, out)
			}
		}
		if code != c.code {
			t.Errorf("%q: exit code %d, want %d", c.args, code, c.code)
		}
	}
	// The proxy does what is explained.
	if _, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/api/x", r.port), "cluster.test"); body != "b" {
		t.Errorf("answered by %q", body)
	}
	if code, _ := get(t, fmt.Sprintf("http://127.0.0.1:%d/api/x", r.port), "cluster.tset"); code != 404 {
		t.Errorf("an unknown host: %d", code)
	}
}
