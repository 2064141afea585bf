package catalog

import (
	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// activePrefix begins the IDs of active checks: "check:<service ID>:<kind>". With another beginning
// than the container's own check has, no choice of SERVICE_ID makes two checks share an ID.
const activePrefix = "check:"

func activeID(serviceID string, kind service.Kind) string {
	return activePrefix + serviceID + ":" + string(kind)
}

// activeChecks reads the active checks of a service back.
func activeChecks(serviceID string, byID map[string]*api.HealthCheck) []service.Check {
	var list []service.Check
	for _, kind := range service.Kinds {
		check := byID[activeID(serviceID, kind)]
		if check == nil || check.ServiceID != serviceID {
			continue
		}
		d := check.Definition
		k := service.Check{
			Kind: kind, Method: d.Method, Header: service.FormatHeader(d.Header), SkipVerify: d.TLSSkipVerify,
			Interval: d.IntervalDuration, Timeout: d.TimeoutDuration, DeregisterAfter: d.DeregisterCriticalServiceAfterDuration,
			Status: service.Status(check.Status), Output: check.Output,
		}
		if k.Target = d.HTTP; kind == service.TCP {
			k.Target = d.TCP
		}
		list = append(list, k)
	}
	return list
}

// putCheck writes an active check as Consul describes one, although registrator runs it: whoever
// looks at the catalog sees what is asked, how often, and what came of it.
func (c *Client) putCheck(row service.Registration, k service.Check) *api.TxnOp {
	definition := api.HealthCheckDefinition{
		Method: k.Method, TLSSkipVerify: k.SkipVerify, Interval: api.ReadableDuration(k.Interval), Timeout: api.ReadableDuration(k.Timeout),
		DeregisterCriticalServiceAfter: api.ReadableDuration(k.DeregisterAfter),
	}
	switch k.Kind {
	case service.HTTP, service.HTTPS:
		definition.HTTP = k.Target
		if header, ok := service.ParseHeader(k.Header); ok && len(header) > 0 {
			definition.Header = header
		}
	case service.TCP:
		definition.TCP = k.Target
	case service.Script, service.Cmd:
	}
	return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
		Node: c.opt.Node.Name, CheckID: activeID(row.ID, k.Kind), Name: string(k.Kind) + " check", Type: string(k.Kind),
		ServiceID: row.ID, ServiceName: row.Name, Status: string(k.Status), Output: k.Output, Definition: definition,
		Namespace: c.opt.Namespace, Partition: c.opt.Partition,
	}}}
}

// dropChecks removes the active checks that a row had and is not to have any more.
func (c *Client) dropChecks(row service.Registration, have []service.Check) api.TxnOps {
	var ops api.TxnOps
	for _, old := range have {
		wanted := false
		for _, k := range row.Checks {
			wanted = wanted || k.Kind == old.Kind
		}
		if !wanted {
			ops = append(ops, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDelete, Check: api.HealthCheck{
				Node: c.opt.Node.Name, CheckID: activeID(row.ID, old.Kind), ServiceID: row.ID, ServiceName: row.Name,
				Namespace: c.opt.Namespace, Partition: c.opt.Partition,
			}}})
		}
	}
	return ops
}
