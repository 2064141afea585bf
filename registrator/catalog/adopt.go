package catalog

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// adoptable are the rows on our node that may be taken over, with their checks.
func (c *Client) adoptable(rows []service.Registration, checks api.HealthChecks) map[string]heldRow {
	held := map[string]heldRow{}
	for _, row := range rows {
		if c.opt.Adopts == nil || row.Owned() || !c.opt.Adopts(row.ID) {
			continue
		}
		var h heldRow
		for _, check := range checks {
			if check.ServiceID == row.ID {
				h.checks = append(h.checks, check.CheckID)
			}
		}
		held[row.ID] = h
	}
	return held
}

// dropTheirs removes the checks that a row had before it was ours and that ops do not write.
func (c *Client) dropTheirs(ops api.TxnOps, row service.Registration, held heldRow) (drop api.TxnOps) {
	for _, id := range held.checks {
		if slices.ContainsFunc(ops, func(op *api.TxnOp) bool { return op.Check != nil && op.Check.Check.CheckID == id }) {
			continue
		}
		drop = append(drop, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDelete, Check: api.HealthCheck{
			Node: c.opt.Node.Name, CheckID: id, ServiceID: row.ID, ServiceName: row.Name,
			Namespace: c.opt.Namespace, Partition: c.opt.Partition,
		}}})
	}
	return drop
}

// clear takes away what a row of gliderlabs/registrator would leave behind in an agent: a check
// goes on running under the ID of one of ours. A row that is not passing goes as a whole, so that it
// does not pass for a moment without its checks.
func (p *agentPass) clear(ctx context.Context, have service.Registration) error {
	if have.Meta[service.Owner] != service.Adopted {
		return nil
	}
	if now, _ := have.Health(); now != service.Passing {
		return p.remove(ctx, have.ID)
	}
	for _, id := range p.held[have.ID].checks {
		if err := p.dropCheck(ctx, id); err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

// Left reads the rows of an agent that is not the one we register with: what somebody else left
// there. Their status is the worst of their checks.
func Left(ctx context.Context, client *api.Client) ([]service.Registration, error) {
	o, err := NewAgent(client, AgentOptions{Node: "of the rows to adopt"}).Observed(ctx)
	if err != nil {
		return nil, err
	}
	return o.Rows, nil
}

// Deregister removes a row from an agent.
func Deregister(ctx context.Context, client *api.Client, id string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := client.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil && !missing(err) {
		return fmt.Errorf("deregister %s: %w", id, err)
	}
	return nil
}
