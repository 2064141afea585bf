package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// alone reports whether a unit cannot be part of a transaction: Consul's transactions drop a
// service's tagged addresses without a word (convertOps in its agent/txn_endpoint.go).
func (u unit) alone() bool { return len(u.row.Addresses) > 0 }

// register writes a row with tagged addresses: the service and its checks in one request, as
// atomic as a transaction. Checks it is not to have any more go in a transaction before.
func (c *Client) register(ctx context.Context, u unit, r *Result) (map[string]error, error) {
	request := &api.CatalogRegistration{Node: c.opt.Node.Name, SkipNodeUpdate: true, Partition: c.opt.Partition}
	var drop api.TxnOps
	for _, op := range u.ops {
		switch {
		case op.Service != nil:
			request.Service = &op.Service.Service
		case op.Check.Verb == api.CheckDelete:
			drop = append(drop, op)
		default:
			request.Checks = append(request.Checks, &op.Check.Check)
		}
	}
	if len(drop) > 0 {
		if culprits, err := c.send(ctx, []unit{{id: u.id, ops: drop}}, r); len(culprits) > 0 || err != nil {
			return culprits, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r.Txns++
	_, err := c.consul.Catalog().Register(request, (&api.WriteOptions{}).WithContext(ctx))
	var status api.StatusError
	if errors.As(err, &status) && (status.Code == http.StatusForbidden || status.Code == http.StatusBadRequest) {
		return map[string]error{u.id: errors.New(status.Body)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("write to consul: %w", err)
	}
	return nil, nil
}
