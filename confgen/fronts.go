package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// fronts are the proxies that are kept. They change when the configuration is read again.
type fronts struct {
	mu   sync.Mutex
	list []*front
}

func (fs *fronts) all() []*front {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return slices.Clone(fs.list)
}

func (fs *fronts) set(list []*front) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = list
}

// find returns the front of a name; with only one front, its name needs not be given.
func (fs *fronts) find(name string) (*front, error) {
	var names []string
	list := fs.all()
	for _, f := range list {
		if f.opt.Name == name || name == "" && len(list) == 1 {
			return f, nil
		}
		names = append(names, f.opt.Name)
	}
	if name == "" {
		return nil, fmt.Errorf("which proxy? want proxy=NAME, one of %s", strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("no proxy %q; want one of %s", name, strings.Join(names, ", "))
}

// page serves what a front has to say; ?proxy=NAME says which front.
func (fs *fronts) page(of func(*front) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f, err := fs.find(req.URL.Query().Get("proxy"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		of(f).ServeHTTP(w, req)
	})
}

// names serves the names of the proxies as a list of JSON.
func (fs *fronts) names(w http.ResponseWriter, _ *http.Request) {
	var names []string
	for _, f := range fs.all() {
		names = append(names, f.opt.Name)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(names) // Who asked has gone if this fails.
}

// run starts the front's loop, and its process where it has one that does not run.
func (f *front) run(ctx context.Context, group *errgroup.Group) {
	own, stop := context.WithCancel(ctx)
	f.stop = stop
	group.Go(func() error {
		defer close(f.ended)
		return f.work(own)
	})
	if p := f.process; p != nil && p.stop == nil {
		own, stop := context.WithCancel(ctx)
		p.stop = stop
		group.Go(func() error { return p.run(own) })
	}
}

// reloadState is whether the configuration, as it stands, is in use.
type reloadState struct {
	mu  sync.Mutex
	err error
}

func (r *reloadState) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

// Err says why the configuration as it stands is not in use.
func (r *reloadState) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *reloadState) metric() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "config_error",
		Help: "1 while the configuration that was read last cannot be used and an older one is in use.",
	}, func() float64 {
		if r.Err() != nil {
			return 1
		}
		return 0
	})
}

// obey reads the configuration and the templates again at every signal. A configuration that
// cannot be used changes nothing (F42).
func (p *program) obey(ctx context.Context, hup <-chan os.Signal, group *errgroup.Group) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case sig := <-hup:
			for _, f := range p.fronts.all() { // the templates of those that stay as they are
				select {
				case f.again <- sig:
				default:
				}
			}
		}
		err := p.again(ctx, group)
		p.reload.set(err)
		if err != nil {
			p.d.Log.Error("configuration cannot be used, the old one stays in use", "err", oneLine(err))
		}
	}
}

// again reads the configuration anew and puts it in the place of the old one: all of it or, when
// anything is wrong, nothing. Proxies whose settings are the same do not notice.
func (p *program) again(ctx context.Context, group *errgroup.Group) error {
	if p.config.again == nil {
		return nil
	}
	config, err := p.config.again()
	if err != nil {
		return err
	}
	if name := fixedSetting(config.Program, p.config.Program); name != "" {
		return fmt.Errorf("%s cannot change while confgen runs; restart it", strings.ReplaceAll(name, "-", "_"))
	}
	for i := range config.Proxies { // state stays where it is, whichever proxy is the first now
		config.Proxies[i].Snapshot, config.Proxies[i].Control = p.config.Proxies[0].Snapshot, p.config.Proxies[0].Control
	}
	if !reflect.DeepEqual(config.Proxies[0].common(), p.config.Proxies[0].common()) {
		return errors.New("what all proxies have in common (Consul, the routing prefix, guards) cannot change while confgen runs; restart it")
	}
	old := make(map[string]*front)
	for _, f := range p.fronts.all() {
		old[f.opt.Name] = f
	}
	next := make([]*front, 0, len(config.Proxies))
	var fresh []*front
	discard := func(err error) error {
		for _, f := range fresh {
			f.close()
		}
		return err
	}
	for _, opt := range config.Proxies {
		f := old[opt.Name]
		if f == nil || !reflect.DeepEqual(f.opt, opt) {
			var running *process
			if f != nil {
				running = f.process
			}
			if f, err = newFront(opt, p.d, p.watcher, p.follow, running); err != nil {
				return discard(fmt.Errorf("proxy %s: %w", opt.Name, err))
			}
			if f.source.Err() != nil {
				fresh = append(fresh, f)
				return discard(fmt.Errorf("proxy %s: templates: %w", opt.Name, f.source.Err()))
			}
			fresh = append(fresh, f)
		}
		next = append(next, f)
	}
	p.replace(ctx, group, old, next, fresh)
	p.config.Proxies = config.Proxies
	return nil
}

// fixedSetting names a setting of the program itself that two configurations differ in; "" for
// none.
func fixedSetting(a, b settings) string {
	for _, name := range []string{"state-dir", "log-level", "http-addr"} {
		if a.String(name) != b.String(name) {
			return name
		}
	}
	switch {
	case a.Bool("log-json") != b.Bool("log-json"):
		return "log-json"
	case a.Int("template-connections") != b.Int("template-connections"):
		return "template-connections"
	}
	return ""
}

// replace ends the fronts that are not among the next ones and starts the fresh ones.
func (p *program) replace(ctx context.Context, group *errgroup.Group, old map[string]*front, next, fresh []*front) {
	names := make(map[string]bool)
	for _, f := range fresh {
		names[f.opt.Name] = true
	}
	for name, f := range old {
		if slices.Contains(next, f) {
			continue
		}
		f.stop()
		<-f.ended
		f.close()
		taken := slices.ContainsFunc(next, func(n *front) bool { return n.process == f.process })
		if f.process != nil && !taken {
			f.process.stop()
			<-f.process.ended
		}
		if !names[name] {
			f.ready.Remove()
			p.d.Log.Info("proxy is no longer kept: its files stay as they are", "proxy", name)
		}
	}
	p.fronts.set(next)
	for _, f := range fresh {
		why := "the configuration changed"
		if before := old[f.opt.Name]; before != nil {
			f.quarantine.inherit(before.quarantine) // whose loop has ended
			f.begin(why, before.ready, &p.reload)
		} else {
			f.begin("start", nil, &p.reload)
		}
		f.run(ctx, group)
	}
	if len(fresh) > 0 {
		p.d.Log.Info("configuration read again", "changed", len(fresh))
	}
}
