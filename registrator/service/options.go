package service

import (
	"net/netip"

	"fairway/registrator/service/dialect"
)

// Options are the operator's choices. Defaults gives what holds where nothing was chosen.
type Options struct {
	Node Node

	// AddressFrom says in words how the node's addresses were found, for explanations:
	// "the route to Consul", "Swarm's node address".
	AddressFrom string

	IP              netip.Addr // -ip: the node's only address, whatever Node says; zero when not given
	IPLabel         string     // -useIpFromLabel: the label that holds a container's own address
	Internal        bool       // -internal: containers' own addresses and ports instead of published ones
	Network         string     // take the address on this network (name or id) where a container has one
	Explicit        bool       // -explicit: only what was given a name is registered
	PublishLoopback bool       // register ports that are bound to a loopback address
	Tags            []Tag      // -tags: added to every registration
	MergeTags       bool       // generic and port-specific SERVICE_TAGS add up; else the specific replace the generic
	Prefix          string     // of metadata in environment and labels
	RoutingPrefix   string     // of routing labels, without the dot
	Dialects        []string   // other front ends whose labels are read, the first that asks for a route counts
	Ingress         Ingress    // which nodes stand for what the routing mesh publishes
	VIP             bool       // register Swarm services at their virtual address, where they have one, instead of each task
	Deregister      Deregister // what happens to the rows of a container that failed
}

// Deregister says when the rows of an ended container go.
type Deregister string

// Always removes the rows of every container that ended. OnSuccess keeps those of a container
// that failed, as critical, until it is removed or starts again.
const (
	Always    Deregister = "always"
	OnSuccess Deregister = "on-success"
)

// Defaults are the options of a registrator started without flags, save for the node.
func Defaults() Options {
	return Options{Prefix: "SERVICE_", RoutingPrefix: "fairway", Dialects: dialect.Names(), Ingress: ByTask, Deregister: Always}
}
