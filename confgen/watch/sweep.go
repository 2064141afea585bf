package watch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// sweepRest is how many times longer than a sweep the rest after it is.
const sweepRest = 5

// sweepEvery is the longest time without a sweep: a change that no answer announced, which
// Consul promises cannot happen, would stay unseen no longer than this.
const sweepEvery = 10 * time.Minute

// sweepRetry is the rest after a sweep that could not ask every node.
const sweepRetry = time.Second

// nothing is a filter that no instance passes: what remains of the answer is its index.
const nothing = `ID == ""`

// node is what is known of one node in the catalog.
type node struct {
	name    string
	address string
	since   uint64 // nothing up to this index is news
}

// nodeAnswer is what changed on a node.
type nodeAnswer struct {
	index   uint64
	read    bool            // the rows were read, because the index was news
	changed []string        // services with a row that is news
	ids     map[string]bool // of all services on the node
	err     error
}

// askNode asks for the index of a node and, when that is news, for its rows.
func (w *Watcher) askNode(ctx context.Context, j job) nodeAnswer {
	type row struct {
		ID, Service string
		ModifyIndex uint64
	}
	var list struct{ Services []row }
	ask := func(filter string) (*api.QueryMeta, error) {
		q := &api.QueryOptions{Filter: filter}
		meta, err := w.opt.Client.Raw().Query("/v1/catalog/node-services/"+j.node, &list, q.WithContext(ctx))
		if err == nil {
			err = trusted(meta)
		}
		return meta, err
	}
	meta, err := ask(nothing)
	if err != nil || meta.LastIndex <= j.since {
		return nodeAnswer{index: j.since, err: err}
	}
	if meta, err = ask(""); err != nil {
		return nodeAnswer{err: err}
	}
	a := nodeAnswer{index: meta.LastIndex, read: true, ids: make(map[string]bool, len(list.Services))}
	for _, r := range list.Services {
		a.ids[r.ID] = true
		if r.ModifyIndex > j.since {
			a.changed = append(a.changed, r.Service)
		}
	}
	return a
}

// probed marks the services that changed on a node or left it.
func (k *keeper) probed(j job, a nodeAnswer) {
	k.sweep.answered(a.err)
	k.heard(a.err)
	n := k.nodes[j.node]
	if n == nil || a.err != nil || !a.read {
		return
	}
	if n.since == j.since { // else everything is being read again
		n.since = a.index
	}
	for _, name := range a.changed {
		k.want(name)
	}
	for name, s := range k.services {
		for _, in := range s.instances {
			if in.Node == j.node && !a.ids[in.ID] {
				k.want(name)
				break
			}
		}
	}
}

// sweep paces the probing of all nodes.
type sweep struct {
	wanted    bool
	queue     []string
	asking    int
	failed    bool
	running   bool
	startedAt time.Time
	restUntil time.Time
	backstop  time.Time
	count     uint64
}

// turn ends a sweep that is over and begins one that is due.
func (s *sweep) turn(now time.Time, nodes map[string]*node) {
	if s.running && len(s.queue)+s.asking == 0 {
		s.running = false
		s.restUntil = now.Add(sweepRest * now.Sub(s.startedAt))
		s.backstop = now.Add(sweepEvery)
		if s.failed {
			s.wanted, s.restUntil = true, now.Add(sweepRetry)
		}
	}
	overdue := !s.backstop.IsZero() && !now.Before(s.backstop)
	if s.running || now.Before(s.restUntil) || !s.wanted && !overdue {
		return
	}
	s.wanted, s.failed, s.running, s.startedAt = false, false, true, now
	s.count++
	// Where something changed last, something is likely to change again.
	s.queue = slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(nodes[b].since, nodes[a].since), cmp.Compare(a, b))
	})
}

// next returns the next probe without taking it.
func (s *sweep) next(nodes map[string]*node) (job, bool) {
	for len(s.queue) > 0 {
		if n := nodes[s.queue[0]]; n != nil {
			return job{node: n.name, since: n.since}, true
		}
		s.queue = s.queue[1:]
	}
	return job{}, false
}

func (s *sweep) asked() {
	s.queue = s.queue[1:]
	s.asking++
}

func (s *sweep) answered(err error) {
	s.asking--
	s.failed = s.failed || err != nil
}

// due returns when the next sweep may begin; zero when there is no reason for one.
func (s *sweep) due() time.Time {
	switch {
	case s.running:
		return time.Time{}
	case s.wanted:
		return s.restUntil
	}
	return s.backstop
}
