package catalog

import (
	"context"
	"errors"
	"net/http"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// put registers a row and its checks.
func (p *agentPass) put(ctx context.Context, row service.Registration) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p.result.Txns++
	return p.consul.Agent().ServiceRegisterOpts(p.request(row), (&api.ServiceRegisterOpts{}).WithContext(ctx))
}

// remove deregisters a row; its checks go with it.
func (p *agentPass) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	delete(p.told, id)
	p.result.Txns++
	if err := p.consul.Agent().ServiceDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx)); !missing(err) {
		return err
	}
	return nil
}

func (p *agentPass) dropCheck(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	p.result.Txns++
	return p.consul.Agent().CheckDeregisterOpts(id, (&api.QueryOptions{}).WithContext(ctx))
}

func (p *agentPass) update(ctx context.Context, checkID string, status service.Status, output string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return p.consul.Agent().UpdateTTLOpts(checkID, output, string(status), (&api.QueryOptions{}).WithContext(ctx))
}

// missing reports whether an agent answered that it has no such service or check.
func missing(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}
