// Package service is registrator's pure heart: it turns the containers of one node into the
// rows that Consul must hold, and two sets of rows into the difference between them. It does
// no I/O and knows neither Docker's client nor Consul's.
package service

import (
	"net/netip"
	"time"
)

// Container is what Docker says of one container, reduced to what decides a registration.
// It is filled by the docker package from an inspect document and, on a Swarm node, from the
// task's labels.
type Container struct {
	ID       string            // 64 hexadecimal digits
	Name     string            // without the leading slash
	Image    string            // as the container was created: "registry:5000/team/web:1.2"
	RepoTags []string          // tags of the image, consulted when Image is a bare id
	Env      []string          // "KEY=value", image and container environment merged by Docker
	Labels   map[string]string // container labels
	Task     Task              // zero outside Swarm
	Mesh     bool              // it is none, but stands for a service of Swarm's routing mesh
	Created  time.Time         // when it was created: the older of two claims to one ID wins

	State        State
	Health       Health
	HealthOutput string // last line of the last probe
	Stopping     bool   // got its stop signal or SIGKILL and has not ended yet
	ExitCode     int    // meaningful when State is Exited
	AutoRemove   bool   // docker run --rm

	NetworkMode string    // "default", "bridge", "host", "none", "container:<id or name>", or a network's name or id
	Networks    []Network // sorted by name
	Ports       []Port    // every exposed or published port, sorted by number then protocol

	Inspect any // the whole inspect document, for tag templates; never compared
}

// State is a container's state in Docker's words.
type State string

// The states Docker reports, and Unknown for a container that exists but could not be read just
// now: whatever is registered for it stays as it is.
const (
	Unknown    State = ""
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Removing   State = "removing"
	Exited     State = "exited"
	Dead       State = "dead"
)

// Health is the verdict of the container's HEALTHCHECK.
type Health string

// The verdicts Docker reports; NoHealth where the image has no HEALTHCHECK.
const (
	NoHealth  Health = ""
	Starting  Health = "starting"
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
)

// Network is one network a container is attached to.
type Network struct {
	Name            string
	ID              string
	IPv4            netip.Addr // zero when the container has none there
	IPv6            netip.Addr
	GatewayPriority int
	Ingress         bool // Swarm's routing mesh: no service is ever reached there
}

// Port is one port of a container and the places it is published at.
type Port struct {
	Number   uint16
	Protocol string // "tcp", "udp" or "sctp"
	Bindings []Binding
}

// Binding is one published address. Port 0 means that the engine has not bound it yet.
type Binding struct {
	IP   netip.Addr // unspecified (0.0.0.0 or ::) when bound on every address
	Port uint16
	Mesh bool // by Swarm's routing mesh: it leads to any task of the service, on whatever node
}
