//go:build real

package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/internal/testbed"

	"github.com/hashicorp/go-hclog"
)

// nginxRig is a real nginx, its folder and a target for it.
type nginxRig struct {
	*rig
	servers  []string
	extra    string
	unmarked bool
}

func newNginxRig(t testing.TB, change ...func(*Options, *Nginx)) *nginxRig {
	t.Helper()
	n := &nginxRig{rig: newRig(t)}
	_ = n.target.Close()
	dir := n.world.dir
	program := testbed.Program(t, "nginx")
	child, err := NewChild(ChildOptions{
		Command: []string{program, "-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;", "-e", filepath.Join(dir, "run/error.log")},
		Stop:    syscall.SIGQUIT, StopTimeout: time.Second, Stdout: n.output, Stderr: n.output,
		BeforeStart: func() error { return errors.Join(nil, removeSocket(filepath.Join(dir, "run/status.sock"))) },
	})
	if err != nil {
		t.Fatal(err)
	}
	n.child = child
	opt := Options{
		Dir: dir, Main: "nginx.conf",
		Check:          Check{Command: []string{program, "-t", "-c", "{{file}}", "-e", "stderr"}},
		ReloadInterval: 50 * time.Millisecond, ReloadTimeout: 5 * time.Second,
		Wake: func() {
			select {
			case n.wakes <- struct{}{}:
			default:
			}
		},
		Log: hclog.New(&hclog.LoggerOptions{Output: n.output, Level: hclog.Debug}),
	}
	way := Nginx{Signal: child, Status: "unix:" + filepath.Join(dir, "run/status.sock")}
	for _, f := range change {
		f(&opt, &way)
	}
	if n.target, err = NewNginx(opt, way); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.target.Close()
		if log, err := os.ReadFile(filepath.Join(dir, "run/error.log")); err == nil && t.Failed() {
			t.Logf("nginx said:\n%s", log)
		}
	})
	return n
}

func removeSocket(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (n *nginxRig) files() []render.File {
	dir := n.world.dir
	status := "return 200 " + render.Generation + ";"
	if n.unmarked {
		status = "return 200 something;"
	}
	main := fmt.Sprintf(`user root;
pid %[1]s/run/nginx.pid;
worker_processes 2;
worker_shutdown_timeout 3s;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path %[1]s/run/body; proxy_temp_path %[1]s/run/proxy; fastcgi_temp_path %[1]s/run/f; uwsgi_temp_path %[1]s/run/u; scgi_temp_path %[1]s/run/s;
  server { listen unix:%[1]s/run/status.sock; location = /generation { %[2]s } }
  include conf.d/*.conf;
  include %[1]s/conf.d/*.inc;
  server { listen 127.0.0.1:%[3]s; location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://a; } }
}
`, dir, status, n.world.port)
	upstream := "upstream a { keepalive 8;"
	for _, s := range n.servers {
		upstream += " server " + s + ";"
	}
	return []render.File{
		{Path: "nginx.conf", Data: []byte(main)},
		{Path: "conf.d/a.conf", Data: []byte(upstream + " }\n")},
		{Path: "conf.d/b.inc", Data: []byte("# " + n.extra + "\n" + n.extra + "\n")},
	}
}

func (n *nginxRig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.stop, n.ended = cancel, make(chan error, 1)
	go func() { n.ended <- n.child.Run(ctx) }()
	testbed.Eventually(n.t, 5*time.Second, "nginx answers", func() error {
		_, err := n.target.driver.(*nginxDriver).generation(n.t.Context())
		return err
	})
}

func (n *nginxRig) apply() (Result, error) {
	for {
		res, err := n.target.Apply(n.t.Context(), n.files())
		if res.Deferred == "" {
			return res, err
		}
		<-n.wakes
	}
}

func (n *nginxRig) expect(reloads int, what string) {
	n.t.Helper()
	res, err := n.apply()
	if err != nil || res.Reloads != reloads {
		n.t.Fatalf("%s: %+v %v, expected %d reloads", what, res, err, reloads)
	}
	if got, err := n.target.driver.(*nginxDriver).generation(n.t.Context()); !n.unmarked && (err != nil || got != res.Generation) {
		n.t.Errorf("%s: nginx reports %q %v, expected %s", what, got, err, res.Generation)
	}
}

func (n *nginxRig) up() {
	n.t.Helper()
	if _, err := n.apply(); !errors.Is(err, ErrNotRunning) {
		n.t.Fatalf("apply without nginx: %v, expected ErrNotRunning", err)
	}
	n.run()
	n.expect(0, "nginx came up with our files")
}

func TestNginx_F26_F30_reloadAndRestore(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t)
	web := backends(t, 3)
	n.servers = web[:1]
	n.up()
	n.servers = web
	n.expect(1, "servers added")
	n.expect(0, "nothing changed")

	before := n.snapshot()
	rejected := func(by string, reloads int) {
		t.Helper()
		res, err := n.apply()
		var r *RejectedError
		if !errors.As(err, &r) || r.By != by || res.Reloads != reloads {
			t.Fatalf("%+v %v, expected a rejection by %s after %d reloads", res, err, by, reloads)
		}
		if fmt.Sprint(n.snapshot()) != fmt.Sprint(before) {
			t.Errorf("files changed: %s", n.snapshot())
		}
	}
	// F30: the checker finds what is wrong in an included file, relative or absolute.
	n.extra = "nonsense on;"
	rejected("check", 0)
	if _, err := n.apply(); !strings.Contains(err.Error(), filepath.Join(n.world.dir, "conf.d/b.inc:2")) {
		t.Errorf("expected file and line of the real place: %v", err)
	}
	// F26: nginx -t does not see a taken port; the reload fails and says so only in the log.
	port := strings.TrimPrefix(strings.SplitN(taken(t), "bind ", 2)[1], "")
	n.extra = "server { listen " + strings.TrimSpace(port) + "; }"
	n.target.driver.(*nginxDriver).timeout = 2 * time.Second
	rejected("reload", 1)
	rejected("reload", 0)
	n.target.driver.(*nginxDriver).timeout = 5 * time.Second
	n.extra = ""
	n.expect(0, "the old configuration is wanted again")
	n.extra = "server_tokens off;"
	n.expect(1, "a good one")
}

