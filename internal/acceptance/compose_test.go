//go:build cluster

package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestCompose deploys the examples for one Docker host and scales them.
func TestCompose(t *testing.T) {
	for _, file := range []string{"compose.yml", "compose-nginx.yml"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, file)
			p.compose("up", "-d")
			p.answersFrom(1)
			p.compose("up", "-d", "--scale", "web=3")
			p.answersFrom(3)
			p.compose("up", "-d", "--scale", "web=1")
			p.answersFrom(1)
			// A container that knows nothing of the file joins in with one label.
			p.engine.Run("run", "-d", "--name", "joins", "--network", "fairway", "--label", "fairway.host=my.test", "fairway/web")
			p.answers("my.test")
		})
	}
}

// project is a Compose file on an engine of its own.
type project struct {
	t      *testing.T
	engine *testbed.Engine
	file   string
	env    []string
}

func newProject(t *testing.T, file string) *project {
	t.Helper()
	p := &project{t: t, engine: testbed.Docker(t), file: filepath.Join(testbed.Root(), "examples", file)}
	p.env = append(os.Environ(), "DOCKER_HOST="+p.engine.Host, "COMPOSE_PROJECT_NAME=fairway",
		"DOCKER_SOCKET="+p.engine.Host[len("unix://"):],
		"CONSUL_IMAGE=fairway-test/consul", "HAPROXY_IMAGE=fairway-test/haproxy:debian")
	if err := build(); err != nil {
		t.Fatal(err)
	}
	for _, args := range append(imageCommands(), []string{"scripts/consul-image", "fairway-test/consul"}) {
		if err := inModule(p.env, args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := p.command("logs", "--no-color", "--tail", "60").CombinedOutput()
			t.Logf("logs: %v\n%s", err, out)
		}
	})
	return p
}

// command prepares docker compose, in whichever form this machine has it.
func (p *project) command(args ...string) *exec.Cmd {
	program := []string{testbed.Program(p.t, "docker"), "compose"}
	if exec.Command(program[0], "compose", "version").Run() != nil {
		program = []string{testbed.Program(p.t, "docker-compose")}
	}
	args = append(append(program[1:], "-f", p.file), args...)
	cmd := exec.Command(program[0], args...)
	cmd.Env = p.env
	return cmd
}

func (p *project) compose(args ...string) {
	p.t.Helper()
	if err := output(p.command(args...)); err != nil {
		p.t.Fatal(err)
	}
}

// ask asks the front end once and returns who served it.
func (p *project) ask(host string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.engine.Address+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	return resp.Header.Get("X-Served-By"), nil
}

func (p *project) answers(host string) {
	p.t.Helper()
	testbed.Eventually(p.t, time.Minute, host+" answers", func() error {
		_, err := p.ask(host)
		return err
	})
}

func (p *project) answersFrom(n int) {
	p.t.Helper()
	testbed.Eventually(p.t, time.Minute, fmt.Sprintf("%d containers answer", n), func() error {
		return exactly(n, func() (string, error) { return p.ask("cluster.test") })
	})
}

// exactly asks often enough to see whether n answer, and no more.
func exactly(n int, ask func() (string, error)) error {
	seen := map[string]bool{}
	for range 4 * max(n, 1) {
		by, err := ask()
		if err != nil {
			return err
		}
		seen[by] = true
	}
	if len(seen) != n || seen[""] {
		return fmt.Errorf("answers of %v", seen)
	}
	return nil
}

// imageCommands make the images of every example in the engine that docker talks to.
func imageCommands() [][]string {
	return [][]string{
		{"scripts/images", "linux/" + runtime.GOARCH},
		{"scripts/proxy-image", "haproxy"},
		{"scripts/proxy-image", "nginx"},
		{"docker", "build", "-t", "fairway/nginx", "--build-arg", "NGINX_IMAGE=fairway-test/nginx:debian", "examples/nginx"},
	}
}

// inModule runs a program, or a script by its path in the module, in the module's folder.
func inModule(env []string, args ...string) error {
	name := args[0]
	if path := filepath.Join(testbed.Root(), name); filepath.Dir(name) != "." {
		name = path
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Env = env
	return output(cmd)
}

// output runs cmd in the module's folder; its error carries what it printed.
func output(cmd *exec.Cmd) error {
	cmd.Dir = testbed.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, out)
	}
	return nil
}
