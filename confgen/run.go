package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fairway/confgen/ctmpl"
	"fairway/confgen/proxy"
	"fairway/confgen/watch"
	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/internal/reconcile"

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

// program is the parts of a running confgen: what all proxies share, and the proxies.
type program struct {
	config  Config
	d       *daemon.Daemon
	wake    reconcile.Wake // what --once waits with
	watcher *watch.Watcher
	follow  *ctmpl.Follower // of what templates ask for
	fronts  fronts
	reload  reloadState
}

// newProgram builds the parts; nothing is contacted or written yet.
func newProgram(config Config, d *daemon.Daemon, consulPart func(error)) (*program, error) {
	p := &program{config: config, d: d, wake: reconcile.NewWake()}
	opt := config.Proxies[0]
	client, err := consul.New(opt.Consul)
	if err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	p.watcher, err = watch.New(watch.Options{
		Client: client, Prefix: opt.Routing.Prefix, Connections: opt.Consul.MaxConns,
		Grace: opt.EmptyGrace, Losses: opt.Guard, File: opt.Snapshot, Log: d.Log.Named("watch"),
		Changed: p.changed, Condition: consulPart,
	})
	if err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	// Connections of their own: a template that asks for much does not delay the routes.
	forTemplates := opt.Consul
	forTemplates.MaxConns = opt.TemplateConns
	if client, err = consul.New(forTemplates); err != nil {
		return nil, daemon.Usagef("%w", err)
	}
	p.follow = ctmpl.NewFollower(client, opt.TemplateConns, d.Log.Named("templates"), p.changed)
	for _, opt := range config.Proxies {
		f, err := newFront(opt, d, p.watcher, p.follow, nil)
		if err != nil {
			p.close()
			return nil, err
		}
		p.fronts.list = append(p.fronts.list, f)
	}
	return p, nil
}

// changed wakes everybody who acts on the catalog.
func (p *program) changed() {
	p.wake.Now()
	for _, f := range p.fronts.all() {
		f.wake.Now()
	}
}

// close gives everything free.
func (p *program) close() {
	for _, f := range p.fronts.all() {
		f.close()
	}
}

// run keeps the proxies equal to the catalog until ctx ends. It returns an error only for what
// trying again cannot mend; Consul and a proxy being away is not of that kind.
func run(ctx context.Context, config Config, d *daemon.Daemon) error {
	p, err := newProgram(config, d, d.Condition("consul").Set)
	if err != nil {
		return err
	}
	defer p.close()
	for _, f := range p.fronts.all() {
		// A folder that cannot be written may be mended while confgen waits; one that belongs to
		// somebody else is a mistake of whoever starts it.
		if err := f.target.Lock(); errors.Is(err, proxy.ErrLocked) || errors.Is(err, proxy.ErrBindMount) {
			return err
		}
		f.begin("start", nil, &p.reload)
	}
	d.Metrics.MustRegister(catalogMetrics{p.watcher}, p.reload.metric())
	d.Handle("GET /{$}", http.HandlerFunc(p.page))
	d.Handle("GET /proxies", http.HandlerFunc(p.fronts.names))
	d.Handle("GET /status", p.fronts.page(func(f *front) http.Handler { return f.report }))
	d.Handle("GET /explain", p.fronts.page(func(f *front) http.Handler { return http.HandlerFunc(f.report.explained) }))
	return d.Serve(ctx, p.work)
}

// work follows the catalog and runs the proxies' loops.
func (p *program) work(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	if os.Getpid() == 1 {
		go proxy.Reap(ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return p.follow.Run(ctx) })
	for _, f := range p.fronts.all() {
		f.run(ctx, group)
	}
	group.Go(func() error { return p.obey(ctx, hup, group) })
	group.Go(func() error { return p.control(ctx) })
	return group.Wait()
}
