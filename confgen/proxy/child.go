package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
)

// ChildOptions say how a proxy runs as a child of this process.
type ChildOptions struct {
	Command []string // haproxy -W -f …; nginx -g 'daemon off;'. It must stay in the foreground.

	// Restart starts the proxy again when it ends, with growing delays; otherwise Run follows
	// it and returns how it ended.
	Restart bool

	Stop        syscall.Signal   // ends it when Run's context ends; 0 for SIGTERM
	StopTimeout time.Duration    // then its process group is killed; 0 for 4 s
	Forward     []syscall.Signal // signals to this process that are meant for the child
	BeforeStart func() error     // for example: remove a socket that a killed nginx left behind

	Stdout, Stderr io.Writer // nil for this process's own
	Log            hclog.Logger
}

// Child runs a proxy as a child process. It is a Signaler, so it is also a way to reload.
type Child struct {
	opt ChildOptions

	mu  sync.Mutex
	cmd *exec.Cmd // while it runs
}

// NewChild returns a child that does not run yet.
func NewChild(opt ChildOptions) (*Child, error) {
	if len(opt.Command) == 0 {
		return nil, errors.New("child process: no command")
	}
	if opt.Stop == 0 {
		opt.Stop = syscall.SIGTERM
	}
	if opt.StopTimeout == 0 {
		opt.StopTimeout = 4 * time.Second
	}
	if opt.Stdout == nil {
		opt.Stdout = os.Stdout
	}
	if opt.Stderr == nil {
		opt.Stderr = os.Stderr
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	return &Child{opt: opt}, nil
}

// Run starts the proxy and stays until it has ended: because ctx did (then the result is nil),
// or by itself. When the process is number 1 of a container, also run Reap.
func (c *Child) Run(ctx context.Context) error {
	// From now on a signal that is to be forwarded does not end this process, also while no child
	// runs.
	signals := make(chan os.Signal, 8)
	if len(c.opt.Forward) > 0 {
		for _, sig := range c.opt.Forward {
			signal.Notify(signals, sig)
		}
		defer signal.Stop(signals)
	}
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 200*time.Millisecond, 15*time.Second
	for {
		began := time.Now()
		err := c.once(ctx, signals)
		if ctx.Err() != nil {
			return nil
		}
		if !c.opt.Restart {
			return err
		}
		if time.Since(began) > time.Minute {
			delay.Reset()
		}
		wait := delay.NextBackOff()
		c.opt.Log.Warn("proxy ended", "command", c.opt.Command[0], "err", err, "restart_in", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// Signal sends sig to the proxy's main process.
func (c *Child) Signal(_ context.Context, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return fmt.Errorf("%w: child %s", ErrNotRunning, c.opt.Command[0])
	}
	if err := c.cmd.Process.Signal(sig); err != nil {
		if errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("%w: child %s has ended", ErrNotRunning, c.opt.Command[0])
		}
		return fmt.Errorf("send %s to %s: %w", sig, c.opt.Command[0], err)
	}
	return nil
}

// PID returns the id of the child, or 0 while it does not run.
func (c *Child) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return 0
	}
	return c.cmd.Process.Pid
}

// once runs the child from start to end. The error is nil when it ended with code 0.
func (c *Child) once(ctx context.Context, signals <-chan os.Signal) error {
	for len(signals) > 0 {
		<-signals // What was meant for the child before needs not be done by a new one.
	}
	if c.opt.BeforeStart != nil {
		if err := c.opt.BeforeStart(); err != nil {
			return fmt.Errorf("prepare %s: %w", c.opt.Command[0], err)
		}
	}
	cmd := exec.Command(c.opt.Command[0], c.opt.Command[1:]...) //nolint:noctx // It ends by its own signal, not by SIGKILL.
	cmd.Stdout, cmd.Stderr = c.opt.Stdout, c.opt.Stderr
	// A group of its own: a Ctrl-C at the terminal is for this process to handle in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A worker that outlives its master keeps the output open; do not wait for that.
	cmd.WaitDelay = 500 * time.Millisecond
	release, err := c.start(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", c.opt.Command[0], err)
	}
	defer release()
	defer c.clear()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = c.watch(ctx, cmd, signals, ended)
	// A worker that outlives its master cannot be spoken to and holds the ports.
	if killErr := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
		return errors.Join(err, fmt.Errorf("end workers of %s: %w", c.opt.Command[0], killErr))
	}
	return err
}

// start starts the child; who asks for it meanwhile waits until it is known.
func (c *Child) start(cmd *exec.Cmd) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	release, err = start(cmd)
	if err == nil {
		c.cmd = cmd
	}
	return release, err
}

func (c *Child) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cmd = nil
}

// watch forwards signals until the child has ended, and ends it when ctx does.
func (c *Child) watch(ctx context.Context, cmd *exec.Cmd, signals <-chan os.Signal, ended <-chan error) error {
	done := ctx.Done()
	var kill <-chan time.Time
	for {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
				return fmt.Errorf("%s: %w", c.opt.Command[0], err)
			}
			return nil
		case sig := <-signals:
			c.pass(cmd, sig)
		case <-done:
			done = nil
			kill = time.After(c.opt.StopTimeout)
			c.pass(cmd, c.opt.Stop)
		case <-kill:
			c.opt.Log.Warn("proxy does not end, killing it", "command", c.opt.Command[0])
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill %s: %w", c.opt.Command[0], err)
			}
		}
	}
}

func (c *Child) pass(cmd *exec.Cmd, sig os.Signal) {
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.opt.Log.Warn("signal not delivered", "signal", sig, "command", c.opt.Command[0], "err", err)
	}
}

// Running returns nil while the proxy runs, else ErrNotRunning.
func (c *Child) Running() error {
	_, err := c.master()
	return err
}

func (c *Child) master() (int, error) {
	if pid := c.PID(); pid > 0 {
		return pid, nil
	}
	return 0, fmt.Errorf("%w: child %s", ErrNotRunning, c.opt.Command[0])
}
