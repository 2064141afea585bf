package main

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/internal/reconcile"
	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/health"
	"fairway/registrator/liveness"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

const (
	// passInterval is the least time between two passes once passBurst of them followed each other
	// at once: the few events of one container are each acted upon, a storm is taken together.
	passInterval = 20 * time.Millisecond
	passBurst    = 4

	// shutdownGrace is how long a pass that is being made, or is due, may take when the program is
	// asked to end, and how long leaving may take after that.
	shutdownGrace = 3 * time.Second
)

// program is the parts of a running registrator.
type program struct {
	opt      Options
	d        *daemon.Daemon
	docker   *docker.Client
	catalog  store
	liveness *liveness.Client // nil in agent mode: the agent's death is the node's
	adopter  *adopter         // nil without --adopt
	checks   *health.Runner
	swarm    *swarmView
	wake     reconcile.Wake
	ending   *atomic.Int64 // rows of containers that are about to end, as the last pass saw them

	dockerPart, eventsPart, consulPart, sessionPart, synced part
}

// run keeps the catalog equal to the containers until ctx ends. It returns an error only for what
// trying again cannot mend; Docker and Consul being away is not of that kind.
func run(ctx context.Context, opt Options, d *daemon.Daemon) error {
	// The conditions of readiness stand before anybody can ask for them.
	p := &program{
		opt: opt, d: d, wake: reconcile.NewWake(), ending: new(atomic.Int64),
		dockerPart: newPart(d, "docker"), eventsPart: newPart(d, "docker-events"),
		consulPart: newPart(d, "consul"), sessionPart: newPart(d, "session"), synced: newPart(d, "first-sync"),
	}
	return d.Serve(ctx, p.run)
}

func (p *program) run(ctx context.Context) error {
	var err error
	p.opt.Docker.Late = p.wake.Now
	if p.docker, err = docker.New(p.opt.Docker); err != nil {
		return daemon.Usagef("%w", err)
	}
	defer p.docker.Close()
	client, err := consul.New(p.opt.Consul)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	engine, err := p.identify(ctx)
	if err != nil {
		return nil // asked to end before Docker ever answered
	}
	options, err := locate(ctx, p.opt, engine)
	if err != nil {
		return err
	}
	p.d.Log.Info("node found", "node", options.Node.Name, "address", nodeAddress(options), "reason", options.AddressFrom)
	p.swarm = newSwarmView(p.docker, swarm.New(client), options.Ingress, p.wake.Now, p.d)
	mode, err := p.choose(ctx, client, options.Node)
	if err != nil {
		return nil // asked to end before Consul ever answered
	}
	p.tellMode(mode)
	if p.adopter, err = newAdopter(p.opt, mode, options, engine, p.wake.Now, p.d.Log); err != nil {
		return daemon.Usagef("%w", err)
	}
	checks := health.Options{Exec: p.docker.Exec, Changed: p.wake.Now}
	p.catalog, checks = openStore(mode, client, p.opt, catalogOptions(p.opt, options, engine, p.d.Log), checks)
	p.checks = health.New(checks)
	if mode.mode == modeAgent {
		p.sessionPart.Set(nil) // none is needed
	} else {
		p.liveness = liveness.New(client, liveness.Options{
			Node: options.Node.Name, TTL: p.opt.SessionTTL, ReapAfter: p.opt.ReapAfter,
			Namespace: p.opt.Consul.Namespace, Partition: p.opt.Consul.Partition,
			Log: p.d.Log.Named("liveness"), Failed: p.sessionPart.Set,
		})
	}
	working, cancel := p.linger(ctx)
	defer cancel()
	if err := p.work(working, options); err != nil {
		return err
	}
	return p.leave(ctx)
}

// identify asks Docker who it is until it answers; only the end of ctx is an error.
func (p *program) identify(ctx context.Context) (docker.Node, error) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		node, err := p.docker.Node(ctx)
		if err == nil || ctx.Err() != nil {
			return node, err
		}
		p.dockerPart.Set(err)
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return node, ctx.Err()
		case <-timer.C:
		}
	}
}

