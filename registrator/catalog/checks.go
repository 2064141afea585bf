package catalog

import (
	"strings"
	"time"

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
			Kind: kind, Method: d.Method, Header: service.FormatHeader(d.Header), UseTLS: d.GRPCUseTLS, SkipVerify: d.TLSSkipVerify,
			Interval: d.IntervalDuration, Timeout: d.TimeoutDuration, DeregisterAfter: d.DeregisterCriticalServiceAfterDuration,
			Status: service.Status(check.Status), Output: check.Output, CriticalSince: parseSince(check.Notes),
		}
		switch kind {
		case service.HTTP, service.HTTPS:
			k.Target = d.HTTP
		case service.TCP:
			k.Target = d.TCP
		case service.GRPC:
			k.Target = d.GRPC
		case service.Script, service.Cmd:
		}
		list = append(list, k)
	}
	return list
}

// sincePrefix begins the notes of a check whose row goes when it has been critical for too long.
const sincePrefix = "critical since "

// formatSince keeps where people see it, too, how long a check has been critical.
func formatSince(k service.Check) string {
	if k.DeregisterAfter <= 0 || k.CriticalSince.IsZero() {
		return ""
	}
	return sincePrefix + k.CriticalSince.UTC().Format(time.RFC3339Nano)
}

// parseSince reads what formatSince wrote; zero for all else.
func parseSince(notes string) time.Time {
	text, found := strings.CutPrefix(notes, sincePrefix)
	if !found {
		return time.Time{}
	}
	since, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{} // somebody else's words: counted from now
	}
	return since.UTC()
}

// putCheck writes an active check as Consul describes one, although registrator runs it: whoever
// looks at the catalog sees what is asked, how often, and what came of it, but for secrets.
func (c *Client) putCheck(row service.Registration, k service.Check) *api.TxnOp {
	definition := api.HealthCheckDefinition{
		Method: k.Method, TLSSkipVerify: k.SkipVerify, Interval: api.ReadableDuration(k.Interval), Timeout: api.ReadableDuration(k.Timeout),
		DeregisterCriticalServiceAfter: api.ReadableDuration(k.DeregisterAfter),
	}
	switch k.Kind {
	case service.HTTP, service.HTTPS:
		definition.HTTP = k.Target
		if header, ok := service.ParseHeader(service.ShownHeader(k.Header)); ok && len(header) > 0 {
			definition.Header = header
		}
	case service.TCP:
		definition.TCP = k.Target
	case service.GRPC:
		definition.GRPC, definition.GRPCUseTLS = k.Target, k.UseTLS
	case service.Script, service.Cmd:
	}
	return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
		Node: c.opt.Node.Name, CheckID: activeID(row.ID, k.Kind), Name: string(k.Kind) + " check", Type: string(k.Kind),
		ServiceID: row.ID, ServiceName: row.Name, Status: string(k.Status), Output: k.Output, Notes: formatSince(k), Definition: definition,
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
