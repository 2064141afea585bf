package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"fairway/internal/daemon"
	"fairway/internal/reconcile"
	"fairway/registrator/docker"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

// swarmInterval is the least time between two questions to a manager: a rolling update changes its
// service with every step.
const swarmInterval = 200 * time.Millisecond

// swarmView knows what the services of this node's tasks say, and on a manager tells the others.
// Outside a Swarm it asks Consul nothing.
type swarmView struct {
	docker    *docker.Client
	client    *swarm.Client
	ingress   service.Ingress
	directory *swarm.Directory
	changed   func() // told when registrations may be others
	wake      reconcile.Wake
	log       hclog.Logger
	writes    prometheus.Counter
	shared    prometheus.Gauge

	keys   atomic.Pointer[swarm.Keys] // as last seen in Consul; nil before the first answer
	joined chan struct{}              // closed when this node is found to be in a Swarm
	once   sync.Once

	asking, reading trouble
}

func newSwarmView(engine *docker.Client, client *swarm.Client, ingress service.Ingress, changed func(), d *daemon.Daemon) *swarmView {
	v := &swarmView{
		docker: engine, client: client, ingress: ingress, directory: swarm.NewDirectory(), changed: changed,
		wake: reconcile.NewWake(), log: d.Log.Named("swarm"), joined: make(chan struct{}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "fairway", Subsystem: "registrator", Name: "swarm_writes_total",
			Help: "Keys of Swarm services written to or removed from Consul.",
		}),
		shared: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "fairway", Subsystem: "registrator", Name: "swarm_services",
			Help: "Swarm services that this node shares with the others, as a manager.",
		}),
	}
	d.Metrics.MustRegister(v.writes, v.shared)
	return v
}

// run looks after every wake, and at least every resync, because nobody tells a worker that it became
// a manager. It returns when ctx ends.
func (v *swarmView) run(ctx context.Context, resync time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return reconcile.Loop(ctx, v.wake, reconcile.Options{
			Interval: swarmInterval, Resync: resync, RetryMin: time.Second, RetryMax: 15 * time.Second,
			Failed: func(err error, _ time.Duration) {
				v.asking.tell(err, v.log, "services of the swarm cannot be read or shared, trying again and again")
			},
		}, v.look)
	})
	group.Go(func() error {
		select {
		case <-v.joined:
		case <-ctx.Done():
			return nil
		}
		return ended(ctx, v.client.Watch(ctx, func(err error, _ time.Duration) {
			v.reading.tell(err, v.log, "labels shared by the swarm's managers cannot be read, trying again and again")
		}, v.read))
	})
	return group.Wait()
}

// read takes what Consul holds.
func (v *swarmView) read(keys swarm.Keys) {
	v.reading.tell(nil, v.log, "labels shared by the swarm's managers are read again")
	v.keys.Store(&keys)
	if v.directory.SetShared(keys.Services(), time.Now()) {
		v.changed()
	}
	v.wake.Now() // a manager looks whether the keys say what they should
}

// look asks the engine once, and shares what it says of the Swarm's services. The keys were seen
// before that: what somebody writes meanwhile is not overwritten.
func (v *swarmView) look(ctx context.Context) error {
	keys := v.keys.Load()
	s, err := observe(ctx, v.docker, v.directory, v.ingress, v.changed)
	if s.Member {
		v.once.Do(func() { close(v.joined) }) // also without a leader: what others shared before is there
	}
	if err != nil {
		return err
	}
	v.shared.Set(float64(len(s.Services)))
	if s.Manager && keys != nil {
		written, err := v.client.Share(ctx, *keys, s.ID, s.Services)
		v.writes.Add(float64(written))
		if err != nil {
			return err
		}
	}
	v.asking.tell(nil, v.log, "services of the swarm are known again")
	return nil
}

// observe asks the engine for its Swarm and tells the directory.
func observe(ctx context.Context, engine *docker.Client, directory *swarm.Directory, ingress service.Ingress, changed func()) (docker.Swarm, error) {
	s, err := engine.Swarm(ctx)
	mesh := ""
	if err == nil && s.Member && ingress == service.ByNode {
		mesh, err = engine.RoutingMesh(ctx)
	}
	if err != nil {
		if directory.SetLocal(nil) { // what others share may be newer than what this manager knew
			changed()
		}
		return docker.Swarm{Member: s.Member}, err
	}
	var local []service.SwarmService
	if s.Manager {
		local = make([]service.SwarmService, 0, len(s.Services))
		for _, one := range s.Services {
			local = append(local, swarm.Normal(one))
		}
	}
	news := directory.SetNode(!s.Member, mesh)
	if directory.SetLocal(local) || news {
		changed()
	}
	return s, nil
}

// askSwarm says once of the tasks among some containers what their services say. With an error
// nothing is known of them.
func askSwarm(ctx context.Context, engine *docker.Client, client *swarm.Client, containers []service.Container, opt service.Options) ([]service.Container, error) {
	directory := swarm.NewDirectory()
	isTask := func(c service.Container) bool { return c.Task.ServiceID != "" }
	var err error
	if opt.Ingress == service.ByNode || slices.ContainsFunc(containers, isTask) {
		err = learn(ctx, engine, client, directory, opt.Ingress)
	}
	directory.Fill(containers, time.Now())
	return directory.Mesh(containers, opt), err
}

func learn(ctx context.Context, engine *docker.Client, client *swarm.Client, directory *swarm.Directory, ingress service.Ingress) error {
	s, err := observe(ctx, engine, directory, ingress, func() {})
	if err == nil && (s.Manager || !s.Member) {
		return nil
	}
	keys, unread := client.Read(ctx)
	if unread == nil {
		directory.SetShared(keys.Services(), time.Time{}.Add(1)) // long ago: nobody waits for more
	}
	return errors.Join(err, unread)
}

// trouble is told when it begins and when it ends.
type trouble struct {
	mu  sync.Mutex
	now string
}

func (t *trouble) tell(err error, log hclog.Logger, message string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil && err.Error() != t.now:
		t.now = err.Error()
		log.Warn(message, "err", err)
	case err == nil && t.now != "":
		t.now = ""
		log.Info(message)
	}
}
