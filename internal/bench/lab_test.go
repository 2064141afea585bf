//go:build bench

// Package bench measures the whole chain, from a container to an answer through the front end,
// beside other tools where they are at hand.
package bench

import (
	"bufio"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"fairway/internal/testbed"
)

// host is the name that the containers of the benchmark are asked for by.
const host = "bench.test"

// lab is a Docker Engine, a Consul server and a place for a front end.
type lab struct {
	b      testing.TB
	engine *testbed.Engine // nil where there are no containers
	consul *testbed.ConsulServer
	dir    string
	front  string // host:port of the front end
	host   string // that it is asked for
	number int    // of containers made
	round  int    // questions without a pause; askRound when zero
}

func newLab(b testing.TB, dockerd ...string) *lab {
	l := &lab{b: b, engine: testbed.Docker(b, dockerd...), consul: testbed.Consul(b), dir: b.TempDir(), host: host}
	l.front = fmt.Sprintf("127.0.0.1:%d", testbed.Port(b))
	l.engine.Image("web")
	return l
}

// spawn starts a program in the lab's folder and ends it with the benchmark. What it prints is
// shown when the benchmark fails.
func (l *lab) spawn(program string, args ...string) *exec.Cmd {
	l.b.Helper()
	log, err := os.CreateTemp(l.dir, filepath.Base(program)+"-*.log")
	if err != nil {
		l.b.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, log, log
	cmd.Env = os.Environ()
	if l.engine != nil {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+l.engine.Host)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && l.b.Failed() {
			l.b.Logf("%s said:\n%s", program, text)
		}
	})
	return cmd
}

// create makes a container of the benchmark's service that is not started yet. extra goes to the
// web server.
func (l *lab) create(extra ...string) (name string) {
	l.b.Helper()
	l.number++
	name = fmt.Sprintf("bench-%d", l.number)
	args := []string{
		"create", "--name", name, "-P", "--label", "fairway.host=" + host,
		"-e", "SERVICE_NAME=bench", "web", "-name", name, "-drain", "0s",
	}
	l.engine.Run(append(args, extra...)...)
	return name
}

// start starts a container and returns when the engine says that it has.
func (l *lab) start(name string) {
	l.b.Helper()
	if err := l.engine.Client.ContainerStart(l.b.Context(), name, container.StartOptions{}); err != nil {
		l.b.Fatal(err)
	}
}

// running starts n containers and waits until all of them answer.
func (l *lab) running(n int, extra ...string) (names []string) {
	l.b.Helper()
	for range n {
		names = append(names, l.create(extra...))
		l.start(names[len(names)-1])
	}
	seen := map[string]bool{}
	l.ask(time.Minute, func(by string) bool {
		seen[by] = true
		return len(seen) == n
	})
	return names
}

// remove kills a container and waits until nobody has been answered by it for a while.
func (l *lab) remove(name string) {
	l.b.Helper()
	l.engine.Run("rm", "-f", name)
	last := time.Now()
	l.ask(time.Minute, func(by string) bool {
		if by == name {
			last = time.Now()
		}
		return time.Since(last) > 500*time.Millisecond
	})
}

// ask asks the front end again and again, one request after the other, until enough says that
// an answer was the last. Failures are tried again: here time is measured, not loss.
func (l *lab) ask(within time.Duration, enough func(servedBy string) bool) {
	l.b.Helper()
	if !l.answers(within, enough) {
		l.b.Fatalf("the front end did not answer as expected within %s", within)
	}
}

// answers is ask where that may fail.
func (l *lab) answers(within time.Duration, enough func(servedBy string) bool) bool {
	deadline := time.Now().Add(within)
	for time.Now().Before(deadline) {
		conn, err := net.DialTimeout("tcp", l.front, time.Second)
		if err != nil {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		done := l.askOver(conn, enough)
		_ = conn.Close()
		if done {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// askRound is how many questions follow each other without a pause: enough to come to every one of
// ten servers of a service and a new one, so that this is met in the first round that it has a part
// in. Where there are fewer, fewer take less of the processor that is measured.
const askRound = 16

// askOver asks over one connection until that fails or enough says so.
func (l *lab) askOver(conn net.Conn, enough func(string) bool) bool {
	r := bufio.NewReader(conn)
	for asked := 1; ; asked++ {
		if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", l.host); err != nil {
			return false
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		by := ""
		if resp.StatusCode == http.StatusOK {
			by = resp.Header.Get("X-Served-By")
		}
		if enough(by) {
			return true
		}
		if by == "" {
			return false // an error page: let the others have the processor
		}
		if asked%cmp.Or(l.round, askRound) == 0 {
			time.Sleep(time.Millisecond) // as well: what is measured is no load test
		}
	}
}
