package service

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// routing is what a container's labels, and those of its Swarm service, say about how the front
// end reaches it. Keys are checked by confgen, which knows them; here they are only carried, to
// the port they are meant for. Environment variables do not route.
type routing struct {
	keys    []routingKey // sorted by key
	network setting      // fairway.network
	ports   []routePort  // fairway.port and fairway.<route>.port, longest route first
}

type routingKey struct {
	key string // "host", "api-path"
	setting
}

// routePort is the port that the keys of one route are for.
type routePort struct {
	route string // "" for the keys of no named route
	setting
}

// readRouting collects the labels under the prefix. Dots become hyphens, because Consul's meta
// keys hold no dots; the label of the Swarm service wins over the container's.
func readRouting(c *Container, prefix string, report func(label, reason string)) routing {
	found := make(map[string]setting)
	read := func(labels map[string]string, from origin) {
		for _, label := range slices.Sorted(maps.Keys(labels)) {
			rest, ours := strings.CutPrefix(label, prefix+".")
			if !ours {
				continue
			}
			key := strings.ReplaceAll(strings.ToLower(rest), ".", "-")
			s := setting{key: key, value: labels[label], label: label, from: from}
			if other, twice := found[key]; twice && other.from == from && other.value != s.value {
				report(label, fmt.Sprintf("says the same key as %s and another value; this one is ignored", other.label))
				continue
			}
			found[key] = s
		}
	}
	read(c.Labels, fromLabel)
	read(c.Task.ServiceLabels, fromSwarmService)
	var r routing
	for _, key := range slices.Sorted(maps.Keys(found)) {
		s := found[key]
		route, isPort := strings.CutSuffix(key, "-port")
		switch {
		case prefix+"-"+key == Owner:
			report(s.label, "this key is registrator's own")
		case key == "network":
			r.network = s
		case key == "port":
			r.ports = append(r.ports, routePort{setting: s})
		case isPort:
			r.ports = append(r.ports, routePort{route: route, setting: s})
		default:
			r.keys = append(r.keys, routingKey{key: key, setting: s})
		}
	}
	slices.SortFunc(r.ports, func(a, b routePort) int {
		return cmp.Or(cmp.Compare(len(b.route), len(a.route)), cmp.Compare(a.route, b.route))
	})
	return r
}

// declared are the ports that routing labels name by number. Where a container is reached at its
// own ports, naming one is as good as exposing it.
func (r routing) declared() []Port {
	var ports []Port
	for _, rp := range r.ports {
		if n, err := parsePort(rp.value); err == nil {
			ports = append(ports, Port{Number: n, Protocol: "tcp"})
		}
	}
	return ports
}

// assign gives each routing key to the ports it is meant for: that of its route's port label, else
// that of the general one, else every TCP port, of which confgen then makes a problem if there are
// several. What names a port that is not registered goes nowhere and is reported: to route to
// another port than the one that was asked for would be a guess.
func (r routing) assign(slots []*slot, report func(label, reason string)) {
	targets := make(map[string]*slot, len(r.ports))
	for _, rp := range r.ports {
		target, why := findPort(slots, rp.value)
		if why != "" {
			report(rp.label, why)
		}
		targets[rp.route] = target
	}
	for _, k := range r.keys {
		rp, named := r.portOf(k.key)
		for _, s := range slots {
			if s.port.Protocol == "tcp" && (!named || targets[rp.route] == s) {
				s.routing = append(s.routing, k)
			}
		}
	}
}

// portOf finds the port label that rules over a key: that of the longest route the key begins
// with. A key of no such route falls under the general port.
func (r routing) portOf(key string) (routePort, bool) {
	for _, rp := range r.ports {
		if rp.route == "" || strings.HasPrefix(key, rp.route+"-") {
			return rp, true
		}
	}
	return routePort{}, false
}

// findPort finds the port that a label names: "80", "80/tcp", or the name given to a port alone.
func findPort(slots []*slot, ref string) (*slot, string) {
	var names []string
	for _, s := range slots {
		if s.port.Protocol != "tcp" {
			continue
		}
		number := fmt.Sprint(s.port.Number)
		name := s.settings["name"]
		if ref == number || ref == number+"/tcp" || !name.scope.generic() && ref == name.value {
			return s, ""
		}
		names = append(names, number)
	}
	if len(names) == 0 {
		return nil, fmt.Sprintf("the container has no registered TCP port %q, nor any other", ref)
	}
	return nil, fmt.Sprintf("the container has no registered TCP port %q; it has %s", ref, strings.Join(names, ", "))
}
