// Package testbed starts the real parts that tests need: Consul servers, Docker Engines and
// programs on PATH. A part that is missing fails the test and says how to get it; nothing skips.
package testbed

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Program returns the path of a program, or fails the test naming it.
func Program(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: run scripts/setup, or install it and put it on PATH", name)
	return ""
}

// Root returns the folder of the module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

var ports struct {
	sync.Mutex
	used map[int]bool
}

// Port returns a TCP port that was free on loopback a moment ago and that no other call in this
// process has returned. It lies below the range that Linux gives to outgoing connections, so that
// none of those takes it in between.
func Port(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.used == nil {
		ports.used = map[int]bool{}
	}
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		if ports.used[port] {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		ports.used[port] = true
		return port
	}
	t.Fatal("no free port on 127.0.0.1")
	return 0
}

// Eventually asks ok again and again until it returns nil; after within, times $FAIRWAY_PATIENCE where
// many tests share a machine, it fails the test with the last answer. Within is for a time that is promised.
func Eventually(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	Within(t, within*patience(t), what, ok)
}

// patience is how many times longer than on a machine of their own tests wait for what must come.
func patience(t testing.TB) time.Duration {
	t.Helper()
	text := os.Getenv("FAIRWAY_PATIENCE")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("FAIRWAY_PATIENCE=%q: want a whole number from 1", text)
	}
	return time.Duration(n)
}

// Within asks ok again and again until it returns nil; after within it fails the test with the last
// answer.
func Within(t testing.TB, within time.Duration, what string, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		<-tick.C
	}
}

// process is a program that a test started; its output is shown when the test fails.
type process struct {
	cmd    *exec.Cmd
	output *Log
	ended  chan struct{}
}

// startProcess starts a program in a process group of its own.
func startProcess(t testing.TB, output *Log, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdout, cmd.Stderr = output, output
	p := &process{cmd: cmd, output: output, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig follows the thread that started the child, so that thread must live as long.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(p.ended)
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	return p
}

// stop asks the process to end, and after grace ends its whole group.
func (p *process) stop(sig syscall.Signal, grace time.Duration) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
	case <-time.After(grace):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

func (p *process) err() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %s", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
	default:
		return nil
	}
}

// tempDir is t.TempDir for processes that may still write while it is removed.
func tempDir(t testing.TB, prefix string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 5 {
			if err = os.RemoveAll(dir); err == nil || errors.Is(err, os.ErrNotExist) {
				return
			}
		}
		t.Logf("remove %s: %v", dir, err)
	})
	return dir
}
