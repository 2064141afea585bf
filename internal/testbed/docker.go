package testbed

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/client"
)

// Engine is a real Docker Engine of the test's own, in a network namespace of its own, so that
// several run side by side and none touches the machine's.
type Engine struct {
	Host      string // "unix:///…/docker.sock", for DOCKER_HOST
	Client    *client.Client
	Namespace string // name of its network namespace, for nsenter --net=/var/run/netns/<name>
	Address   string // IPv4 address at which this machine reaches the ports it publishes

	t      testing.TB
	args   []string
	output Log
	proc   *process
}

var engines atomic.Int64

// Docker starts an engine that ends with the test. args are added to dockerd's command line.
// It needs root and a Linux kernel, as dockerd does.
func Docker(t testing.TB, args ...string) *Engine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("tests with a Docker Engine of their own must run as root")
	}
	dockerd, ip := Program(t, "dockerd"), Program(t, "ip")
	dir := tempDir(t, "fairway-docker-")
	e := &Engine{
		Host: "unix://" + dir + "/docker.sock", t: t,
		Namespace: fmt.Sprintf("fwt-%d-%d", os.Getpid(), engines.Add(1)),
	}
	run(t, ip, "netns", "add", e.Namespace)
	e.plug(ip)
	e.args = append([]string{
		"--net=/var/run/netns/" + e.Namespace, dockerd, "--host", e.Host,
		"--data-root", dir + "/data", "--exec-root", dir + "/exec", "--pidfile", dir + "/pid", "--log-level", "warn",
	}, args...)
	c, err := client.NewClientWithOpts(client.WithHost(e.Host), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	e.Client = c
	t.Cleanup(func() {
		e.removeAll()
		e.Stop()
		c.Close()
		for _, pid := range leftOf(t, dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		run(t, ip, "netns", "del", e.Namespace)
		unmountBelow(t, dir)
		if t.Failed() {
			t.Logf("dockerd said:\n%s", e.output.tail())
		}
	})
	e.Start()
	return e
}

// plug joins the engine's namespace to this machine by a cable of its own, a /30 network of
// 10.98.0.0/16. Deleting the namespace takes the cable with it.
func (e *Engine) plug(ip string) {
	e.t.Helper()
	cable := strings.TrimPrefix(e.Namespace, "fwt-") // unique and short enough for an interface
	run(e.t, ip, "link", "add", "fw"+cable, "type", "veth", "peer", "name", "eth0", "netns", e.Namespace)
	run(e.t, ip, "-n", e.Namespace, "link", "set", "lo", "up")
	for range 100 {
		net := rand.IntN(1 << 14)
		here, there := fmt.Sprintf("10.98.%d.%d", net/64, net%64*4+1), fmt.Sprintf("10.98.%d.%d", net/64, net%64*4+2)
		routes, err := exec.Command(ip, "-4", "route", "show", "to", "match", there).Output()
		if err != nil || strings.Contains(string(routes), "10.98.") {
			continue
		}
		run(e.t, ip, "addr", "add", here+"/30", "dev", "fw"+cable)
		run(e.t, ip, "link", "set", "fw"+cable, "up")
		run(e.t, ip, "-n", e.Namespace, "addr", "add", there+"/30", "dev", "eth0")
		run(e.t, ip, "-n", e.Namespace, "link", "set", "eth0", "up")
		run(e.t, ip, "-n", e.Namespace, "route", "add", "default", "via", here)
		e.Address = there
		return
	}
	e.t.Fatal("no free network in 10.98.0.0/16")
}

// Start starts the engine, again with the same data, and waits until it answers.
func (e *Engine) Start() {
	e.t.Helper()
	e.proc = startProcess(e.t, &e.output, Program(e.t, "nsenter"), e.args...)
	Eventually(e.t, 60*time.Second, "dockerd answers", func() error {
		if err := e.proc.err(); err != nil {
			e.t.Fatalf("%v: %s", err, e.output.tail())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := e.Client.Ping(ctx)
		return err
	})
}

// Stop ends the engine; its containers end with it unless it runs with --live-restore.
func (e *Engine) Stop() {
	if e.proc != nil {
		e.proc.stop(syscall.SIGTERM, 30*time.Second)
		e.proc = nil
	}
}

// Run runs the docker command against the engine and returns what it printed, trimmed. A change
// of a Swarm service that met the Swarm's own change of it is made again, as a person would.
func (e *Engine) Run(args ...string) string {
	e.t.Helper()
	for try := 0; ; try++ {
		cmd := exec.Command(Program(e.t, "docker"), args...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return string(bytes.TrimSpace(out))
		}
		if try == 20 || !bytes.Contains(out, []byte("update out of sequence")) {
			e.t.Fatalf("docker %q: %v: %s", args, err, out)
		}
	}
}

// removeAll removes every container, so that no process outlives the test.
func (e *Engine) removeAll() {
	if e.proc == nil || e.proc.err() != nil {
		return
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return
	}
	sh := exec.Command("sh", "-c", docker+` ps -aq | xargs -r `+docker+` rm -f`)
	sh.Env = append(os.Environ(), "DOCKER_HOST="+e.Host)
	if out, err := sh.CombinedOutput(); err != nil {
		e.t.Logf("remove containers: %v: %s", err, out)
	}
}

var web struct {
	sync.Once
	binary []byte
	err    error
}

// Image builds the image name from examples/web: a static web server on port 8080. extra lines are
// added to its Dockerfile.
func (e *Engine) Image(name string, extra ...string) {
	e.t.Helper()
	web.Do(func() { web.binary, web.err = buildStatic("./examples/web") })
	if web.err != nil {
		e.t.Fatal(web.err)
	}
	lines := append([]string{"FROM scratch", "COPY web /web", "EXPOSE 8080"}, extra...)
	dockerfile := strings.Join(append(lines, `ENTRYPOINT ["/web"]`), "\n")
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, f := range []struct {
		name string
		data []byte
	}{{"Dockerfile", []byte(dockerfile)}, {"web", web.binary}} {
		_ = w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.data))})
		_, _ = w.Write(f.data)
	}
	_ = w.Close()
	resp, err := e.Client.ImageBuild(e.t.Context(), &archive, build.ImageBuildOptions{Tags: []string{name}, Remove: true})
	if err != nil {
		e.t.Fatalf("build image %s: %v", name, err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(resp.Body)
	if _, err := e.Client.ImageInspect(e.t.Context(), name); err != nil {
		e.t.Fatalf("build image %s: %v: %s", name, err, said)
	}
}

// buildStatic compiles a main package of this module without cgo.
func buildStatic(pkg string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "fairway-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s", pkg, err, said)
	}
	return os.ReadFile(out)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// leftOf returns the processes that name an engine's folder, and their children: those of containers that
// live on where the engine was killed, or that it lost sight of when it was restarted.
func leftOf(t testing.TB, dir string) (pids []int) {
	t.Helper()
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	children := map[int][]int{}
	for _, folder := range folders {
		pid, _ := strconv.Atoi(filepath.Base(folder))
		stat, _ := os.ReadFile(folder + "/stat") // it may have ended meanwhile
		if fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(fields) > 1 {
			parent, _ := strconv.Atoi(string(fields[1]))
			children[parent] = append(children[parent], pid)
		}
		if line, _ := os.ReadFile(folder + "/cmdline"); bytes.Contains(line, []byte(dir+"/")) {
			pids = append(pids, pid)
		}
	}
	for i := 0; i < len(pids); i++ {
		for _, child := range children[pids[i]] {
			if !slices.Contains(pids, child) {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// unmountBelow unmounts what dockerd left mounted below dir.
func unmountBelow(t testing.TB, dir string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(mounts) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && bytes.HasPrefix(fields[1], []byte(dir+"/")) {
			_ = syscall.Unmount(string(fields[1]), syscall.MNT_DETACH)
		}
	}
}
