package service

import "net/netip"

// Registration is one row of Consul's catalog: one port of one container under one name. It is
// the whole desired state of that row; two equal registrations need no write.
type Registration struct {
	ID        string // "<node>:<container>:<port>[:udp|:sctp]" unless the user chose one
	Name      string
	Address   string // an IP address
	Port      int
	Tags      []string
	Meta      map[string]string // user metadata, routing keys and the owner mark
	Addresses map[string]Tagged // tagged addresses ("lan_ipv4", "lan_ipv6"); nil for none

	Weight            int // Consul's passing weight; 0 for Consul's default
	EnableTagOverride bool

	Status Status // of the check "service:<ID>": the container's truth
	Output string // why, in one line

	Checks []Check // what asks the service itself, besides
}

// Tagged is an address and port under a name of its own.
type Tagged struct {
	IP   netip.Addr
	Port int
}

// Status is a Consul check status.
type Status string

// The statuses of Consul's checks.
const (
	Passing  Status = "passing"
	Warning  Status = "warning"
	Critical Status = "critical"
)

// Owner is the service meta key that marks a row as ours. Its value is Mark's.
const Owner = "fairway-container"

// Node is what the pure functions must know of the Docker node itself.
type Node struct {
	Name string     // Consul node name, also the first part of every service ID
	IPv4 netip.Addr // address other machines reach this node at; zero when it has none
	IPv6 netip.Addr
}

// Problem is something a user wrote that could not be used. The rest of the container, if any, is
// registered all the same.
type Problem struct {
	Container string // container name
	Label     string // the label or environment variable at fault
	Reason    string // what is wrong and what to write instead
}