func catalogOptions(opt Options, options service.Options, engine docker.Node, log hclog.Logger) catalog.Options {
	return catalog.Options{
		Node:      options.Node,
		Namespace: opt.Consul.Namespace,
		Partition: opt.Consul.Partition,
		Meta: map[string]string{
			"fairway-version":    version,
			"fairway-docker-id":  engine.ID,
			"fairway-swarm-node": engine.SwarmNode,
		},
		LiveKey: liveness.Key(options.Node.Name),
		Adopts:  adopts(opt, options, engine),
		Log:     log.Named("catalog"),
	}
}

func nodeAddress(options service.Options) string {
	if options.Node.IPv4.IsValid() {
		return options.Node.IPv4.String()
	}
	return options.Node.IPv6.String()
}

// work runs the loop and all that wakes it until ctx ends. All but the loop end with ctx and never
// before; the loop ends last, so that what woke it is still written.
func (p *program) work(ctx context.Context, options service.Options) error {
	group, ctx := errgroup.WithContext(ctx)
	first := make(chan struct{}) // closed after the first completed pass: the node is in the catalog
	group.Go(func() error {
		p.docker.Watch(ctx, docker.WatchOptions{
			Connected: func() { p.eventsPart.Set(nil) },
			Failed:    func(err error, _ time.Duration) { p.eventsPart.Set(err) },
			Swarm:     p.swarm.wake.Now,
		}, p.wake.Now)
		return nil
	})
	group.Go(func() error {
		failed := func(err error, retryIn time.Duration) {
			p.d.Log.Debug("watch of our node failed", "err", err, "retry_in", retryIn)
			p.wake.Now() // the pass finds out, and tells
		}
		return ended(ctx, p.catalog.Watch(ctx, failed, p.wake.Now))
	})
	group.Go(func() error {
		if p.liveness == nil {
			return nil
		}
		select {
		case <-first:
			return ended(ctx, p.liveness.Run(ctx))
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		p.checks.Run(ctx)
		return nil
	})
	group.Go(func() error { return p.adopter.run(ctx) })
	group.Go(func() error { return p.swarm.run(ctx, p.opt.Resync) })
	group.Go(func() error { return p.loop(ctx, p.newSyncer(options), first) })
	return group.Wait()
}

// ended is what a part's return means: nothing when it was asked to end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p *program) newSyncer(options service.Options) *syncer {
	again := time.AfterFunc(time.Hour, p.wake.Now)
	again.Stop()
	return &syncer{
		options: options, docker: p.docker, swarm: p.swarm.directory, catalog: p.catalog, checks: p.checks, adopter: p.adopter, again: again,
		report: newReport(p.d.Log, p.d.Metrics), ending: p.ending,
		dockerPart: p.dockerPart, consulPart: p.consulPart, synced: p.synced,
	}
}

// loop makes passes until ctx ends, and a last one for a wake that came too late. A node name
// that is somebody else's at the start ends the program; once it was ours, only the passes fail.
func (p *program) loop(ctx context.Context, s *syncer, first chan<- struct{}) error {
	defer s.again.Stop()
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	started := false
	onePass := func(ctx context.Context, pass func(context.Context) error) error {
		ctx, cancel := daemon.Outlive(ctx, shutdownGrace)
		defer cancel()
		err := pass(ctx)
		switch {
		case err == nil && !started:
			started = true
			close(first)
		case !started && catalog.NotOurs(err):
			refuse(err)
		}
		return err
	}
	err := reconcile.Loop(ctx, p.wake, reconcile.Options{
		Interval: passInterval, Burst: passBurst, Resync: p.opt.Resync,
		RetryMin: 100 * time.Millisecond, RetryMax: 15 * time.Second,
		Failed: func(err error, retryIn time.Duration) {
			p.d.Log.Debug("pass failed", "err", err, "retry_in", retryIn)
		},
	}, func(ctx context.Context) error { return onePass(ctx, s.pass) })
	if cause := context.Cause(ctx); catalog.NotOurs(cause) {
		return cause
	}
	due := s.owesLook()
	select {
	case <-p.wake:
		due = true
	default:
	}
	if started && due {
		if err := onePass(ctx, s.lookAndAct); err != nil {
			p.d.Log.Warn("last pass failed", "err", err)
		}
	}
	return err
}

