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

// sweepLazy is how long a change that has been found lets all other nodes wait.
const sweepLazy = time.Second

// sweepHold is how long the other polls have to explain a change, before it is looked for.
const sweepHold = 25 * time.Millisecond

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
		meta, err := fetch(w.opt.Client, "/v1/catalog/node-services/"+j.node, q.WithContext(ctx), &list)
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
	if a.read {
		k.sweep.found(a.index, time.Now())
	}
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

// sweep paces the probing of nodes. A change of the catalog that no other answer explains is looked
// for at once, node after node, until it is found. Since changes that came together may be on
// several nodes, all of them are probed a while later, when that pays for several changes at once.
type sweep struct {
	index uint64     // of a change that nothing has explained yet; 0 for none
	at    time.Time  // when that is looked for
	owed  time.Time  // when all nodes are to be probed; zero for no reason to
	known [64]uint64 // indexes of what was read last
	last  int        // of known

	queue     []string
	asking    int
	failed    bool
	running   bool
	hunting   bool   // over when what is looked for is found
	began     uint64 // index at the start
	startedAt time.Time
	huntRest  time.Time
	restUntil time.Time
	backstop  time.Time
	count     uint64
}

// turn ends a sweep that is over and begins one that is due.
func (s *sweep) turn(now time.Time, nodes map[string]*node) {
	if s.running && len(s.queue)+s.asking == 0 {
		s.end(now)
	}
	at := s.due()
	if at.IsZero() || now.Before(at) {
		return
	}
	all := s.all()
	s.hunting = all.IsZero() || now.Before(all)
	if !s.hunting {
		s.owed = time.Time{}
	}
	s.running, s.failed, s.began, s.startedAt = true, false, s.index, now
	s.count++
	// Where something changed last, something is likely to change again; a node that is new goes
	// before all.
	s.queue = slices.SortedFunc(maps.Keys(nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(nodes[b].since-1, nodes[a].since-1), cmp.Compare(a, b))
	})
}

// end notes what a sweep was for as done.
func (s *sweep) end(now time.Time) {
	s.running = false
	took := now.Sub(s.startedAt)
	if s.hunting {
		s.huntRest = now.Add(took)
	}
	if s.index == s.began {
		s.index = 0 // every node was asked, and it is on none
	}
	if !s.hunting {
		s.restUntil, s.backstop = now.Add(sweepRest*took), now.Add(sweepEvery)
	}
	if s.failed {
		s.owed = now.Add(sweepRetry)
	}
}

// look has the change of the catalog with an index looked for: at once where no other answer can
// tell of it.
func (s *sweep) look(index uint64, alone bool, now time.Time) {
	if slices.Contains(s.known[:], index) {
		s.owe(now)
		return
	}
	at := now
	if !alone {
		at = now.Add(sweepHold)
	}
	if s.index == 0 || at.Before(s.at) {
		s.at = at
	}
	s.index = index
}

// found takes in the index of something that was read. Where that is what is looked for, the nodes
// that have not been asked can wait.
func (s *sweep) found(index uint64, now time.Time) {
	s.known[s.last] = index
	s.last = (s.last + 1) % len(s.known)
	if s.index != index {
		return
	}
	s.index = 0
	s.owe(now)
	if s.running && s.hunting {
		s.queue = nil
	}
}

// owe has all nodes probed before long.
func (s *sweep) owe(now time.Time) {
	if s.owed.IsZero() {
		s.owed = now.Add(sweepLazy)
	}
}

// all returns when all nodes are to be probed; zero for never.
func (s *sweep) all() time.Time {
	switch {
	case s.owed.IsZero():
		return s.backstop
	case s.owed.Before(s.restUntil):
		return s.restUntil
	}
	return s.owed
}

// due returns when the next sweep may begin; zero when there is no reason for one.
func (s *sweep) due() time.Time {
	at := s.all()
	switch {
	case s.running:
		return time.Time{}
	case s.index == 0:
		return at
	}
	hunt := s.at
	if hunt.Before(s.huntRest) {
		hunt = s.huntRest
	}
	if at.IsZero() || hunt.Before(at) {
		return hunt
	}
	return at
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
