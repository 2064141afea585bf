package service

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// routing is what a container's labels, and those of its Swarm service, say about how the front
// end reaches it. Keys are checked by confgen, which knows them; here they are only carried, to
// the port they are meant for. Labels and variables of other front ends are read as such keys.
type routing struct {
	prefix  string
	keys    []routingKey // sorted by key
	network setting      // fairway.network
	ports   []routePort  // fairway.port and fairway.<route>.port, longest route first
	notes   []string     // how the words of another front end were read
}

type routingKey struct {
	key string // "host", "api-path"
	setting
}

// routePort is the port that the keys of one route are for.
type routePort struct {
	route string // "" for the keys of no named route
	setting
	target *slot // nil when no registered port is meant
}

// readRouting collects the labels under the prefix. Dots become hyphens, because Consul's meta
// keys hold no dots; the label of the Swarm service wins over the container's.
func readRouting(c *Container, opt Options, report reporter) routing {
	prefix := opt.RoutingPrefix
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
	read(c.Task.labels(), fromSwarmService)
	r := routing{prefix: prefix, notes: translate(c, opt, found, report)}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		s := found[key]
		route, isPort := strings.CutSuffix(key, "-port")
		switch {
		case key == "":
			report(s.label, "names no key; write for example "+prefix+".host")
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

// assign gives each routing key to the ports it is meant for, together with the number of the
// port, by which confgen tells what of it is a route of that port and what is only a default:
//
//   - the keys of a route with a port label of its own: to that port;
//   - all others: to the port that the general label names, and to the ports of such routes, whose
//     defaults they are; without a general label to every TCP port, of which confgen makes a
//     problem if there are several.
//
// Keys for a port that is not registered are carried to every port together with its number, so
// that the front end's status page shows the slip too. A port's name means nothing there: where
// it is unknown nothing is carried, because to route to another port would be a guess.
func (r routing) assign(slots []*slot, report reporter) {
	for i, rp := range r.ports {
		target, why := findPort(slots, rp.value)
		if why != "" {
			report(rp.label, why)
			if _, err := parsePort(rp.value); err != nil && rp.route == "" {
				return
			}
		}
		r.ports[i].target = target
	}
	for _, s := range slots {
		if s.port.Protocol == "tcp" {
			s.routing = r.at(s)
		}
	}
}

// at are the keys that one port carries.
func (r routing) at(s *slot) []routingKey {
	var keys []routingKey
	ruled := make(map[string]bool)
	for _, k := range r.keys {
		rp, named := r.portOf(k.key)
		if !named || rp.leadsTo(s) || rp.route == "" && r.isTarget(s) {
			keys = append(keys, k)
			ruled[rp.key] = true
		}
	}
	for _, rp := range r.ports {
		if ruled[rp.key] {
			keys = append(keys, routingKey{key: rp.key, setting: rp.setting.with(rp.number())})
		}
	}
	return keys
}

// leadsTo reports whether the keys of a route go to a port. A number that no port has goes to all.
func (rp routePort) leadsTo(s *slot) bool {
	if rp.target == nil {
		_, err := parsePort(rp.value)
		return err == nil
	}
	return rp.target == s
}

func (rp routePort) number() string {
	if rp.target == nil {
		return rp.value
	}
	return strconv.Itoa(int(rp.target.port.Number))
}

// isTarget reports whether a port is that of a route with a label of its own.
func (r routing) isTarget(s *slot) bool {
	return slices.ContainsFunc(r.ports, func(rp routePort) bool { return rp.route != "" && rp.target == s })
}

// unreachable reports a container that asks to be routed and has no registered TCP port: most
// often a forgotten -P. Nobody is told of what he asked to be ignored.
func (r routing) unreachable(slots []*slot, why string, report reporter) {
	ignored := slices.ContainsFunc(slots, func(s *slot) bool { return s.ignored })
	if len(r.keys) == 0 || ignored {
		return
	}
	var reasons []string
	if why != "" {
		reasons = append(reasons, why)
	}
	nameless := false
	for _, s := range slots {
		if s.refused != "" {
			reasons = append(reasons, fmt.Sprintf("%d/%s: %s", s.port.Number, s.port.Protocol, s.refused))
		}
		nameless = nameless || s.nameless && s.port.Protocol == "tcp"
	}
	if nameless {
		reasons = append(reasons, "give the port a name")
	} else {
		reasons = append(reasons, "publish a TCP port (docker run -P), or name a network that the front end is on with "+r.prefix+".network")
	}
	report(r.keys[0].label, "there is no port to route to: "+strings.Join(reasons, "; "))
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
