package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"fairway/registrator/service"
)

// Swarm is what a node knows of the Swarm it is in.
type Swarm struct {
	Member  bool // it is in one; known beside an error, too
	Manager bool // and may read the rest; a worker may not

	ID       string                 // of the Swarm
	Services []service.SwarmService // sorted by id
}

// Swarm asks the engine for the services of its Swarm. Any manager forwards the question to the
// leader, so that all give the same answer; without a leader there is none, which is an error. So is
// a node whose part in its Swarm does not run: that it has no id then does not mean it is in none.
func (c *Client) Swarm(ctx context.Context) (Swarm, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	engine := c.engine.Load()
	info, err := engine.Info(ctx)
	if err != nil {
		return Swarm{}, fmt.Errorf("ask docker for its swarm: %w", err)
	}
	s := Swarm{Member: info.Swarm.NodeID != "", Manager: info.Swarm.ControlAvailable}
	unsure, why := Swarm{Member: true}, cmp.Or(info.Swarm.Error, "no reason given")
	switch state := info.Swarm.LocalNodeState; {
	case !s.Member && state != swarm.LocalNodeStateInactive && state != "":
		return unsure, fmt.Errorf("ask docker for its swarm: the state of this node there is %s: %s", state, why)
	case !s.Manager:
		return s, nil
	case info.Swarm.Cluster == nil || info.Swarm.Cluster.ID == "": // newer engines tell of a cluster without an id
		return unsure, fmt.Errorf("ask docker for its swarm: this manager cannot tell: %s", why)
	}
	s.ID = info.Swarm.Cluster.ID
	list, err := engine.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return unsure, fmt.Errorf("list the services of the swarm: %w", err)
	}
	for _, doc := range list {
		s.Services = append(s.Services, convertService(doc))
	}
	slices.SortFunc(s.Services, func(a, b service.SwarmService) int { return cmp.Compare(a.ID, b.ID) })
	return s, nil
}

// RoutingMesh is the id of the network over which a Swarm's published ports lead to its tasks; empty
// where there is none.
func (c *Client) RoutingMesh(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := c.engine.Load().NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list docker's networks: %w", err)
	}
	for _, n := range list {
		if n.Ingress {
			return n.ID, nil
		}
	}
	return "", nil
}

// convertService reduces a service to what decides registrations. Ports are those that Swarm has
// given it: one that was left open in the specification has its number there.
func convertService(doc swarm.Service) service.SwarmService {
	s := service.SwarmService{ID: doc.ID, Name: doc.Spec.Name, Labels: doc.Spec.Labels}
	if r := doc.Spec.Mode.Replicated; r != nil && r.Replicas != nil {
		s.Stopped = *r.Replicas == 0
	}
	for _, p := range doc.Endpoint.Ports {
		if p.PublishMode == swarm.PortConfigPublishModeHost || p.PublishedPort == 0 || p.PublishedPort > 65535 || p.TargetPort > 65535 {
			continue
		}
		s.Mesh = append(s.Mesh, service.Publication{
			Target: uint16(p.TargetPort), Published: uint16(p.PublishedPort), Protocol: string(p.Protocol),
		})
	}
	slices.SortFunc(s.Mesh, func(a, b service.Publication) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Published, b.Published), cmp.Compare(a.Protocol, b.Protocol))
	})
	for _, v := range doc.Endpoint.VirtualIPs {
		if prefix, err := netip.ParsePrefix(v.Addr); err == nil { // "" until Swarm has chosen one
			s.VIPs = append(s.VIPs, service.VIP{Network: v.NetworkID, Addr: prefix.Addr().Unmap()})
		}
	}
	slices.SortFunc(s.VIPs, func(a, b service.VIP) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Addr.Compare(b.Addr))
	})
	return s
}
