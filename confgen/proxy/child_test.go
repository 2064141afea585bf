package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

func scan(text string, to *int) (int, error) { return fmt.Sscan(text, to) }

// childOf runs a shell script as a child.
func childOf(t *testing.T, opt ChildOptions, script string) (*Child, context.CancelFunc, <-chan error) {
	t.Helper()
	opt.Command = []string{"/bin/sh", "-c", script}
	c, err := NewChild(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		ended <- c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done // it writes into a folder that goes
	})
	return c, cancel, ended
}

func waitFor(t *testing.T, path string) {
	t.Helper()
	testbed.Eventually(t, 5*time.Second, "the child writes "+filepath.Base(path), func() error {
		_, err := os.Stat(path)
		return err
	})
}

func TestChild_F44_followsAndForwards(t *testing.T) {
	dir := t.TempDir()
	script := `trap 'echo usr2 >>` + dir + `/got' USR2; trap 'echo usr1 >>` + dir + `/got' USR1; touch ` + dir + `/up; while [ ! -e ` + dir + `/end ]; do sleep 0.02; done; exit 3`
	c, _, ended := childOf(t, ChildOptions{Forward: []syscall.Signal{syscall.SIGUSR1}}, script)
	waitFor(t, dir+"/up")
	if err := c.Signal(t.Context(), syscall.SIGUSR2); err != nil {
		t.Errorf("signal: %v", err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 5*time.Second, "both signals arrive", func() error {
		got, _ := os.ReadFile(dir + "/got")
		if !strings.Contains(string(got), "usr1") || !strings.Contains(string(got), "usr2") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	if err := os.WriteFile(dir+"/end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("run: %v, expected the child's exit code 3", err)
	}
	if err := c.Signal(t.Context(), syscall.SIGUSR2); !errors.Is(err, ErrNotRunning) {
		t.Errorf("signal after the end: %v, expected ErrNotRunning", err)
	}
}

func TestChild_F43_F44_endsInTimeWithItsWorkers(t *testing.T) {
	dir := t.TempDir()
	script := `trap '' TERM; sleep 60 & echo $! >` + dir + `/worker; touch ` + dir + `/up; while :; do sleep 1; done`
	_, cancel, ended := childOf(t, ChildOptions{StopTimeout: 200 * time.Millisecond}, script)
	waitFor(t, dir+"/up")
	began := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v, expected nil after its context ended", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	var pid int
	if _, err := scan(read(t, dir+"/worker"), &pid); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 2*time.Second, "the worker has ended too", func() error {
		if name, _, err := describe(pid); err == nil {
			return fmt.Errorf("process %d (%s) lives on", pid, name)
		}
		return nil
	})
}

// A master that dies and leaves a worker that holds the output and the ports.
func TestChild_F44_restartsAfterItsMasterDied(t *testing.T) {
	dir := t.TempDir()
	var starts atomic.Int32
	var out testbed.Log
	script := `echo $$ >` + dir + `/master; sleep 60 & echo $! >>` + dir + `/workers; touch ` + dir + `/up; wait`
	c, _, _ := childOf(t, ChildOptions{Restart: true, Stdout: &out, Stderr: &out, BeforeStart: func() error { starts.Add(1); return nil }}, script)
	waitFor(t, dir+"/up")
	var first int
	if _, err := scan(read(t, dir+"/master"), &first); err != nil {
		t.Fatal(err)
	}
	if err := c.Signal(t.Context(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 5*time.Second, "started again", func() error {
		if pid := c.PID(); starts.Load() < 2 || pid == 0 || pid == first {
			return fmt.Errorf("starts %d, pid %d", starts.Load(), pid)
		}
		return nil
	})
	worker, _, _ := strings.Cut(read(t, dir+"/workers"), "\n")
	pid, err := strconv.Atoi(worker)
	if err != nil {
		t.Fatal(err)
	}
	if name, _, err := describe(pid); err == nil {
		t.Errorf("process %d (%s) of the dead master lives on", pid, name)
	}
}

func TestReap_F44_orphansAndNobodyElse(t *testing.T) {
	const setChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, setChildSubreaper, 1, 0, 0, 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	defer func() {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_PRCTL, setChildSubreaper, 0, 0, 0, 0, 0)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	reaped := make(chan struct{})
	go func() { Reap(ctx); close(reaped) }()
	for range 20 {
		// Each leaves an orphan that ends a moment later; its own exit code is waited for.
		err := Command{Args: []string{"/bin/sh", "-c", "(sleep 0.05; exit 0) & exit 7"}}.Signal(ctx, 0)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			t.Fatalf("%v, expected exit code 7: the reaper must not take it", err)
		}
	}
	testbed.Eventually(t, 5*time.Second, "no zombie is left", func() error {
		out, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children")
		if err != nil {
			return err
		}
		for pid := range strings.FieldsSeq(string(out)) {
			if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("zombie: %s", stat)
			}
		}
		return nil
	})
	cancel()
	<-reaped
}

func TestReap_F44_leavesWhatIsWaitedFor(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 7")
	release, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	testbed.Eventually(t, 5*time.Second, "the child has ended", func() error {
		if _, _, err := describe(cmd.Process.Pid); err == nil {
			return errors.New("it runs")
		}
		return nil
	})
	if !reapOrphans() {
		t.Error("an ended child that somebody waits for was not seen")
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("wait: %v, expected exit code 7: the reaper took it", err)
	}
}

func TestProcess_pidFileIsNotTrusted(t *testing.T) {
	sleep := exec.CommandContext(t.Context(), "/bin/sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	path := filepath.Join(t.TempDir(), "pid")
	write := func(text string, age time.Duration) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	pid := strconv.Itoa(sleep.Process.Pid)
	for name, tt := range map[string]struct {
		text    string
		age     time.Duration
		program string
		ok      bool
		missing bool // ErrNotRunning
		says    string
	}{
		"right":             {pid + "\n", 0, "sleep", true, false, ""},
		"another program":   {pid, 0, "nginx", false, false, "another pid namespace"},
		"a number reused":   {pid, time.Hour, "sleep", false, true, "used again"},
		"no such process":   {"4194303", 0, "sleep", false, true, "no process"},
		"empty":             {"", 0, "sleep", false, true, "no process id"},
		"a process group":   {"-1", 0, "sleep", false, true, "no process id"},
		"every process":     {"0", 0, "sleep", false, true, "no process id"},
		"this very process": {strconv.Itoa(os.Getpid()), 0, "nginx", false, false, "not nginx"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := exec.CommandContext(t.Context(), "readlink", "/proc/"+pid+"/exe").Output(); err == nil && tt.program == "sleep" {
				tt.program = filepath.Base(strings.TrimSpace(string(out))) // It may be a multi-call binary.
			}
			write(tt.text, tt.age)
			p := Process{File: path, Executable: tt.program}
			err := p.Signal(t.Context(), syscall.SIGCONT)
			if (err == nil) != tt.ok || errors.Is(err, ErrNotRunning) != tt.missing || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, expected ok=%t not running=%t saying %q", err, tt.ok, tt.missing, tt.says)
			}
			if running := p.Running(); (running == nil) != tt.ok {
				t.Errorf("running: %v", running)
			}
		})
	}
	_ = os.Remove(path)
	if err := (Process{File: path}).Signal(t.Context(), 0); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no file: %v, expected ErrNotRunning", err)
	}
}
