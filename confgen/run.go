package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fairway/confgen/docker"
	"fairway/confgen/proxy"
	"fairway/confgen/watch"
	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/internal/reconcile"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

const (
	// passInterval is the least time between two passes. The first change is acted upon at once;
	// only what follows it closely is taken together.
	passInterval = 10 * time.Millisecond

	// retryMax bounds the delay after failed passes. It is short, because what fails most is a
	// proxy that is not up yet, and looking costs little.
	retryMax = 2 * time.Second

	// shutdownGrace is how long a pass that is being made may take when the program is asked to
	// end. What it leaves half done, the next start finishes or undoes.
	shutdownGrace = 3 * time.Second
)

// proxyPart is the condition of the proxy in /readyz.
const proxyPart = "proxy"

// program is the parts of a running confgen.
type program struct {
	opt     Options
	d       *daemon.Daemon
	wake    reconcile.Wake
	watcher *watch.Watcher
	source  *source
	child   *proxy.Child // nil unless the proxy is one
	target  *proxy.Target
	report  *report
	closers []func() error
}

// newProgram builds the parts; nothing is contacted or written yet.
func newProgram(opt Options, d *daemon.Daemon, consulPart func(error)) (*program, error) {
	p := &program{opt: opt, d: d, wake: reconcile.NewWake()}
	client, err := consul.New(opt.Consul)
	if err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	p.watcher, err = watch.New(watch.Options{
		Client: client, Prefix: opt.Routing.Prefix, Connections: opt.Consul.MaxConns,
		Grace: opt.EmptyGrace, File: opt.Snapshot, Log: d.Log.Named("watch"),
		Changed: p.wake.Now, Condition: consulPart,
	})
	if err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	// A template that is broken at the start is not the end: it may be mended, and until then
	// the proxy goes on with what it has.
	p.source, err = newSource(opt.Proxy.Kind, opt.Template, d.Log.Named("templates"))
	if err != nil && (opt.Once || opt.DryRun) {
		return nil, exit(exitInvalid, err)
	}
	if p.child, err = newChild(opt.Proxy, d.Log.Named("proxy")); err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	if p.target, err = p.newTarget(); err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	p.closers = append(p.closers, p.target.Close)
	return p, nil
}