// leave does what --on-exit says.
func (p *program) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	if !p.opt.Deregister {
		p.pause(ctx)
		return nil
	}
	if p.liveness != nil {
		if err := p.liveness.Leave(ctx); err != nil {
			return fmt.Errorf("leave: %w", err)
		}
	}
	if err := p.catalog.Leave(ctx); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	p.d.Log.Info("deregistered all services of this node")
	return nil
}

// pause asks the reaper for patience. When the machine shuts down, Docker takes no new connection
// before it asks its containers, and us, to end: then nobody comes back, and the session runs out as
// that of a dead node does.
func (p *program) pause(ctx context.Context) {
	if p.opt.StopGrace <= 0 || p.liveness == nil {
		return
	}
	if err := p.dockerListens(ctx); err != nil {
		p.d.Log.Info("docker is away, so the node is left to count as dead", "reason", err.Error())
		return
	}
	if err := p.liveness.Stopped(ctx, p.opt.StopGrace); err != nil {
		p.d.Log.Warn("cannot ask for the grace time of a stop, the node will count as dead", "err", err)
	}
}

// dockerListens asks Docker over a connection of its own: an old one is served until the very end.
func (p *program) dockerListens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownGrace/2)
	defer cancel()
	engine, err := docker.New(p.opt.Docker)
	if err != nil {
		return err
	}
	defer engine.Close()
	_, err = engine.Node(ctx)
	return err
}

// once makes one pass, or prints what it would change.
func once(ctx context.Context, opt Options, d *daemon.Daemon, out io.Writer) error {
	opt.Docker.Patient = true
	engine, err := docker.New(opt.Docker)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	defer engine.Close()
	client, err := consul.New(opt.Consul)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	node, err := engine.Node(ctx)
	if err != nil {
		return err
	}
	options, err := locate(ctx, opt, node)
	if err != nil {
		return err
	}
	listing, err := engine.Containers(ctx)
	if err != nil {
		return err
	}
	containers, err := askSwarm(ctx, engine, swarm.New(client), listing.Containers, options)
	if err != nil {
		d.Log.Warn("services of the swarm cannot be read, rows of their tasks stay and new tasks wait", "err", err)
	}
	plan := service.Desired(containers, options)
	mode, err := choose(ctx, opt, client, options.Node)
	if err != nil {
		return err
	}
	// Nobody stays to run checks: those that stand in the catalog stay as they are.
	rows, checks := openStore(mode, client, opt, catalogOptions(opt, options, node, d.Log), health.Options{})
	observed, err := rows.Observed(ctx)
	if err != nil {
		return err
	}
	plan, _ = health.New(checks).Fill(plan, observed.Rows, time.Now())
	adopter, err := newAdopter(opt, mode, options, node, func() {}, d.Log)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	adopter.ask(ctx)
	adopt := adopter.judge(&observed, plan, listing.Containers)
	changes := service.Diff(observed.Rows, plan)
	if opt.DryRun {
		return printChanges(out, mode, options.Node.Name, observed, changes, plan, adopt)
	}
	started := time.Now()
	result, err := rows.Apply(ctx, observed, changes)
	if err != nil {
		return err
	}
	adopter.finish(adopt)
	adopter.ask(ctx) // to remove what was released
	newReport(d.Log, d.Metrics).done(pass{started, options.Node.Name, listing, plan, observed, changes, result})
	if n := len(result.Refused); n > 0 {
		return fmt.Errorf("consul refuses %d rows, the first is %s: %w", n, result.Refused[0].ID, result.Refused[0].Err)
	}
	return nil
}
