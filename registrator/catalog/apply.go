package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

const (
	maxOps   = 64        // Consul's limit for one transaction, of which one is kept for the hint
	maxBytes = 256 << 10 // half of Consul's default for one (limits.txn_max_req_len)
)

// Result is what became of changes.
type Result struct {
	Written int           // rows put or deleted, and the node itself
	Txns    int           // transactions sent
	Refused []Refused     // rows that Consul does not take, sorted by ID
	Later   []string      // IDs of rows that are written by the next pass
	Again   time.Duration // when the first of them is to be tried again; zero for none
}

// Refused is one row that Consul did not take.
type Refused struct {
	ID  string
	Err error
}

// unit is what must be written together.
type unit struct {
	id  string // service ID; empty for the node
	row service.Registration
	ops api.TxnOps

	services []string // whose rows it changes
	bytes    int      // that it adds to a request, once it was weighed
}

// Leave removes our rows, and the node itself where nothing else of it is left.
func (c *Client) Leave(ctx context.Context) error {
	o, err := c.Observed(ctx)
	if err != nil {
		return err
	}
	o.NodeChange = ""
	changes := service.Diff(o.Rows, service.Plan{})
	clear(c.refused)
	r, err := c.Apply(ctx, o, changes)
	if err != nil {
		return err
	}
	if len(r.Refused) > 0 {
		return fmt.Errorf("deregister %s: %w", r.Refused[0].ID, r.Refused[0].Err)
	}
	if !o.exists || o.inUse() {
		return nil
	}
	leave := unit{ops: api.TxnOps{{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: c.opt.Node.Name, Partition: c.opt.Partition}}}}}
	return c.write(ctx, []unit{leave}, &r)
}

// Apply writes changes, and the node where it needs it, in as few transactions as possible. A
// row that Consul refuses is taken out and the rest is written without it; it is tried again
// later, at once when it has changed. An error means that Consul itself did not answer, or
// refused the node: what was not written is seen by the next Observed.
func (c *Client) Apply(ctx context.Context, o Observed, changes service.Changes) (Result, error) {
	now := time.Now()
	var r Result
	var err error
	for batch := range batches(c.units(o, changes, now)) {
		if err = c.write(ctx, batch, &r); err != nil {
			break
		}
	}
	c.refused.report(&r, changes, now)
	if o.Remembered {
		clear(c.refused) // The catalog may not be what it was, and the rows not be to blame.
	}
	return r, err
}

// units turns changes into operations. Deletions go first: they may make room for an ID.
func (c *Client) units(o Observed, changes service.Changes, now time.Time) []unit {
	var units []unit
	if o.NodeChange != "" {
		units = append(units, unit{ops: api.TxnOps{
			{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: *o.node}},
			{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
				Node: o.node.Node, CheckID: AliveID, Name: aliveName, Status: api.HealthPassing, Output: aliveOutput,
				Partition: c.opt.Partition,
			}}},
		}})
	}
	names := make(map[string]string, len(o.Rows))
	checks := make(map[string][]service.Check, len(o.Rows))
	for _, row := range o.Rows {
		names[row.ID], checks[row.ID] = row.Name, row.Checks
	}
	for _, id := range changes.Delete {
		u := unit{id: id, services: []string{names[id]}, ops: api.TxnOps{{Service: &api.ServiceTxnOp{ // Consul wants the name, too, or refuses
			Verb: api.ServiceDelete, Node: c.opt.Node.Name,
			Service: api.AgentService{ID: id, Service: names[id], Namespace: c.opt.Namespace, Partition: c.opt.Partition},
		}}}}
		if c.refused.due(u.id, u.row, now) {
			units = append(units, u)
		}
	}
	for _, row := range changes.Put {
		u := c.put(row)
		if _, known := names[row.ID]; o.Remembered && !known {
			u.ops[0].Service.Verb = api.ServiceCAS // only where there is none: nobody looked whether the ID is somebody else's
		}
		u.ops = append(u.ops, c.dropChecks(row, checks[row.ID])...)
		u.ops = append(u.ops, c.dropTheirs(u.ops, row, o.held[row.ID])...)
		if before := names[row.ID]; before != "" && before != row.Name {
			u.services = append(u.services, before)
		}
		if c.refused.due(u.id, u.row, now) {
			units = append(units, u)
		}
	}
	return units
}

