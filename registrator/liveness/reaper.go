package liveness

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
	"fairway/registrator/service"
)

// grace is how long a key that was seen held may be without a session before its node is given
// up: long enough for a registrator to replace a session that somebody ended.
const grace = time.Second

// stand takes part in the election, and reaps while elected.
func (c *Client) stand(ctx context.Context) error {
	ask := func(q *api.QueryOptions) (*api.KVPair, *api.QueryMeta, error) {
		return c.consul.KV().Get(reaperKey, q)
	}
	lock := newCurrent()    // the session that holds the lock
	var fallen atomic.Value // string: the node whose session held the lock when it ran out
	fallen.Store("")
	ctx, cancel := context.WithCancel(ctx)
	watching := background(func() error {
		return consul.Watch(ctx, ask, consul.WatchOptions{}, func(p *api.KVPair, _ *api.QueryMeta) {
			if p == nil || p.Session == "" {
				if p != nil && lock.get() != "" {
					fallen.Store(string(p.Value))
				}
				lock.set("")
				return
			}
			lock.set(p.Session)
		})
	})
	defer func() { cancel(); <-watching }()
	for {
		holder, lockChanged := lock.watch()
		mine, mineChanged := c.session.watch()
		reapCtx, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			switch {
			case mine != "" && holder == mine:
				c.reap(reapCtx, mine, fallen.Load().(string))
			case mine != "" && holder == "":
				c.campaign(reapCtx)
			}
		}()
		select {
		case <-ctx.Done():
		case <-lockChanged:
		case <-mineChanged:
		}
		stop()
		<-done
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// campaign tries to take the free lock until ctx ends, which it does when somebody has it.
func (c *Client) campaign(ctx context.Context) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, c.opt.TTL/2
	for {
		c.candidate(ctx)
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// candidate tries once to take the lock. Who gets it is seen by the watch; a failure is tried
// again by campaign.
func (c *Client) candidate(ctx context.Context) {
	id := c.session.get()
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pair := &api.KVPair{Key: reaperKey, Value: []byte(c.opt.Node), Session: id}
	if _, _, err := c.consul.KV().Acquire(pair, write(ctx)); err != nil && ctx.Err() == nil {
		c.log.Debug("cannot stand for reaper", "err", err)
	}
}

// reap watches the nodes' keys and acts on those whose session has run out, until ctx ends.
// fallen names the reaper before this one when its session was seen to run out: that node needs
// no further proof.
func (c *Client) reap(ctx context.Context, session, fallen string) {
	c.log.Info("elected to watch over the nodes")
	ask := func(q *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
		return c.consul.KV().List(nodePrefix, q)
	}
	latest := make(chan api.KVPairs, 1)
	watching := background(func() error {
		return consul.Watch(ctx, ask, consul.WatchOptions{}, func(p api.KVPairs, _ *api.QueryMeta) {
			select {
			case <-latest: // only the newest counts
			default:
			}
			latest <- p
		})
	})
	defer func() { <-watching }()

	register := newRegister(c.opt.TTL, c.opt.ReapAfter)
	register.sawHeld(fallen)
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 200*time.Millisecond, c.opt.TTL/2
	trouble := map[string]bool{} // nodes that could not be acted on the last time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case pairs := <-latest:
			register.update(pairs, time.Now())
		case <-timer.C:
		}
		verdicts, next := register.judge(time.Now())
		failed := map[string]bool{}
		for _, v := range verdicts {
			if err := c.execute(ctx, session, v); err != nil && ctx.Err() == nil {
				if failed[v.node] = true; !trouble[v.node] {
					c.log.Warn("cannot act on a silent node, trying again and again", "node", v.node, "err", err)
				}
			}
		}
		trouble = failed
		switch {
		case len(failed) > 0:
			next = retry.NextBackOff()
		case len(verdicts) > 0:
			next = grace // the watch brings the new state; should it not, look again
			retry.Reset()
		}
		timer.Reset(next)
	}
}

// execute does to one node what the register says. A transaction that does not hold any more,
// because the lock is lost or the node is back, changes nothing.
func (c *Client) execute(ctx context.Context, session string, v verdict) error {
	node, err := c.node(ctx, v.node)
	if err != nil {
		return err
	}
	if !node.ours || v.remove {
		return c.remove(ctx, session, v, node)
	}
	value, err := json.Marshal(life{Lost: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("give node up: %w", err)
	}
	held, err := c.commit(ctx, api.TxnOps{
		holds(session),
		{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: nodePrefix + v.node, Value: value, Index: v.index}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: v.node, CheckID: CheckID, Name: "Fairway registrator lives", Status: api.HealthCritical,
			Output: "no sign of life; seen by " + c.opt.Node, Partition: c.opt.Partition,
		}}},
	})
	if held && err == nil {
		c.log.Warn("node shows no sign of life, its services are taken out", "node", v.node)
	}
	return err
}

// maxRemovals is how many operations stand beside the two assertions in one of Consul's
// transactions of at most 64.
const maxRemovals = 62

