package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Task says which Swarm task a container runs.
type Task struct {
	ID          string
	Name        string // "stack_web.1.abc"
	ServiceID   string
	ServiceName string // "stack_web"

	// Service is what its service says; nil as long as that is not known, which is not the same as
	// a service that says nothing: its rows stay as they are, and a new task waits.
	Service *SwarmService
}

// SwarmService is what a Swarm service says for all of its tasks. Only managers can read it from
// Docker; they share it with the other nodes.
type SwarmService struct {
	ID      string
	Name    string
	Labels  map[string]string // deploy.labels
	Omitted []string          // labels that are too long to be shared
	Mesh    []Publication     // ports published by the routing mesh, on every node of the Swarm
	VIPs    []VIP             // one for each network; none with endpoint mode dnsrr
	Stopped bool              // scaled to 0: nobody answers at its ports

	Source string // in words, how this is known, for explanations

	// Guess says why nothing is known although the tasks are to be registered: then they are, by
	// their containers' labels alone, until more is known. Empty when all this is a fact.
	Guess string
}

// Publication is a port that Swarm's routing mesh answers at and leads to a task.
type Publication struct {
	Target    uint16 // the task's port
	Published uint16 // the port of every node
	Protocol  string // "tcp", "udp" or "sctp"
}

// VIP is the virtual address of a service on one network.
type VIP struct {
	Network string // id
	Addr    netip.Addr
}

// Ingress says which nodes are instances of a service at the ports that the routing mesh publishes.
type Ingress string

// ByTask registers the nodes that run a task, as healthy as the best of theirs. ByNode registers
// every node, whatever it runs: by the service's own labels, as there may be no container.
const (
	ByTask Ingress = "task"
	ByNode Ingress = "all"
)

// MetaGuess marks a row of which the labels of its Swarm service are not known.
const (
	MetaGuess = "swarm-labels"
	unknown   = "unknown"
)

// labels are what the task's service says; nil when that is not known, or it is no task.
func (t Task) labels() map[string]string {
	if t.Service == nil {
		return nil
	}
	return t.Service.Labels
}

// unknown reports whether the container is a task of a service of which nothing is known yet.
func (t Task) unknown() bool { return t.ServiceID != "" && t.Service == nil }

// guessed reports whether its labels are only guessed to be none.
func (t Task) guessed() bool { return t.Service != nil && t.Service.Guess != "" }

// vip is the service's virtual address on a network, of the family that Swarm gave it.
func (t Task) vip(n Network) netip.Addr {
	if t.Service == nil {
		return netip.Addr{}
	}
	for _, v := range t.Service.VIPs {
		if v.Network == n.ID {
			return usable(v.Addr)
		}
	}
	return netip.Addr{}
}

// meshID begins the ids of the containers that stand for the routing mesh.
const meshID = "swarm-"

// Mesh returns containers that stand for what the routing mesh publishes on this node, whether a
// task runs here or not. known is false as long as no list of services was ever read: then the
// rows that there are stay.
func Mesh(services []SwarmService, known bool) []Container {
	if !known {
		return []Container{{ID: meshID, Name: "routing mesh", Mesh: true}}
	}
	var list []Container
	for i := range services {
		s := &services[i]
		if s.Stopped || len(s.Mesh) == 0 {
			continue
		}
		list = append(list, Container{
			ID: meshID + s.ID, Name: s.Name, Mesh: true, State: Running, NetworkMode: "default",
			Task: Task{ServiceID: s.ID, ServiceName: s.Name, Service: s},
		}.published())
	}
	return list
}

// published adds the ports that the routing mesh publishes to those of a container, exposed or not.
func (c Container) published() Container {
	if c.Task.Service == nil || len(c.Task.Service.Mesh) == 0 {
		return c
	}
	c.Ports = slices.Clone(c.Ports)
	for _, m := range c.Task.Service.Mesh {
		i := slices.IndexFunc(c.Ports, func(p Port) bool { return p.Number == m.Target && p.Protocol == m.Protocol })
		if i < 0 {
			i = len(c.Ports)
			c.Ports = append(c.Ports, Port{Number: m.Target, Protocol: m.Protocol})
		}
		bound := Binding{IP: netip.IPv4Unspecified(), Port: m.Published, Mesh: true}
		c.Ports[i].Bindings = append(slices.Clone(c.Ports[i].Bindings), bound)
	}
	return c
}

