package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Signaler reaches a proxy's main process with a signal. A signal that cannot be delivered
// because there is no such process is ErrNotRunning. Whether the signal had any effect is
// found out by looking at the proxy, never believed.
type Signaler interface {
	Signal(ctx context.Context, sig syscall.Signal) error
}

// SignalFunc is a Signaler: the Docker API's kill, for a proxy in a container of its own.
type SignalFunc func(ctx context.Context, sig syscall.Signal) error

// Signal calls f.
func (f SignalFunc) Signal(ctx context.Context, sig syscall.Signal) error { return f(ctx, sig) }

// Process signals a process by its id or by a file that holds it. Since ids are reused, and
// since an id read on a shared volume may belong to another pid namespace, the process must be
// what it is expected to be before anything is sent.
type Process struct {
	PID        int    // or:
	File       string // the pid file
	Executable string // base name it must have: "nginx", "haproxy"
}

// Signal checks the process and sends sig.
func (p Process) Signal(_ context.Context, sig syscall.Signal) error {
	pid, err := p.find()
	if err != nil {
		return err
	}
	err = syscall.Kill(pid, sig)
	if errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%w: no process %d", ErrNotRunning, pid)
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", sig, pid, err)
	}
	return nil
}

// find returns the process id after all checks.
func (p Process) find() (int, error) {
	pid, written := p.PID, time.Time{}
	if p.File != "" {
		data, err := os.ReadFile(p.File)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("%w: no pid file %s", ErrNotRunning, p.File)
		}
		if err != nil {
			return 0, fmt.Errorf("read pid file: %w", err)
		}
		if pid, err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil || pid < 1 {
			return 0, fmt.Errorf("%w: pid file %s holds no process id yet", ErrNotRunning, p.File)
		}
		info, err := os.Stat(p.File)
		if err != nil {
			return 0, fmt.Errorf("read pid file: %w", err)
		}
		written = info.ModTime()
	}
	name, began, err := describe(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, fmt.Errorf("%w: no process %d", ErrNotRunning, pid)
	}
	if err != nil {
		return 0, fmt.Errorf("look at process %d: %w", pid, err)
	}
	if p.Executable != "" && name != p.Executable {
		return 0, fmt.Errorf("process %d is %s, not %s: a stale pid file, or one from another pid namespace"+
			" (share the namespace, or reach the proxy by its socket, a command or the Docker API)", pid, name, p.Executable)
	}
	// The start time in /proc has a resolution of 10 ms and its base, the boot time, of 1 s.
	if !written.IsZero() && began.After(written.Add(2*time.Second)) {
		return 0, fmt.Errorf("%w: process %d began after %s was written, so its number was used again", ErrNotRunning, pid, p.File)
	}
	return pid, nil
}

// describe returns the base name of a process's executable and when it began.
func describe(pid int) (name string, began time.Time, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", time.Time{}, err
	}
	// pid (comm) state ppid … starttime is the 22nd field; comm may hold blanks and brackets.
	open, end := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || end < open {
		return "", time.Time{}, fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	name = string(stat[open+1 : end])
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil {
		// Another user's executable cannot be read; then the command name has to do.
		name = filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return "", time.Time{}, fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	if fields[0] == "Z" {
		return "", time.Time{}, fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	boot, err := bootTime()
	if err != nil {
		return "", time.Time{}, err
	}
	const hertz = 100 // USER_HZ is 100 on all of Linux's common architectures.
	return name, boot.Add(time.Duration(ticks) * time.Second / hertz), nil
}

func bootTime() (time.Time, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, "btime "); found {
			seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Unix(seconds, 0), err
		}
	}
	return time.Time{}, errors.New("no boot time in /proc/stat")
}

// Command is a Signaler that runs a program, whatever the signal: `systemctl reload nginx`.
type Command struct {
	Args    []string
	Timeout time.Duration // 0 for 30 s
}

// Signal runs the program; an exit code other than 0 is an error.
func (c Command) Signal(ctx context.Context, _ syscall.Signal) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var output limited
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := runGroup(cmd); err != nil {
		return fmt.Errorf("run %s: %w: %s", strings.Join(c.Args, " "), errors.Join(err, ctx.Err()), strings.TrimSpace(output.String()))
	}
	return nil
}

// Running returns nil, or why the process cannot be signalled.
func (p Process) Running() error {
	_, err := p.find()
	return err
}

func (p Process) master() (int, error) { return p.find() }
