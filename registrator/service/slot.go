package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// slot is one port of a container on its way to its registrations.
type slot struct {
	port     Port
	settings map[string]setting // what holds for this port
	spots    []spot
	given    string // the source of an address that replaces what was found
	waiting  bool
	refused  string // why it is not registered; empty when it is
	ignored  bool   // because its owner said so
	nameless bool   // because only what was given a name is registered
	routing  []routingKey
	decision *Decision
}

// slots are the ports of a container with their metadata and places, also those that are refused:
// ignored, without the name they must have, or out of reach.
func (b *builder) slots(c *Container, at place, r routing, m metadata, report reporter) []*slot {
	ports := b.ports(c, at, r)
	if len(ports) == 0 {
		b.decide(c, "").refuse("it has no port; EXPOSE or publish one")
	}
	var slots []*slot
	for _, p := range ports {
		s := &slot{port: p, settings: m.forPort(p), decision: b.decide(c, fmt.Sprintf("%d/%s", p.Number, p.Protocol))}
		if b.opt.MergeTags {
			s.settings = mergeTags(s.settings, m.all(p, "tags"))
		}
		if s.refused = b.examine(s, at, report); s.refused != "" {
			s.decision.refuse("%s", s.refused)
		}
		slots = append(slots, s)
	}
	return slots
}

// ports are the container's ports in the order in which they claim IDs: by number, tcp first.
func (b *builder) ports(c *Container, at place, r routing) []Port {
	ports := slices.DeleteFunc(slices.Clone(c.Ports), func(p Port) bool { return p.Number == 0 || !isProtocol(p.Protocol) })
	if at.reach != byPublished {
		ports = append(ports, r.declared()...)
	}
	rank := map[string]int{"tcp": 0, "udp": 1, "sctp": 2}
	compare := func(x, y Port) int {
		return cmp.Or(cmp.Compare(x.Number, y.Number), cmp.Compare(rank[x.Protocol], rank[y.Protocol]))
	}
	slices.SortStableFunc(ports, compare)
	return slices.CompactFunc(ports, func(x, y Port) bool { return compare(x, y) == 0 })
}

// examine finds where a port is reached and says why it is not registered; empty when it is.
func (b *builder) examine(s *slot, at place, report reporter) string {
	ignore := s.settings["ignore"]
	on, known := parseBool(ignore.value)
	if !known {
		report(ignore.label, fmt.Sprintf("%q is neither true nor false; taken as true", ignore.value))
	}
	if s.ignored = on || !known; s.ignored {
		return "ignored by " + ignore.source()
	}
	if s.nameless = b.opt.Explicit && s.settings["name"].value == ""; s.nameless {
		return "it has no " + b.opt.Prefix + "NAME, and only what has one is registered (--explicit)"
	}
	var why string
	if s.spots, s.waiting, why = b.spots(s.port, at); s.waiting {
		s.decision.note("waiting", "%s", why)
		return ""
	}
	if len(s.spots) == 0 {
		if at.reach == byPublished && why != notPublished { // somebody published it, and nobody can reach it
			report(fmt.Sprintf("-p …:%d/%s", s.port.Number, s.port.Protocol), why)
		}
		return why
	}
	s.fixAddress(report)
	s.spots = slices.DeleteFunc(s.spots, func(sp spot) bool { return !sp.at().Addr().IsValid() })
	if len(s.spots) == 0 {
		return "no address of this node is known that its binding answers at; give one with -ip"
	}
	s.decision.note("address", "%s", b.explainAddress(s, at))
	return ""
}

// fixAddress puts SERVICE_IP in the place of every address that was found.
func (s *slot) fixAddress(report reporter) {
	ip, given := s.settings["ip"]
	if !given || ip.value == "" {
		return
	}
	addr, why := parseAddress(ip.value)
	if why != "" {
		report(ip.label, why)
		return
	}
	s.given = ip.source()
	for i := range s.spots {
		s.spots[i].fixed = addr
	}
	s.spots = slices.CompactFunc(s.spots, func(x, y spot) bool { return x.at() == y.at() })
}

func (b *builder) explainAddress(s *slot, at place) string {
	var list []string
	onNode := false
	for _, sp := range s.spots {
		list = append(list, sp.at().String())
		addr := sp.at().Addr()
		onNode = onNode || addr == b.opt.IP || addr == b.opt.Node.IPv4 || addr == b.opt.Node.IPv6
	}
	why := at.why
	if at.reach == byPublished && !slices.ContainsFunc(s.spots, func(sp spot) bool { return !sp.shared }) {
		why += " by the routing mesh"
	}
	switch {
	case s.given != "":
		why = s.given
	case at.reach == byOwn || !onNode:
	case b.opt.IP.IsValid():
		why += ", node address from -ip"
	case b.opt.AddressFrom != "":
		why += ", node address from " + b.opt.AddressFrom
	}
	return strings.Join(list, ", ") + ": " + why
}

// mergeTags replaces the tags of a port by those of all scopes together, the widest scope first.
func mergeTags(settings map[string]setting, all []setting) map[string]setting {
	if len(all) < 2 {
		return settings
	}
	merged := all[len(all)-1]
	var values []string
	for _, s := range all {
		values = append(values, s.value)
	}
	merged.value = strings.Join(values, ",")
	settings["tags"] = merged
	return settings
}