// put is a service and its checks.
func (c *Client) put(row service.Registration) unit {
	s := api.AgentService{
		ID: row.ID, Service: row.Name, Address: row.Address, Port: row.Port,
		Tags: row.Tags, Meta: row.Meta, EnableTagOverride: row.EnableTagOverride,
		Weights:   api.AgentWeights{Passing: max(row.Weight, 1), Warning: 1},
		Namespace: c.opt.Namespace, Partition: c.opt.Partition,
	}
	for name, a := range row.Addresses {
		if s.TaggedAddresses == nil {
			s.TaggedAddresses = map[string]api.ServiceAddress{}
		}
		s.TaggedAddresses[name] = api.ServiceAddress{Address: a.IP.String(), Port: a.Port}
	}
	u := unit{id: row.ID, row: row, services: []string{row.Name}, ops: api.TxnOps{
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: c.opt.Node.Name, Service: s}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: c.opt.Node.Name, CheckID: checkPrefix + row.ID, Name: checkName, Type: checkType,
			ServiceID: row.ID, ServiceName: row.Name, Status: string(row.Status), Output: row.Output,
			Namespace: c.opt.Namespace, Partition: c.opt.Partition,
		}}},
	}}
	for _, k := range row.Checks {
		u.ops = append(u.ops, c.putCheck(row, k))
	}
	return u
}

// batches packs units into transactions, in order.
func batches(units []unit) func(yield func([]unit) bool) {
	return func(yield func([]unit) bool) {
		var batch []unit
		ops, size := 0, 0
		for _, u := range units {
			u.bytes = weigh(u)
			if u.alone() { // and what is before it goes first, in order
				if len(batch) > 0 && !yield(batch) || !yield([]unit{u}) {
					return
				}
				batch, ops, size = nil, 0, 0
				continue
			}
			if len(batch) > 0 && (ops+len(u.ops) > maxOps-1 || size+u.bytes > maxBytes) {
				if !yield(batch) {
					return
				}
				batch, ops, size = nil, 0, 0
			}
			batch = append(batch, u)
			ops, size = ops+len(u.ops), size+u.bytes
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// weigh is how many bytes a unit adds to a request.
func weigh(u unit) int {
	body, err := json.Marshal(u.ops)
	if err != nil {
		return maxBytes // a transaction of its own, whose sending fails with the reason
	}
	return len(body)
}

// write sends units as one transaction, with a hint of what changes, and without those that are
// refused.
func (c *Client) write(ctx context.Context, units []unit, r *Result) error {
	for len(units) > 0 {
		now := time.Now()
		hint := c.hint(units, now)
		culprits, err := c.send(ctx, slices.Concat(units, hint), r)
		if err != nil {
			if len(hint) > 0 { // it may be to blame: what is tried next goes without
				c.hints.until = now.Add(hintPause)
			}
			return c.narrow(ctx, units, r, err)
		}
		if len(culprits) == 0 {
			c.took(units, hint, r)
			return nil
		}
		if why := culprits[hintID]; why != nil {
			c.refuseHint(why, now)
		}
		for _, u := range units {
			if why, refused := culprits[u.id]; refused {
				if u.id == "" {
					return fmt.Errorf("register node %s: %w", c.opt.Node.Name, why)
				}
				c.refused.add(u.id, u.row, why)
			}
		}
		units = slices.DeleteFunc(slices.Clone(units), func(u unit) bool { _, refused := culprits[u.id]; return refused })
	}
	return nil
}

// narrow deals with a transaction that was answered with an error as a whole. One row may be to
// blame for it, so each is sent alone; three such answers in a row blame Consul.
func (c *Client) narrow(ctx context.Context, units []unit, r *Result, err error) error {
	var unreachable *url.Error
	if len(units) == 1 || ctx.Err() != nil || errors.As(err, &unreachable) || units[0].id == "" {
		return err
	}
	failures := 0
	for _, u := range units {
		culprits, err := c.send(ctx, []unit{u}, r)
		why := culprits[u.id]
		switch {
		case ctx.Err() != nil || errors.As(err, &unreachable):
			return err
		case err != nil:
			if failures++; failures == 3 {
				return err
			}
			c.refused.add(u.id, u.row, err)
		case why != nil:
			c.refused.add(u.id, u.row, why)
		default:
			failures = 0
			c.took([]unit{u}, nil, r)
		}
	}
	return nil
}

// send sends units as one transaction and returns which of them it was refused for, by id. If
// there are any, nothing was written.
func (c *Client) send(ctx context.Context, units []unit, r *Result) (map[string]error, error) {
	if len(units) == 1 && units[0].alone() {
		return c.register(ctx, units[0], r)
	}
	var ops api.TxnOps
	var owner []string // of each operation
	for _, u := range units {
		ops = append(ops, u.ops...)
		for range u.ops {
			owner = append(owner, u.id)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r.Txns++
	ok, resp, _, err := c.consul.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("write to consul: %w", err)
	}
	if ok {
		return nil, nil
	}
	culprits := map[string]error{}
	for _, e := range resp.Errors {
		if e.OpIndex >= 0 && e.OpIndex < len(owner) {
			culprits[owner[e.OpIndex]] = errors.New(e.What)
		}
	}
	if len(culprits) == 0 {
		return nil, errors.New("write to consul: the transaction was rolled back without a reason")
	}
	return culprits, nil
}