// close gives everything free, the last first.
func (p *program) close() {
	for i := range p.closers {
		if err := p.closers[len(p.closers)-1-i](); err != nil {
			p.d.Log.Warn("not closed cleanly", "err", err)
		}
	}
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
		c.BeforeStart = func() error { return removeSocket(opt.GenerationSocket) }
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

func (p *program) newTarget() (*proxy.Target, error) {
	opt := p.opt.Proxy
	signaler, err := p.signaler()
	if err != nil {
		return nil, err
	}
	common := proxy.Options{
		Dir: opt.Dir, Main: mainFile[opt.Kind],
		Check:          proxy.Check{Command: opt.CheckCommand, Timeout: opt.CheckTimeout},
		ReloadInterval: opt.ReloadInterval, ReloadTimeout: opt.ReloadTimeout,
		InPlace: opt.InPlace, Wake: p.wake.Now, Log: p.d.Log.Named("proxy"),
	}
	if p.opt.Once || p.opt.DryRun {
		common.Wake = nil
	}
	if opt.Kind == "nginx" {
		n := proxy.Nginx{Signal: signaler}
		if opt.GenerationSocket != "" {
			n.Status = "unix:" + opt.GenerationSocket
		}
		return proxy.NewNginx(common, n)
	}
	h := proxy.HAProxy{
		StatsSocket: opt.StatsSocket, Signal: signaler,
		OldWorkers: opt.OldWorkers, TestBind: opt.TestBind,
	}
	if opt.Reload.Method == "master" {
		h.MasterSocket = opt.Reload.Arg
	}
	return proxy.NewHAProxy(common, h)
}

// signaler returns the way to signal the proxy that --reload names; nil for a socket.
func (p *program) signaler() (proxy.Signaler, error) {
	opt := p.opt.Proxy
	switch opt.Reload.Method {
	case "pidfile":
		return proxy.Process{File: opt.Reload.Arg, Executable: opt.Kind}, nil
	case "command":
		return proxy.Command{Args: strings.Fields(opt.Reload.Arg), Timeout: opt.ReloadTimeout}, nil
	case "child":
		return p.child, nil
	case "container":
		s, err := docker.NewSignaler(opt.Docker, opt.Reload.Arg)
		if err != nil {
			return nil, err
		}
		p.closers = append(p.closers, s.Close)
		return proxy.SignalFunc(func(ctx context.Context, sig syscall.Signal) error {
			err := s.Signal(ctx, sig)
			if errors.Is(err, docker.ErrNotRunning) {
				return fmt.Errorf("%w: %w", proxy.ErrNotRunning, err)
			}
			return err
		}), nil
	}
	return nil, nil
}

// run keeps the proxy equal to the catalog until ctx ends. It returns an error only for what
// trying again cannot mend; Consul and the proxy being away is not of that kind.
func run(ctx context.Context, opt Options, d *daemon.Daemon) error {
	p, err := newProgram(opt, d, d.Condition("consul").Set)
	if err != nil {
		return err
	}
	defer p.close()
	// A folder that cannot be written may be mended while confgen waits; one that belongs to
	// somebody else is a mistake of whoever starts it.
	if err := p.target.Lock(); errors.Is(err, proxy.ErrLocked) || errors.Is(err, proxy.ErrBindMount) {
		return err
	}
	ready := d.Condition(proxyPart)
	p.report = newReport(d.Log, d.Metrics, p.watcher, p.source)
	d.Handle("GET /status", p.report)
	d.Handle("GET /explain", http.HandlerFunc(p.report.explained))
	return d.Serve(ctx, func(ctx context.Context) error { return p.work(ctx, ready) })
}

// work runs the loop and all that wakes it.
func (p *program) work(ctx context.Context, ready condition) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return p.source.watch(ctx, hup, p.wake.Now) })
	rendered := make(chan struct{})
	group.Go(func() error { return p.loop(ctx, ready, rendered) })
	if p.child != nil {
		group.Go(func() error { return p.runChild(ctx, rendered) })
	}
	return group.Wait()
}

// loop makes passes until ctx ends. It closes rendered when there is something for a proxy to
// start with.
func (p *program) loop(ctx context.Context, ready condition, rendered chan<- struct{}) error {
	s := &syncer{
		catalog: p.watcher, routing: p.opt.Routing, settings: p.opt.Render,
		files: p.source, target: p.target, proxy: ready, report: p.report,
	}
	main, started := filepath.Join(p.opt.Proxy.Dir, mainFile[p.opt.Proxy.Kind]), false
	return reconcile.Loop(ctx, p.wake, reconcile.Options{
		Interval: passInterval, Resync: p.opt.Resync, RetryMax: retryMax,
		Failed: func(err error, retryIn time.Duration) {
			p.d.Log.Debug("pass failed", "err", err, "retry_in", retryIn)
		},
	}, func(ctx context.Context) error {
		ctx, cancel := outlive(ctx, shutdownGrace)
		defer cancel()
		err := s.pass(ctx)
		if !started {
			if _, missing := os.Stat(main); missing == nil {
				started = true
				close(rendered)
			}
		}
		return err
	})
}

// runChild runs the proxy, as soon as it has something to start with.
func (p *program) runChild(ctx context.Context, rendered <-chan struct{}) error {
	if os.Getpid() == 1 {
		go proxy.Reap(ctx)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-rendered:
	}
	err := p.child.Run(ctx)
	if err == nil && ctx.Err() == nil {
		err = errors.New("proxy has ended")
	}
	return err
}

// outlive returns a context that ends a grace time after its parent, so that what has been begun
// when the program is asked to end can be finished.
func outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}
