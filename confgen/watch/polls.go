package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fairway/confgen/route"
	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
)

// The long polls by name.
const (
	pollServices = "catalog/services"
	pollChecks   = "health/state/any"
	pollNodes    = "catalog/nodes"

	pollOverrides = "kv/" + route.OverridePrefix
)

// narrowAbove is the number of checks from which on only those that are not passing are asked
// for: the list of 50,000 is 24 MB. More services than that have at least as many checks.
const narrowAbove = 2_000

// notPassing is Consul's filter for the narrow question.
const notPassing = `Status != "passing"`

// errNoLeader means that the answer may be missing what it should hold.
var errNoLeader = errors.New("answer of a Consul server that knows no leader")

// staleMost is how long ago the server that answers may have heard of its leader.
const staleMost = time.Minute

// trusted refuses answers that must not change anything (F11).
func trusted(meta *api.QueryMeta) error {
	if !meta.KnownLeader {
		return errNoLeader
	}
	if meta.LastContact > staleMost {
		return fmt.Errorf("answer of a Consul server that heard of its leader %s ago", meta.LastContact.Round(time.Second))
	}
	return nil
}

// check is one row of health/state/any, as far as it is needed.
type check struct {
	Node, CheckID, ServiceName, Status string
	ModifyIndex                        uint64
}

type checkID struct{ node, id string }

// checks is an answer of health/state/any; narrow when passing ones were left out.
type checks struct {
	rows   []check
	narrow bool
}

func (w *Watcher) pollServices(ctx context.Context) error {
	return poll(ctx, w, pollServices, func(q *api.QueryOptions) (map[string][]string, *api.QueryMeta, error) {
		return w.opt.Client.Catalog().Services(q.WithContext(w.noticing(q.Context())))
	}, (*keeper).listed)
}

func (w *Watcher) pollChecks(ctx context.Context) error {
	var known rows[check]
	return poll(ctx, w, pollChecks, func(q *api.QueryOptions) (checks, *api.QueryMeta, error) {
		answer := checks{narrow: w.narrow.Load()}
		if answer.narrow {
			q.Filter = notPassing
		}
		meta, err := known.ask(w.opt.Client, "/v1/health/state/any", q, &answer.rows)
		if err == nil && !answer.narrow && len(answer.rows) > w.opt.narrowAbove {
			w.narrow.Store(true)
		}
		return answer, meta, err
	}, (*keeper).checked)
}

func (w *Watcher) pollNodes(ctx context.Context) error {
	return poll(ctx, w, pollNodes, func(q *api.QueryOptions) ([]*api.Node, *api.QueryMeta, error) {
		return w.opt.Client.Catalog().Nodes(q)
	}, (*keeper).located)
}

// poll follows one blocking query and hands its answers and errors to the keeper.
func poll[T any](ctx context.Context, w *Watcher, name string, query func(*api.QueryOptions) (T, *api.QueryMeta, error), got func(*keeper, T)) error {
	trusting := func(q *api.QueryOptions) (T, *api.QueryMeta, error) {
		value, meta, err := query(q)
		if err == nil {
			err = trusted(meta)
		}
		return value, meta, err
	}
	opt := consul.WatchOptions{Failed: func(err error, _ time.Duration) {
		w.tell(ctx, func(k *keeper) { k.pollFailed(name, err) })
	}}
	return consul.Watch(ctx, trusting, opt, func(value T, meta *api.QueryMeta) {
		w.tell(ctx, func(k *keeper) {
			k.pollAnswered(name, meta)
			got(k, value)
		})
	})
}

// pollState is what is known of one long poll.
type pollState struct {
	answered bool
	index    uint64
	moved    bool // the last answer had another index than the one before
	filtered bool // ACLs have hidden rows
	err      error
}

func (k *keeper) pollFailed(name string, err error) {
	if name == pollOverrides && refused(err) {
		k.overridesRefused(err)
		return
	}
	if name == pollServices && k.polls[name].err == nil && k.mode != Aggregate {
		for _, s := range k.services {
			k.unfollow(s)
		}
	}
	k.polls[name].err = err
	k.pollErr = k.firstPollErr()
	if k.freshAt.IsZero() && k.latest == nil {
		k.restore("consul does not answer")
	}
}

