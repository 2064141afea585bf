package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"syscall"

	"fairway/confgen/proxy"

	"github.com/hashicorp/go-hclog"
)

// process is a proxy that runs as a child. It outlives the front that began it when the next one
// asks for the same: no edit of a template's path ends a proxy.
type process struct {
	*proxy.Child
	opt      Proxy
	rendered chan struct{} // closed when there is something to start with
	ready    bool          // rendered is closed
	stop     context.CancelFunc
	ended    chan struct{}
}

func newProcess(opt Proxy, log hclog.Logger) (*process, error) {
	child, err := newChild(opt, log)
	if err != nil || child == nil {
		return nil, err
	}
	return &process{Child: child, opt: opt, rendered: make(chan struct{}), ended: make(chan struct{})}, nil
}

// fits reports whether the process is the one that opt asks for.
func (p *process) fits(opt Proxy) bool {
	o := p.opt
	return o.Kind == opt.Kind && o.Follow == opt.Follow && o.StopTimeout == opt.StopTimeout &&
		o.GenerationSocket == opt.GenerationSocket && reflect.DeepEqual(o.Child, opt.Child)
}

// run runs the proxy, as soon as it has something to start with.
func (p *process) run(ctx context.Context) error {
	defer close(p.ended)
	select {
	case <-ctx.Done():
		return nil
	case <-p.rendered:
	}
	err := p.Child.Run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("proxy has ended")
	}
	return err
}

func newChild(opt Proxy, log hclog.Logger) (*proxy.Child, error) {
	if len(opt.Child) == 0 {
		return nil, nil
	}
	if _, err := exec.LookPath(opt.Child[0]); err != nil {
		return nil, fmt.Errorf("run: the proxy cannot be started: %w", err)
	}
	c := proxy.ChildOptions{
		Command: opt.Child, Restart: !opt.Follow, StopTimeout: opt.StopTimeout, Log: log,
	}
	if opt.Kind == "nginx" {
		c.Stop, c.Forward = syscall.SIGQUIT, []syscall.Signal{syscall.SIGUSR1}
		// A killed nginx leaves its socket behind, and the next one refuses to start.
		c.BeforeStart = func() error { return removeSockets(opt.RunDir, opt.GenerationSocket) }
	} else {
		c.Stop = syscall.SIGUSR1
	}
	return proxy.NewChild(c)
}

// removeSocket removes a unix socket, and nothing else.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if path == "" || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is no socket", path)
	}
	return os.Remove(path)
}