func TestNginx_F28_signalAcceptedNothingLoaded(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t, func(o *Options, way *Nginx) {
		o.Check, o.ReloadTimeout = Check{}, 2*time.Second
		way.Signal = Process{File: filepath.Join(o.Dir, "run/nginx.pid"), Executable: "nginx"}
	})
	n.servers = backends(t, 1)
	n.up()
	before := n.snapshot()
	n.extra = "nonsense on;"
	var rejected *RejectedError
	if res, err := n.apply(); !errors.As(err, &rejected) || res.Reloads != 1 {
		t.Fatalf("%+v %v, expected a rejection by reload", res, err)
	}
	if fmt.Sprint(n.snapshot()) != fmt.Sprint(before) {
		t.Errorf("files changed: %s", n.snapshot())
	}
	n.extra = ""
	n.expect(0, "the old configuration is wanted again")
}

func TestNginx_F26_withoutGeneration(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t)
	web := backends(t, 2)
	n.unmarked, n.servers = true, web[:1]
	n.up()
	n.servers = web[1:]
	n.expect(1, "server changed")
	one := &noRetry{address: "127.0.0.1:" + n.world.port}
	defer one.close()
	// Without a generation the moment when the old workers stop accepting cannot be seen.
	testbed.Eventually(t, time.Second, "the new server answers", func() error {
		if err := one.get("x"); err != nil || one.said != "web1" {
			return fmt.Errorf("answer %q, %w; expected web1's", one.said, err)
		}
		return nil
	})
}

// New connections lose nothing over reloads.
func TestNginx_F49_noRequestLost(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t)
	web := backends(t, 4)
	n.servers = web[:1]
	n.up()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	for range 4 {
		l.done.Go(func() { l.client(ctx, "127.0.0.1:"+n.world.port, "a.test", false, 2*time.Millisecond) })
	}
	for i := range 6 {
		n.servers = web[:1+i%4]
		n.extra = "# " + strconv.Itoa(i)
		n.expect(1, "change "+strconv.Itoa(i))
	}
	l.expectNone(t, 200)
}

// A command to reload cannot say that there is nothing to reload; nginx has to get its first
// files all the same.
func TestNginx_F51_commandBeforeTheFirstStart(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t, func(_ *Options, way *Nginx) {
		way.Signal = Command{Args: []string{"/bin/sh", "-c", "echo nothing to reload; exit 1"}}
	})
	n.servers = backends(t, 1)
	n.up()
}

// F51: nginx is killed; it comes back with what is on disk, and that is confirmed.
func TestNginx_F51_killedAndRestarted(t *testing.T) {
	t.Parallel()
	n := newNginxRig(t)
	n.servers = backends(t, 1)
	n.up()
	n.kill(syscall.SIGKILL)
	n.extra = "server_tokens off;"
	if _, err := n.apply(); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("%v, expected ErrNotRunning", err)
	}
	n.run()
	n.expect(0, "nginx came back with our files")
}
