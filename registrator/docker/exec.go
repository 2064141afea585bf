package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// maxExecOutput is how much of what a command prints is kept; the rest is read and dropped.
const maxExecOutput = 16 << 10

// errStillRuns says that a command that was given up has not ended.
var errStillRuns = errors.New("the last run has not ended yet")

// unfinished are commands that were given up. Docker has no way to end one, so no second is started
// beside it.
type unfinished struct {
	mu  sync.Mutex
	ids map[string]string // container and command → id of the run
}

// Exec runs a command with /bin/sh inside a container and returns its exit code and what it
// printed. When ctx ends first, the command goes on; until it has ended, further calls for it fail.
func (c *Client) Exec(ctx context.Context, id, command string, env []string) (code int, output string, err error) {
	key := id + "\x00" + command
	engine := c.engine.Load()
	if err := c.lastRun(ctx, key); err != nil {
		return 0, "", err
	}
	created, err := engine.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: []string{"/bin/sh", "-c", command}, Env: env, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return 0, "", fmt.Errorf("prepare command: %w", err)
	}
	attached, err := engine.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, "", fmt.Errorf("start command: %w", err)
	}
	defer attached.Close()
	// The stream has no context of its own.
	stop := context.AfterFunc(ctx, attached.Close)
	defer stop()
	printed := &head{left: maxExecOutput}
	if _, err := stdcopy.StdCopy(printed, printed, attached.Reader); err != nil || ctx.Err() != nil {
		c.giveUp(key, created.ID)
		return 0, "", fmt.Errorf("run command: %w", errors.Join(ctx.Err(), err))
	}
	code, err = c.exitCode(ctx, created.ID)
	if err != nil {
		c.giveUp(key, created.ID)
	}
	return code, printed.String(), err
}

// exitCode waits for the end of a command whose output has ended, which is a matter of moments.
func (c *Client) exitCode(ctx context.Context, exec string) (int, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := c.engine.Load().ContainerExecInspect(ctx, exec)
		if err != nil {
			return 0, fmt.Errorf("look at command: %w", err)
		}
		if !state.Running {
			return state.ExitCode, nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for command: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func (c *Client) giveUp(key, exec string) {
	c.unfinished.mu.Lock()
	defer c.unfinished.mu.Unlock()
	if c.unfinished.ids == nil {
		c.unfinished.ids = map[string]string{}
	}
	c.unfinished.ids[key] = exec
}

// forget drops what ran in containers that are no longer there.
func (u *unfinished) forget(there func(id string) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.ids, func(key, _ string) bool {
		id, _, _ := strings.Cut(key, "\x00")
		return !there(id)
	})
}

// lastRun fails while the run of a command that was given up goes on.
func (c *Client) lastRun(ctx context.Context, key string) error {
	c.unfinished.mu.Lock()
	exec := c.unfinished.ids[key]
	c.unfinished.mu.Unlock()
	if exec == "" {
		return nil
	}
	if state, err := c.engine.Load().ContainerExecInspect(ctx, exec); err == nil && state.Running {
		return errStillRuns
	}
	c.unfinished.mu.Lock()
	defer c.unfinished.mu.Unlock()
	delete(c.unfinished.ids, key)
	return nil
}

// head keeps the beginning of what is written to it.
type head struct {
	bytes.Buffer
	left int
}

var _ io.Writer = (*head)(nil)

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.left -= n
	h.Buffer.Write(p[:n]) // never fails
	return len(p), nil
}