func (k *keeper) pollAnswered(name string, meta *api.QueryMeta) {
	p := k.polls[name]
	if p.answered && meta.LastIndex < p.index {
		// The server was restored or replaced: its indexes say nothing about what was read.
		k.log.Warn("consul's index went backwards, reading everything again", "query", name, "index", meta.LastIndex)
		k.readAll(meta.LastIndex)
	}
	again := name == pollServices && p.err != nil
	p.moved = meta.LastIndex != p.index
	p.answered, p.index, p.filtered, p.err = true, meta.LastIndex, meta.ResultsFilteredByACLs, nil
	k.pollErr = k.firstPollErr()
	if again && k.mode != Aggregate {
		k.followAll()
	}
}

// firstPollErr returns the error of a poll that fails now, in a fixed order.
func (k *keeper) firstPollErr() error {
	for _, name := range []string{pollServices, pollChecks, pollNodes, pollOverrides} {
		if p := k.polls[name]; p != nil && p.err != nil {
			return p.err
		}
	}
	return nil
}

// listed takes in the names of all services.
func (k *keeper) listed(names map[string][]string) {
	k.inCatalog = len(names)
	first := len(k.services) == 0
	k.chooseMode(len(names))
	for name := range names {
		if k.services[name] == nil {
			s := &service{name: name}
			k.services[name] = s
			k.missing++
			if k.mode == Aggregate {
				k.want(name)
			} else {
				k.follow(s)
			}
		}
	}
	for name, s := range k.services {
		if _, ok := names[name]; ok {
			continue
		}
		k.forget(s)
	}
	if k.polls[pollServices].moved && !first && k.mode == Aggregate {
		k.sweep.look(k.polls[pollServices].index, k.watcher.narrow.Load() && !k.hints.telling(), time.Now())
	}
}

// checked marks the services whose checks are not what they were.
func (k *keeper) checked(answer checks) {
	now := make(map[checkID]check, len(answer.rows))
	for _, r := range answer.rows {
		id := checkID{r.Node, r.CheckID}
		now[id] = r
		before, had := k.checks[id]
		if k.checksRead && (!had || before.ModifyIndex != r.ModifyIndex || before.Status != r.Status) {
			k.news(r)
		}
	}
	for id, r := range k.checks {
		_, still := now[id]
		if !still && (!answer.narrow || r.Status != api.HealthPassing) {
			k.dirty(r)
		}
	}
	k.checks, k.checksRead = now, true
	if len(now) > k.watcher.opt.narrowAbove && !answer.narrow {
		k.log.Info("many checks: following only those that are not passing", "checks", len(now))
		k.forgetPassing()
	}
}

// forgetPassing drops the rows that the next, narrow answers leave out.
func (k *keeper) forgetPassing() {
	small := make(map[checkID]check)
	for id, r := range k.checks {
		if r.Status != api.HealthPassing {
			small[id] = r
		}
	}
	k.checks = small
}

// dirty marks the service of a check; a node's own check concerns every service on that node.
func (k *keeper) dirty(r check) {
	if r.ServiceName == "" {
		k.dirtyNode(r.Node)
		return
	}
	k.want(r.ServiceName)
}

// news marks the service of a check that has changed, if it has not been read since.
func (k *keeper) news(r check) {
	if s := k.services[r.ServiceName]; s == nil || !s.shows(r.ModifyIndex) {
		k.dirty(r)
	}
}

// located takes in all nodes and marks the services on those whose address changed.
func (k *keeper) located(nodes []*api.Node) {
	since := k.polls[pollNodes].index
	if k.nodes != nil {
		since = 0 // a node that appears now: all of its rows are news
	}
	before := k.nodes
	k.nodes = make(map[string]*node, len(nodes))
	for _, n := range nodes {
		known := before[n.Node]
		switch {
		case known == nil:
			known = &node{name: n.Node, since: since}
			if before != nil {
				k.sweep.owe(time.Now())
			}
		case known.address != n.Address:
			k.dirtyNode(n.Node)
		}
		known.address = n.Address
		k.nodes[n.Node] = known
	}
	for name := range before {
		if k.nodes[name] == nil {
			k.dirtyNode(name)
		}
	}
}

// dirtyNode marks the routed services with an instance on node. Services not read yet are marked
// too: their answer may be on its way from before the change.
func (k *keeper) dirtyNode(node string) {
	for name, s := range k.services {
		if !s.answered || s.on(node) {
			k.want(name)
		}
	}
}