// readService notes how the labels of a task's service are known, and what is wrong with them.
func (b *builder) readService(c *Container, report reporter) {
	s := c.Task.Service
	if s == nil {
		return
	}
	if s.Source != "" {
		b.decide(c, "").note("swarm service", "%s: %s", cmp.Or(c.Task.ServiceName, c.Task.ServiceID), s.Source)
	}
	if s.Guess != "" {
		report("deploy.labels", s.Guess)
	}
	for _, label := range s.Omitted {
		report(label, "the label of the Swarm service is too long to be shared with all nodes, so it counts on none")
	}
}

// wait keeps the rows of a task as they are while nothing is known of its service. That it is
// paused or stopping is true all the same.
func (b *builder) wait(c *Container, l life) {
	waiting := l.kept("the labels of its Swarm service are not known yet; a new task waits for them")
	if c.Stopping || c.State == Paused {
		waiting.status, waiting.output = l.status, l.output
	}
	b.rest(c, waiting)
}

// keepShared keeps the rows that the tasks of a service share on this node while it is not known what
// the service publishes. Their mark may be that of a task which has ended since.
func (b *builder) keepShared(c *Container) {
	if name := firstName(c.Task.ServiceName, c.Name); name != "" {
		b.plan.KeptShared = append(b.plan.KeptShared, fmt.Sprintf("%s:%s:", b.opt.Node.Name, name))
	}
}

// onMesh explains a task of which only the routing mesh publishes ports, where every node stands for
// them: what its container says in particular is not heard there.
func (b *builder) onMesh(c *Container, r routing, report reporter) {
	b.decide(c, "").note("shared", "its service is registered once for this node, by the labels of the service (--ingress all)")
	for _, k := range r.keys {
		if k.from != fromSwarmService {
			report(k.label, "with --ingress all only the labels of the Swarm service count; write it under deploy.labels")
			return
		}
	}
}

// mergeShared makes one claim of all that lead to one place which the tasks of a service share: a
// port of the routing mesh on this node, or a virtual address. The best of them speaks for the
// others, of equals the oldest: the place answers as long as one of them does.
func (b *builder) mergeShared() {
	rank := map[Status]int{Passing: 0, Warning: 1, Critical: 2}
	best := make(map[string]*claim)
	for _, c := range b.claims {
		if other := best[c.shared]; other == nil || rank[c.row.Status] < rank[other.row.Status] {
			best[c.shared] = c
		}
	}
	b.claims = slices.DeleteFunc(b.claims, func(c *claim) bool {
		if c.shared == "" || best[c.shared] == c {
			return false
		}
		c.slot.decision.note("shared", "%s stands once for all tasks of the service on this node, now for %s",
			netip.AddrPortFrom(netip.MustParseAddr(c.row.Address), uint16(c.row.Port)), best[c.shared].container.Name)
		return true
	})
}

// sharedBy names a place that all tasks of a container's service share on this node.
func (s *slot) sharedBy(c *Container, at netip.AddrPort) string {
	return fmt.Sprintf("%s/%s %s/%s", c.Task.ServiceID, c.Task.ServiceName, at, s.port.Protocol)
}

// shareChecks makes the checks that ask a shared place everybody's; commands run in a container.
func shareChecks(list []Check) {
	for i := range list {
		if list[i].Command == "" {
			list[i].Container, list[i].Shared = "", true
		}
	}
}

// prefer leaves rows alone that were made when the labels of their Swarm service were known, where
// these are only guessed now. What is known of the container itself stays true: its status.
func (p Plan) prefer(observed []Registration) Plan {
	better := make(map[string]bool)
	for _, row := range observed {
		if row.Owned() && row.Meta[MetaGuess] == "" {
			better[marked(row.Meta[Owner])] = true
		}
	}
	kept := make(map[string]bool)
	guesses := func(row Registration) bool {
		container := marked(row.Meta[Owner])
		if row.Meta[MetaGuess] == "" || !better[container] {
			return false
		}
		if !kept[container] {
			kept[container] = true
			p.Kept = append(slices.Clip(p.Kept), Kept{Container: container, Status: row.Status, Output: row.Output})
		}
		return true
	}
	p.Registrations = slices.DeleteFunc(slices.Clone(p.Registrations), guesses)
	return p
}

// isMesh reports whether a row stands for the routing mesh, not for a container.
func isMesh(container string) bool { return strings.HasPrefix(container, meshID) }
