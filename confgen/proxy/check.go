package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Check is the proxy's own checker, run before files are committed.
type Check struct {
	// Command and its arguments; {{file}} stands for the main file and {{dir}} for the folder,
	// both as they will stand: haproxy -c -f {{file}}, nginx -t -c {{file}}.
	Command []string
	Timeout time.Duration // then its whole process group is killed; 0 for 20 s
}

func (c Check) present() bool { return len(c.Command) > 0 }

// check stages want in its own copy of the folder and runs the checker on it. A refusal is a
// *RejectedError; any other error means that nothing was found out.
func (t *Target) check(ctx context.Context, want tree, stage string) error {
	if !t.opt.Check.present() {
		return nil
	}
	c, err := t.newChecking(want, stage)
	if err != nil {
		return fmt.Errorf("stage configuration: %w", err)
	}
	return c.run(ctx)
}

// checking is one run of the checker. It has all that it needs of the target, which may go on
// meanwhile.
type checking struct {
	check  Check
	folder string // that the files are for
	dir    string // the stage
	want   tree
	owned  []string // files that want may lack, and that are not to be seen then
}

func (t *Target) newChecking(want tree, stage string) (*checking, error) {
	owned, err := t.owned()
	if err != nil {
		return nil, err
	}
	return &checking{check: t.opt.Check, folder: t.opt.Dir, dir: t.state(stage), want: want, owned: owned}, nil
}

func (c *checking) run(ctx context.Context) error {
	if err := c.stage(); err != nil {
		return fmt.Errorf("stage configuration: %w", errors.Join(err, os.RemoveAll(c.dir)))
	}
	output, err := runCheck(ctx, c.check, c.dir, filepath.Join(c.dir, filepath.FromSlash(c.want.main)))
	if removeErr := os.RemoveAll(c.dir); removeErr != nil {
		return fmt.Errorf("remove stage: %w", removeErr)
	}
	output = strings.TrimSpace(strings.ReplaceAll(output, c.dir, c.folder))
	refusal := &RejectedError{By: ByCheck, Generation: c.want.generation, Output: output, key: c.want.sum()}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errCheckTimeout):
		refusal.Hung, refusal.Output = true, err.Error()+": "+output
		return refusal
	case errors.As(err, &exit):
		return refusal
	}
	return fmt.Errorf("run checker: %w", err)
}

var errCheckTimeout = errors.New("no verdict in time")

// runCheck runs the checker in a process group of its own, so that all it started ends with it.
func runCheck(ctx context.Context, c Check, dir, file string) (string, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errCheckTimeout)
	defer cancel()
	args := make([]string, len(c.Command))
	for i, arg := range c.Command {
		args[i] = strings.NewReplacer("{{file}}", file, "{{dir}}", dir).Replace(arg)
	}
	var output limited
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &output, &output
	err := runGroup(cmd)
	if errors.Is(context.Cause(ctx), errCheckTimeout) {
		err = fmt.Errorf("%w (%s)", errCheckTimeout, timeout)
	}
	return output.String(), err
}

// runGroup runs a command whose whole process group is killed when its context ends.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	release, err := start(cmd)
	if err != nil {
		return err
	}
	defer release()
	return cmd.Wait()
}

// limited keeps the beginning of what a program prints.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := 64<<10 - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// stage builds the folder as it will stand: want's files for real, everything else as symbolic
// links, so that includes and certificates are found. Absolute references to staged files, and
// to the folders that they lie in, are turned to the stage.
func (c *checking) stage() error {
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	turn := c.references()
	for _, f := range c.want.files {
		if err := c.stageFile(f, turn); err != nil {
			return err
		}
	}
	return linkRest(c.folder, c.dir, "", func(rel string) bool {
		return rel == stateDir || slices.Contains(c.owned, rel) && !c.want.has(rel)
	})
}

// stageFile writes a text with its references turned. There is none without the folder's name.
func (c *checking) stageFile(file entry, turn *strings.Replacer) error {
	dest := filepath.Join(c.dir, filepath.FromSlash(file.path))
	if err := os.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.write(f, filepath.ToSlash(c.folder), turn), f.Close())
}

// references returns the replacer of absolute paths, longest first.
func (c *checking) references() *strings.Replacer {
	var paths []string
	for _, f := range c.want.files {
		paths = append(paths, f.path)
		if folder := filepath.ToSlash(filepath.Dir(f.path)); folder != "." {
			paths = append(paths, folder+"/")
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, path := range paths {
		pairs = append(pairs, filepath.ToSlash(c.folder)+"/"+path, filepath.ToSlash(c.dir)+"/"+path)
	}
	return strings.NewReplacer(pairs...)
}

// linkRest links everything of from/rel into to/rel that is not there and not skipped.
func linkRest(from, to, rel string, skip func(rel string) bool) error {
	entries, err := os.ReadDir(filepath.Join(from, rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(rel, e.Name())
		if skip(filepath.ToSlash(path)) || temporary.MatchString(e.Name()) {
			continue
		}
		there, err := os.Lstat(filepath.Join(to, path))
		switch {
		case err == nil && there.IsDir():
			err = linkRest(from, to, path, skip)
		case errors.Is(err, fs.ErrNotExist):
			err = os.Symlink(filepath.Join(from, path), filepath.Join(to, path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
