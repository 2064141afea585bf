//go:build real

// Package examples_test deploys the examples for one Docker host. Those for a Swarm are deployed
// in internal/acceptance.
package examples_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fairway/internal/load"
	"fairway/internal/testbed"
)

// host is a Docker host with every image that the examples use, and what of them is deployed there.
type host struct {
	t       *testing.T
	engine  *testbed.Engine
	file    string
	project string
	env     []string
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, engine: testbed.Docker(t)}
	h.env = append(os.Environ(), "DOCKER_HOST="+h.engine.Host,
		"DOCKER_SOCKET="+strings.TrimPrefix(h.engine.Host, "unix://"),
		"CONSUL_IMAGE=fairway-test/consul", "HAPROXY_IMAGE=fairway-test/haproxy:debian",
		"CONFGEN_STATS_USER=stats", "CONFGEN_STATS_PASSWORD=secret")
	h.run("make", "--silent", "build-linux", "ARCHS="+runtime.GOARCH)
	h.run("scripts/images", "linux/"+runtime.GOARCH)
	h.run("scripts/proxy-image", "haproxy")
	h.run("scripts/proxy-image", "nginx")
	h.run("scripts/consul-image", "fairway-test/consul")
	h.run(testbed.Program(t, "docker"), "build", "--build-arg", "NGINX_IMAGE=fairway-test/nginx:debian", "--tag", "fairway/nginx", "examples/nginx")
	return h
}

// example is the same host with one of the examples, for one test.
func (h *host) example(t *testing.T, project, file string) *host {
	one := *h
	one.t, one.project, one.file = t, project, filepath.Join(testbed.Root(), "examples", file)
	return &one
}

// gone takes everything down and wants nothing to be left.
func (h *host) gone() {
	h.t.Helper()
	h.compose("down", "--volumes", "--timeout", "35")
	if left := h.engine.Run("ps", "-aq") + h.engine.Run("volume", "ls", "-q"); left != "" {
		h.t.Errorf("left behind: %s", left)
	}
}

// run runs a program in the module's folder.
func (h *host) run(program string, args ...string) string {
	h.t.Helper()
	if strings.HasPrefix(program, "scripts/") {
		program = filepath.Join(testbed.Root(), program)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = testbed.Root(), h.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return string(out)
}

func (h *host) compose(args ...string) string {
	h.t.Helper()
	args = append([]string{"--project-name", h.project, "--file", h.file}, args...)
	return h.run(testbed.Program(h.t, "docker-compose"), args...)
}

// get asks the front end once, over a connection of its own.
func (h *host) get(name, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.engine.Address+path, nil)
	if err != nil {
		return nil, err
	}
	request.Host = name
	if name == statsHost {
		request.SetBasicAuth("stats", "secret")
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

// statsHost is the name under which get shows user and password.
const statsHost = "stats.test"

// statsPage checks that HAProxy shows its page to whom it knows, and to nobody else.
func (h *host) statsPage() {
	h.t.Helper()
	for name, want := range map[string]int{statsHost: http.StatusOK, "cluster.test": http.StatusUnauthorized} {
		if response, err := h.get(name, "/haproxy?stats"); err != nil || response.StatusCode != want {
			h.t.Errorf("/haproxy?stats for %s: %v, %v; want %d", name, response, err, want)
		}
	}
}

// answering waits until exactly n containers answer for the name.
func (h *host) answering(name string, n int) {
	h.t.Helper()
	testbed.Eventually(h.t, time.Minute, fmt.Sprintf("%d containers answer for %s", n, name), func() error {
		seen := map[string]bool{}
		for range 4 * n {
			response, err := h.get(name, "/")
			if err != nil {
				return err
			}
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", response.StatusCode)
			}
			seen[response.Header.Get("X-Served-By")] = true
		}
		if len(seen) != n {
			return fmt.Errorf("answers of %d: %v", len(seen), seen)
		}
		return nil
	})
}

// Each example for Compose: it comes up, scales up and down without a failed request, routes a
// container of another hand, survives the loss of Consul and a restart of the front end, and goes.
func TestCompose(t *testing.T) {
	host := newHost(t)
	for _, test := range []struct {
		file, front string
		keepAlive   int // nginx before 1.27.4 may cut kept connections at a reload (docs/findings.md)
	}{
		{"compose.yml", "haproxy", 4},
		{"compose-nginx.yml", "nginx", 0},
	} {
		t.Run(test.file, func(t *testing.T) {
			h := host.example(t, "example", test.file)
			h.compose("up", "-d")
			h.answering("cluster.test", 1)
			if response, err := h.get("nobody.test", "/"); err != nil || response.StatusCode != http.StatusNotFound {
				t.Errorf("a name that nobody asked for: %v, %v; want 404", response, err)
			}
			if test.front == "haproxy" {
				h.statsPage()
			}

			run, err := load.Start(t.Context(), load.Options{
				Address: h.engine.Address + ":80", Host: "cluster.test", KeepAlive: test.keepAlive, NewConn: 4, Rate: 200,
			})
			if err != nil {
				t.Fatal(err)
			}
			h.compose("up", "-d", "--scale", "web=3")
			h.answering("cluster.test", 3)
			h.compose("up", "-d", "--scale", "web=1")
			h.answering("cluster.test", 1)
			if report := run.Stop(); report.Failed > 0 || report.Requests == 0 {
				t.Errorf("%d of %d requests failed: %+v", report.Failed, report.Requests, report.Failures)
			}

			h.engine.Run("run", "-d", "--name", "mine", "--network", "fairway", "--label", "fairway.host=my.test", "fairway/web")
			h.answering("my.test", 1)

			h.compose("stop", "consul")
			h.compose("restart", "--timeout", "35", test.front)
			h.answering("cluster.test", 1)
			h.compose("start", "consul")
			h.compose("up", "-d", "--scale", "web=2")
			h.answering("cluster.test", 2)

			h.engine.Run("rm", "-f", "mine")
			h.gone()
		})
	}
}