// remove takes a node of ours out of the catalog: its rows with the owner mark, our check, and the
// node itself where nothing else is left of it. The key goes last, so that what was interrupted is
// done again. Of a node that is not ours, or is gone already, only the key is forgotten.
func (c *Client) remove(ctx context.Context, session string, v verdict, node catalogNode) error {
	ops := node.removals
	for len(ops) > maxRemovals {
		batch := append(api.TxnOps{
			holds(session),
			{KV: &api.KVTxnOp{Verb: api.KVCheckIndex, Key: nodePrefix + v.node, Index: v.index}},
		}, ops[:maxRemovals]...)
		if held, err := c.commit(ctx, batch); !held || err != nil {
			return err
		}
		ops = ops[maxRemovals:]
	}
	held, err := c.commit(ctx, append(api.TxnOps{
		holds(session),
		{KV: &api.KVTxnOp{Verb: api.KVDeleteCAS, Key: nodePrefix + v.node, Index: v.index}},
	}, ops...))
	switch {
	case err != nil || !held || !node.ours:
	case node.shared:
		c.log.Warn("removed the rows of a node that did not come back; what others registered there stays", "node", v.node)
	default:
		c.log.Warn("removed a node that did not come back", "node", v.node)
	}
	return err
}

// holds asserts that we hold the reaper's lock.
func holds(session string) *api.TxnOp {
	return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: reaperKey, Session: session}}
}

// catalogNode is what stands in the catalog about a node.
type catalogNode struct {
	ours     bool       // it is one of Fairway's; a key for anything else gives nobody the right to touch it
	shared   bool       // others registered services or checks there
	removals api.TxnOps // what takes all that is ours away
}

// node reads what stands in the catalog about a node.
func (c *Client) node(ctx context.Context, name string) (catalogNode, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, _, err := c.consul.Catalog().NodeServiceList(name, query(ctx))
	if err != nil {
		return catalogNode{}, fmt.Errorf("look up node %s: %w", name, err)
	}
	if list == nil || list.Node == nil || list.Node.Meta["external-source"] != "fairway" {
		return catalogNode{}, nil
	}
	checks, _, err := c.consul.Health().Node(name, query(ctx))
	if err != nil {
		return catalogNode{}, fmt.Errorf("look up checks of node %s: %w", name, err)
	}
	n := catalogNode{ours: true}
	for _, s := range list.Services {
		if s.Meta[service.Owner] == "" {
			n.shared = true
			continue
		}
		n.removals = append(n.removals, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDelete, Node: name, Service: api.AgentService{
			ID: s.ID, Service: s.Service, Namespace: s.Namespace, Partition: c.opt.Partition,
		}}})
	}
	var alive api.TxnOps
	for _, check := range checks {
		switch {
		case check.ServiceID != "":
		case check.CheckID == CheckID:
			alive = api.TxnOps{{Check: &api.CheckTxnOp{Verb: api.CheckDelete, Check: api.HealthCheck{
				Node: name, CheckID: CheckID, Partition: c.opt.Partition,
			}}}}
		default:
			n.shared = true
		}
	}
	if n.shared {
		n.removals = append(n.removals, alive...)
	} else {
		n.removals = api.TxnOps{{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: name, Partition: c.opt.Partition}}}}
	}
	return n, nil
}

// register is what a reaper knows of all nodes: whose key is without a session, and since when.
type register struct {
	ttl, reapAfter time.Duration
	nodes          map[string]*record
}

type record struct {
	index uint64    // of the key
	held  bool      // by a session
	since time.Time // when it was first seen without one
	known bool      // it was seen held before that
	lost  time.Time // when it was given up; zero while it is not

	stopped time.Duration // how long it may stay away because it was stopped on purpose
}

// verdict is one node to act on.
type verdict struct {
	node   string
	index  uint64
	remove bool // else its check turns critical
}

func newRegister(ttl, reapAfter time.Duration) *register {
	return &register{ttl: ttl, reapAfter: reapAfter, nodes: map[string]*record{}}
}

// sawHeld notes that a node's key was held by a session until a moment ago.
func (r *register) sawHeld(node string) { r.nodes[node] = &record{held: true} }

// update takes the keys as they are now.
func (r *register) update(pairs api.KVPairs, now time.Time) {
	nodes := make(map[string]*record, len(pairs))
	for _, p := range pairs {
		name := strings.TrimPrefix(p.Key, nodePrefix)
		if name == "" || strings.Contains(name, "/") {
			continue
		}
		next := &record{index: p.ModifyIndex, held: p.Session != "", since: now}
		if before := r.nodes[name]; before != nil {
			next.known = before.held || before.known
			if !before.held {
				next.since = before.since
			}
		}
		l := lifeIn(p)
		next.lost, next.stopped = l.Lost, time.Duration(l.Stopped)
		nodes[name] = next
	}
	r.nodes = nodes
}

// judge says whom to act on now and when to look again. A key that was never seen held may just
// be that of a node whose registrator is about to come back, or this reaper has only just
// begun: it gets a full TTL. One that was stopped on purpose gets the time it asked for.
func (r *register) judge(now time.Time) (verdicts []verdict, next time.Duration) {
	next = time.Minute
	for name, n := range r.nodes {
		if n.held {
			continue
		}
		due, remove := n.since.Add(r.ttl), false
		if n.known {
			due = n.since.Add(grace)
		}
		if n.stopped > 0 {
			due = n.since.Add(n.stopped)
		}
		if !n.lost.IsZero() {
			if r.reapAfter <= 0 {
				continue
			}
			due, remove = n.lost.Add(r.reapAfter), true
		}
		if wait := due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		verdicts = append(verdicts, verdict{node: name, index: n.index, remove: remove})
	}
	return verdicts, next
}
