package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"fairway/confgen/proxy/haproxy"
	"fairway/internal/reconcile"

	"github.com/hashicorp/go-hclog"
)

// HAProxy says how to reach a HAProxy (2.6 or newer) in master-worker mode.
type HAProxy struct {
	// StatsSocket, at level admin, carries server and map changes and tells what runs. Without
	// it every change is a reload.
	StatsSocket string
	// MasterSocket (haproxy -S) carries reloads and tells how they went. On a shared volume it
	// also works from another container.
	MasterSocket string
	// Signal carries reloads (SIGUSR2) where there is no master socket.
	Signal Signaler

	// OldWorkers is how many old workers may still end their connections when the next reload
	// is made; 0 for 5.
	OldWorkers int
	// TestBind tries new bind addresses before a reload, since HAProxy's checker does not and a
	// failed reload pauses all listeners for seconds. Only for a HAProxy in the same network
	// namespace, and only for addresses that this process may bind.
	TestBind bool
	// Timeout is how long one answer on a socket may take; 0 for 3 s.
	Timeout time.Duration
}

// NewHAProxy returns a target that keeps a HAProxy current. It touches nothing yet.
func NewHAProxy(opt Options, h HAProxy) (*Target, error) {
	if h.MasterSocket == "" && h.StatsSocket == "" {
		return nil, errors.New("haproxy target: a master socket or a stats socket is needed, else a reload cannot be confirmed")
	}
	if h.MasterSocket == "" && h.Signal == nil {
		return nil, errors.New("haproxy target: a master socket or a way to signal is needed to reload")
	}
	if h.OldWorkers == 0 {
		h.OldWorkers = 5
	}
	if opt.ReloadTimeout == 0 {
		opt.ReloadTimeout = 30 * time.Second
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	return newTarget(opt, &haproxyDriver{
		HAProxy: h,
		stats:   haproxy.Socket{Path: h.StatsSocket, Timeout: h.Timeout},
		master:  haproxy.Socket{Path: h.MasterSocket, Timeout: h.Timeout},
		timeout: opt.ReloadTimeout,
		log:     opt.Log,
	})
}

type haproxyDriver struct {
	HAProxy
	stats   haproxy.Socket
	master  haproxy.Socket
	timeout time.Duration
	log     hclog.Logger
	reader  haproxy.Reader

	hung int   // how often in a row the worker did not answer while the master did
	seen bool  // HAProxy was there when it was last looked at
	mute error // why the stats socket was of no use when it was last asked
}

// read keeps HAProxy's configuration as its sections.
func (d *haproxyDriver) read(data []byte, main bool) *text {
	if main {
		return configText(d.reader.Read(data))
	}
	return plainText(data)
}

// config is what the main file of a tree means.
func (d *haproxyDriver) config(t tree) *haproxy.Config {
	if c := t.text(t.main).config; c != nil {
		return c
	}
	return d.reader.Read(nil)
}

// structure hashes the configuration without servers, the names of maps, and all other files.
func (d *haproxyDriver) structure(t tree) string {
	words := []string{d.config(t).Structure}
	listed := listedFiles(t)
	for _, f := range t.files {
		switch {
		case f.path == t.main:
		case isMap(f.path), isList(f.path):
			words = append(words, f.path, "")
		case listed[f.path]: // what it holds, and that it is there, HAProxy is told
		default:
			words = append(words, f.path, f.digest())
		}
	}
	return digestOf(words...)
}

// shape adds the different options of servers: a reload may fail at those.
func (d *haproxyDriver) shape(t tree) string {
	words := []string{d.structure(t)}
	for _, b := range d.config(t).Backends {
		seen := map[string]bool{}
		for _, s := range b.Servers {
			seen[strings.Join(s.Options, " ")] = true
		}
		for _, options := range slices.Sorted(maps.Keys(seen)) {
			words = append(words, b.Name, options)
		}
	}
	return digestOf(words...)
}

func isMap(path string) bool { return strings.HasSuffix(path, ".map") }

// status asks the worker, by the stats socket or else through the master.
func (d *haproxyDriver) status(ctx context.Context) (status, error) {
	deadline := time.Now().Add(absence)
	for {
		s, err := d.look(ctx)
		// A master that executes itself is absent for a moment, so absence has to last before
		// it is believed of a HAProxy that was there.
		if !errors.Is(err, ErrNotRunning) || !d.seen || time.Now().After(deadline) {
			d.seen = err == nil
			return s, err
		}
		if err := reconcile.Sleep(ctx, 20*time.Millisecond); err != nil {
			return status{}, err
		}
	}
}

// absence is how long all sockets have to be without a listener to mean that HAProxy has ended.
const absence = time.Second

func (d *haproxyDriver) look(ctx context.Context) (status, error) {
	info, err := d.workerInfo(ctx)
	if err == nil {
		d.hung = 0
		return status{generation: info.Description, instance: instance(info)}, nil
	}
	processes, masterErr := d.processes(ctx)
	switch {
	case ctx.Err() != nil:
		return status{}, ctx.Err()
	case d.absent(masterErr):
		return status{}, fmt.Errorf("%w: %w", ErrNotRunning, err)
	case errors.Is(err, haproxy.ErrNoWorker):
		// A worker that loads is not one that hangs, and to have it replaced would be one load more.
		d.hung = 0
		return status{}, fmt.Errorf("%w: it still loads: %w", ErrNotRunning, err)
	case d.MasterSocket != "" && masterErr == nil && len(processes.Workers) > 0:
		if d.hung++; d.hung < 2 {
			return status{}, err // Once may be a busy moment.
		}
		// The worker hangs, and only its master can replace it.
		return status{instance: fmt.Sprintf("%d@unknown", processes.Workers[0])}, nil
	}
	return status{}, err
}

// live: without a stats socket that answers every change is a reload.
func (d *haproxyDriver) live() bool { return d.StatsSocket != "" && d.mute == nil }

// patience is asked for before a reload only: the master has few sessions, and a change of servers
// needs nothing that it knows.
func (d *haproxyDriver) patience(ctx context.Context) string {
	processes, err := d.processes(ctx)
	if err != nil || len(processes.Old) < d.OldWorkers {
		return "" // A master that does not answer says so when it is asked to reload.
	}
	return fmt.Sprintf("%d old workers still end their connections (hard-stop-after bounds them)", len(processes.Old))
}

// absent reports whether nobody listened on any socket when they were last asked.
func (d *haproxyDriver) absent(masterErr error) bool {
	return (d.StatsSocket == "" || haproxy.Absent(d.mute)) && (d.MasterSocket == "" || haproxy.Absent(masterErr))
}

func instance(info haproxy.Info) string {
	return fmt.Sprintf("%d@%s", info.PID, info.Started)
}

// processes asks the master; without a master socket it knows of none.
func (d *haproxyDriver) processes(ctx context.Context) (haproxy.Processes, error) {
	if d.MasterSocket == "" {
		return haproxy.Processes{}, nil
	}
	conn, err := d.master.Master(ctx)
	if err != nil {
		return haproxy.Processes{}, err
	}
	defer conn.Close() //nolint:errcheck // Nothing is lost with it.
	return conn.Processes(ctx)
}

// workerInfo asks a worker that is not stopping who it is. It notes whether the stats socket,
// and with it changes at run time, can be used.
func (d *haproxyDriver) workerInfo(ctx context.Context) (haproxy.Info, error) {
	d.mute = errors.New("no stats socket is configured")
	if d.StatsSocket != "" {
		info, err := d.statsInfo(ctx)
		if d.mute = err; err == nil {
			return info, nil
		}
	}
	if d.MasterSocket == "" || d.StatsSocket != "" && !haproxy.Absent(d.mute) {
		// A worker that hangs on its own socket hangs on this way too, and every question to
		// it takes one of the few sessions that the master has.
		return haproxy.Info{}, d.mute
	}
	conn, err := d.master.Master(ctx)
	if err != nil {
		return haproxy.Info{}, errors.Join(d.mute, err)
	}
	defer conn.Close() //nolint:errcheck // Nothing is lost with it.
	info, err := conn.WorkerInfo(ctx)
	if err != nil {
		return haproxy.Info{}, errors.Join(d.mute, err)
	}
	return info, nil
}

func (d *haproxyDriver) statsInfo(ctx context.Context) (haproxy.Info, error) {
	for {
		conn, err := d.stats.Worker(ctx)
		if err != nil {
			return haproxy.Info{}, err
		}
		info, err := conn.Info(ctx)
		_ = conn.Close()
		if err != nil || !info.Stopping {
			return info, err
		}
		if err := reconcile.Sleep(ctx, 20*time.Millisecond); err != nil {
			return haproxy.Info{}, err
		}
	}
}

// adjustable: options and ids of servers need a reload, and without a stats socket everything.
func (d *haproxyDriver) adjustable(before, after tree) bool {
	if d.StatsSocket == "" {
		return before.equal(&after)
	}
	return haproxy.SameOptions(d.config(before), d.config(after))
}

func (d *haproxyDriver) sync(ctx context.Context, t tree, before *tree, full bool) (synced, error) {
	if d.mute != nil {
		if before != nil && before.equal(&t) || d.StatsSocket == "" {
			return synced{}, nil
		}
		return synced{}, fmt.Errorf("%w: stats socket: %w", errNeedsReload, d.mute)
	}
	config := d.config(t)
	want := haproxy.Desired{Backends: config.Backends, All: full, Maps: mapFiles(t, nil), Certificates: certificateLists(t, nil)}
	if t.marked {
		want.Description = t.generation
	}
	if !full && before != nil {
		want.Backends = haproxy.Touched(d.config(*before), config)
		want.Maps = mapFiles(t, before)
		want.Certificates = certificateLists(t, before)
	}
	report, err := haproxy.Sync(ctx, d.stats, want)
	if errors.Is(err, haproxy.ErrReload) {
		err = fmt.Errorf("%w: %w", errNeedsReload, err)
	}
	return synced{commands: report.Commands, retired: report.Garbage}, err
}

// mapFiles returns the maps of t, or those that differ from before.
func mapFiles(t tree, before *tree) []haproxy.Map {
	var list []haproxy.Map
	for _, f := range t.files {
		if isMap(f.path) && (before == nil || !before.text(f.path).equal(f.text)) {
			list = append(list, haproxy.ParseMap(f.path, f.bytes()))
		}
	}
	return list
}

// merge takes the servers and certificates of want into base. Maps stay: entries may lead to backends that base
// does not have yet.
func (d *haproxyDriver) merge(base, want tree) tree {
	return withCertificates(base.with(base.main, configText(d.config(base).Merge(d.config(want)))), want)
}

// probe binds the addresses that come new, and lets go of them at once.
func (d *haproxyDriver) probe(ctx context.Context, base, want tree) error {
	if !d.TestBind {
		return nil
	}
	before := d.config(base).Binds
	for _, bind := range d.config(want).Binds {
		host, port, err := net.SplitHostPort(bind)
		if slices.Contains(before, bind) || err != nil {
			continue // Also what is no plain address: HAProxy has more forms than are worth trying.
		}
		if host == "*" {
			host = ""
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
		if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			return &RejectedError{By: "bind", Generation: want.generation, Output: err.Error()}
		}
		if err == nil {
			_ = l.Close()
		}
	}
	return nil
}
