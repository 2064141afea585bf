package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fairway/confgen/ctmpl"
	"fairway/confgen/docker"
	"fairway/confgen/proxy"
	"fairway/confgen/watch"
	"fairway/internal/daemon"
	"fairway/internal/reconcile"

	"github.com/hashicorp/go-hclog"
)

// front is one proxy and all that is its own: its templates, its folder, its wake. Fronts share
// the catalog and nothing else, so that what ails one is not felt by another.
type front struct {
	opt     Options
	d       *daemon.Daemon
	log     hclog.Logger
	watcher *watch.Watcher
	wake    reconcile.Wake
	again   chan os.Signal // has the templates read again
	source  *source
	secrets *secrets
	target  *proxy.Target
	process *process // nil unless the proxy is a child
	closers []func() error

	quarantine *quarantine

	// From here on only of a front that runs.
	ready  *daemon.Condition
	report *report
	stop   context.CancelFunc
	ended  chan struct{}
}

// newFront builds the parts of a proxy; nothing is contacted or written yet. A process that runs
// already is taken over when the options ask for the same one.
func newFront(opt Options, d *daemon.Daemon, watcher *watch.Watcher, follow *ctmpl.Follower, running *process) (*front, error) {
	f := &front{
		opt: opt, d: d, log: d.Log, watcher: watcher, wake: reconcile.NewWake(),
		again: make(chan os.Signal, 1), ended: make(chan struct{}),
	}
	if opt.Name != "" {
		f.log = d.Log.With("proxy", opt.Name)
	}
	f.quarantine = newQuarantine(f.log)
	f.quarantine.recall(keptPath(opt))
	// A template that is broken at the start is not the end: it may be mended, and until then
	// the proxy goes on with what it has.
	var err error
	f.source, err = newSource(opt, follow, f.log.Named("templates"))
	if err != nil && (opt.Once || opt.DryRun) {
		return nil, exit(exitInvalid, err)
	}
	f.secrets = newSecrets(opt, f.log.Named("certificates"))
	f.closers = append(f.closers, f.source.close)
	f.process = running
	if running == nil || !running.fits(opt.Proxy) {
		if f.process, err = newProcess(opt.Proxy, f.log.Named("proxy")); err != nil {
			return nil, daemon.Usagef("%w", err)
		}
	}
	if f.target, err = f.newTarget(); err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	f.closers = append(f.closers, f.target.Close)
	return f, nil
}

// close gives everything free, the last first.
func (f *front) close() {
	for i := range f.closers {
		if err := f.closers[len(f.closers)-1-i](); err != nil {
			f.log.Warn("not closed cleanly", "err", err)
		}
	}
	f.closers = nil
}

// part is what the proxy is called in /readyz.
func (f *front) part() string {
	if f.opt.Name == "" {
		return proxyPart
	}
	return proxyPart + " " + f.opt.Name
}

// begin makes the front known to those who look at the program. why is the reason of its first
// apply; ready is the condition of the front that it takes the place of, nil for none.
func (f *front) begin(why string, ready *daemon.Condition, config *reloadState) {
	if f.ready = ready; ready == nil {
		f.ready = f.d.Condition(f.part())
	}
	metrics := newNumbers(f.d.Metrics, f.opt.Name)
	f.closers = append(f.closers, metrics.close)
	f.report = newReport(f.opt.Name, f.log, metrics, f.watcher, f.source, config)
	f.report.start = why
}

// work keeps the proxy equal to the catalog until ctx ends.
func (f *front) work(ctx context.Context) error {
	templates, stop := context.WithCancel(ctx)
	watching := make(chan error, 2)
	go func() { watching <- f.source.watch(templates, f.again, f.wake.Now) }()
	go func() { watching <- f.secrets.watch(templates, f.wake.Now) }()
	err := f.loop(ctx)
	stop()
	return errors.Join(err, <-watching, <-watching)
}

// loop makes passes until ctx ends, and lets a child start when there is something to start with.
func (f *front) loop(ctx context.Context) error {
	s := &syncer{
		catalog: f.watcher, routing: f.opt.Routing, settings: f.opt.Render,
		files: f.source, secrets: f.secrets, target: f.target, proxy: f.ready, report: f.report,
		quarantine: f.quarantine,
	}
	main := filepath.Join(f.opt.Proxy.Dir, mainFile[f.opt.Proxy.Kind])
	return reconcile.Loop(ctx, f.wake, reconcile.Options{
		Interval: passInterval, Resync: f.opt.Resync, RetryMax: retryMax,
		Failed: func(err error, retryIn time.Duration) {
			f.log.Debug("pass failed", "err", err, "retry_in", retryIn)
		},
	}, func(ctx context.Context) error {
		ctx, cancel := daemon.Outlive(ctx, shutdownGrace)
		defer cancel()
		err := s.pass(ctx)
		f.quarantine.keep()
		if f.process != nil && !f.process.ready {
			if _, missing := os.Stat(main); missing == nil {
				f.process.ready = true
				close(f.process.rendered)
			}
		}
		return err
	})
}

func (f *front) newTarget() (*proxy.Target, error) {
	opt := f.opt.Proxy
	signaler, err := f.signaler()
	if err != nil {
		return nil, err
	}
	common := proxy.Options{
		Dir: opt.Dir, Main: mainFile[opt.Kind],
		Check:          proxy.Check{Command: opt.CheckCommand, Timeout: opt.CheckTimeout},
		ReloadInterval: opt.ReloadInterval, ReloadTimeout: opt.ReloadTimeout,
		InPlace: opt.InPlace, Wake: f.wake.Now, Log: f.log.Named("proxy"),
	}
	if f.opt.Once || f.opt.DryRun {
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
func (f *front) signaler() (proxy.Signaler, error) {
	opt := f.opt.Proxy
	switch opt.Reload.Method {
	case "pidfile":
		return proxy.Process{File: opt.Reload.Arg, Executable: opt.Kind}, nil
	case "command":
		return proxy.Command{Args: strings.Fields(opt.Reload.Arg), Timeout: opt.ReloadTimeout}, nil
	case "child":
		return f.process, nil
	case "container":
		s, err := docker.NewSignaler(opt.Docker, opt.Reload.Arg)
		if err != nil {
			return nil, err
		}
		f.closers = append(f.closers, s.Close)
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
