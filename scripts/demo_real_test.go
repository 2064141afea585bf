//go:build real

// Package scripts_test runs the scripts that no other package's tests run.
package scripts_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// demo runs scripts/demo on the network of an engine of the test's own.
type demo struct {
	t      *testing.T
	engine *testbed.Engine
	env    []string
}

func newDemo(t *testing.T, env ...string) *demo {
	engine := testbed.Docker(t)
	env = append(env, "DOCKER_HOST="+engine.Host, "FAIRWAY_DEMO_STATE="+t.TempDir())
	return &demo{t: t, engine: engine, env: env}
}

// inside prepares a command in the engine's network, where the demo's 127.0.0.1 is.
func (d *demo) inside(env []string, args ...string) *exec.Cmd {
	args = append([]string{"--net=/var/run/netns/" + d.engine.Namespace}, args...)
	cmd := exec.Command(testbed.Program(d.t, "nsenter"), args...)
	cmd.Env = append(append(os.Environ(), d.env...), env...)
	return cmd
}

// run runs scripts/demo to its end.
func (d *demo) run(env []string, verb string) (string, error) {
	out, err := d.inside(env, filepath.Join(testbed.Root(), "scripts", "demo"), verb).CombinedOutput()
	return string(out), err
}

func (d *demo) up(env ...string) string {
	d.t.Helper()
	out, err := d.run(env, "up")
	if err != nil {
		d.t.Fatalf("scripts/demo: %v\n%s", err, out)
	}
	d.t.Logf("%s", out)
	return out
}

// answered waits until the front end answers for the host, and returns how long that took.
func (d *demo) answered(port int, host string) time.Duration {
	d.t.Helper()
	began := time.Now()
	testbed.Eventually(d.t, 10*time.Second, host+" is answered", func() error {
		out, err := d.inside(nil, "curl", "-sS", "-f", "-m", "5", "-o", "/dev/null", "-H", "Host: "+host,
			fmt.Sprintf("http://127.0.0.1:%d/", port)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return time.Since(began)
}

var zeroFailed = regexp.MustCompile(`[1-9]\d* requests, 0 failed;`)

// What issue 2 promises of make demo, on both ways in which its parts may be connected.
func TestDemo(t *testing.T) {
	for _, network := range []string{"host", "bridge"} {
		t.Run(network, func(t *testing.T) {
			d := newDemo(t, "FAIRWAY_DEMO_NETWORK="+network)
			out := d.up()
			for _, want := range []string{"answered by web-1,", "answered by web-2,", "answered by web-3,", "\n  web\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("the demo does not show %q", want)
				}
			}
			if !zeroFailed.MatchString(out) {
				t.Error("requests failed while a container was stopped, or none was made")
			}

			// A newcomer's own container, with one label.
			d.engine.Run("run", "-d", "-P", "--name", "mine", "--label", "fairway.host=my.test", "fairway/web")
			t.Logf("my.test answered %s after docker run returned", d.answered(8080, "my.test").Round(time.Millisecond))
			if network == "host" { // and one on a network of its own
				d.engine.Run("network", "create", "elsewhere")
				d.engine.Run("run", "-d", "-P", "--network", "elsewhere", "--name", "mine-2", "--label", "fairway.host=other.test", "fairway/web")
				d.answered(8080, "other.test")
				d.engine.Run("rm", "-f", "mine-2")
			}

			// The same once more, elsewhere, with programs that have changed; the newcomer's stays
			// and is routed again.
			if out := d.up("PORT=8089", "VERSION=another"); !zeroFailed.MatchString(out) {
				t.Error("the second time, requests failed")
			}
			d.answered(8089, "my.test")
			d.engine.Run("rm", "-f", "mine")
			d.down()
		})
	}
}

// down removes every trace.
func (d *demo) down() {
	d.t.Helper()
	if out, err := d.run(nil, "down"); err != nil {
		d.t.Fatalf("scripts/demo down: %v\n%s", err, out)
	}
	for _, left := range []string{
		d.engine.Run("ps", "-a", "--format", "{{.Names}}"),
		d.engine.Run("volume", "ls", "-q"),
		d.engine.Run("images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}}"),
	} {
		if left != "" {
			d.t.Errorf("left behind:\n%s", left)
		}
	}
}

// A port that is taken is found out before anything that runs is touched.
func TestDemo_portTaken(t *testing.T) {
	d := newDemo(t)
	d.engine.Image("fairway/web") // something to listen with
	d.engine.Run("run", "-d", "--network", "host", "--name", "other", "fairway/web", "-listen", "127.0.0.1:8500")
	d.engine.Run("run", "-d", "--name", "earlier", "--label", "org.fairway.demo=1", "fairway/web")
	testbed.Eventually(t, 10*time.Second, "the port is taken", func() error {
		return d.inside(nil, "curl", "-s", "-o", "/dev/null", "http://127.0.0.1:8500/").Run()
	})
	out, err := d.run(nil, "up")
	if err == nil || !strings.Contains(out, "port 8500") || !strings.Contains(out, "CONSUL_PORT=8501") {
		t.Errorf("want a failure that names the port and a way out: %v\n%s", err, out)
	}
	if running := d.engine.Run("ps", "--format", "{{.Names}}"); !strings.Contains(running, "earlier") {
		t.Errorf("what ran was touched: %s", running)
	}
}

func TestDemo_usage(t *testing.T) {
	for _, test := range []struct{ env, verb, want string }{
		{"PORT=http", "up", `PORT "http"`},
		{"PORT=70000", "up", `PORT "70000"`},
		{"PORT=8500", "up", "both 8500"},
		{"SWARM=yes", "up", `SWARM "yes"`},
		{"PORT=8080", "start", `verb "start"`},
	} {
		cmd := exec.Command(filepath.Join(testbed.Root(), "scripts", "demo"), test.verb)
		cmd.Env = append(os.Environ(), test.env)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), test.want) {
			t.Errorf("%s %s: %v, want exit code 2 and %s: %s", test.env, test.verb, err, test.want, out)
		}
	}
}

// The demo needs an engine whose loopback is this machine's.
func TestDemo_remoteEngine(t *testing.T) {
	engine := testbed.Docker(t)
	address := relay(t, strings.TrimPrefix(engine.Host, "unix://"))
	cmd := exec.Command(filepath.Join(testbed.Root(), "scripts", "demo"))
	cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+address, "FAIRWAY_DEMO_STATE="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tcp://"+address) {
		t.Errorf("want a failure that names the engine: %v\n%s", err, out)
	}
}

// relay passes TCP connections on to a unix socket.
func relay(t *testing.T, socket string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go pass(ctx, from, socket)
		}
	}()
	return listener.Addr().String()
}

func pass(ctx context.Context, from net.Conn, socket string) {
	defer from.Close()
	to, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}
