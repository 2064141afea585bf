package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Desired computes what the catalog must hold for the containers of this node. It needs to see all
// of them at once: containers share network stacks, and two may ask for the same ID.
func Desired(containers []Container, opt Options) Plan {
	b := newBuilder(containers, opt)
	for _, c := range b.containers {
		b.container(c)
	}
	b.assignIDs()
	b.finish()
	return b.plan
}

// builder is one computation of a plan.
type builder struct {
	opt        Options
	containers []*Container // the oldest first
	byID       map[string]*Container
	byName     map[string]*Container
	claims     []*claim
	decisions  []*Decision
	plan       Plan
}

func newBuilder(containers []Container, opt Options) *builder {
	defaults := Defaults()
	opt.Prefix = cmp.Or(opt.Prefix, defaults.Prefix)
	opt.RoutingPrefix = cmp.Or(opt.RoutingPrefix, defaults.RoutingPrefix)
	b := &builder{opt: opt, byID: make(map[string]*Container), byName: make(map[string]*Container)}
	for i := range containers {
		c := &containers[i]
		b.containers = append(b.containers, c)
		b.byID[c.ID] = c
		b.byName[c.Name] = c
	}
	slices.SortFunc(b.containers, older)
	return b
}

// older orders containers by age. Docker's ids are random, so they only make the order total.
func older(x, y *Container) int {
	return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID), cmp.Compare(x.Name, y.Name))
}

// find finds a container by id, by name, or by the beginning of its id.
func (b *builder) find(ref string) *Container {
	if c := b.byID[ref]; c != nil {
		return c
	}
	if c := b.byName[strings.TrimPrefix(ref, "/")]; c != nil {
		return c
	}
	if len(ref) >= 12 {
		for _, c := range b.containers {
			if strings.HasPrefix(c.ID, ref) {
				return c
			}
		}
	}
	return nil
}

// slot is one port of a container on its way to its registrations.
type slot struct {
	port     Port
	settings map[string]setting // what holds for this port
	spots    []spot
	waiting  bool
	routing  []routingKey
	decision *Decision
}

func (b *builder) container(c *Container) {
	report := func(label, reason string) {
		b.plan.Problems = append(b.plan.Problems, Problem{Container: c.Name, Label: label, Reason: reason})
	}
	life := lifeOf(c, b.opt.Deregister)
	if life.fate != serve {
		b.rest(c, life)
		return
	}
	routes := readRouting(c, b.opt.RoutingPrefix, report)
	at := b.locate(c, routes.network, report)
	if at.kept {
		b.rest(c, life.kept(at.why))
		return
	}
	if at.reach == nowhere {
		b.decide(c, "").refuse("%s", at.why)
		return
	}
	slots := b.slots(c, at, routes, readMetadata(c, b.opt.Prefix, report), report)
	routes.assign(slots, report)
	for _, s := range slots {
		b.claim(c, s, slots, life, report)
	}
}

// kept turns the life of a container whose place is not known into one whose rows stay.
func (l life) kept(why string) life { return life{fate: keep, reason: why} }

// rest notes what becomes of the rows of a container that is not up.
func (b *builder) rest(c *Container, l life) {
	d := b.decide(c, "")
	if l.fate == drop {
		d.refuse("%s", l.reason)
		return
	}
	d.note("kept", "the rows it has stay: %s", l.reason)
	b.plan.Kept = append(b.plan.Kept, Kept{Container: shortID(c.ID), Status: l.status, Output: l.output})
}

// decide opens a decision about a port, or with "" about the whole container.
func (b *builder) decide(c *Container, port string) *Decision {
	d := &Decision{Container: c.Name, ID: c.ID, Port: port}
	b.decisions = append(b.decisions, d)
	return d
}

// slots are the ports of a container that are registered: not ignored, named if they must be,
// and reachable. The others leave a decision that says why not.
func (b *builder) slots(c *Container, at place, r routing, m metadata, report func(label, reason string)) []*slot {
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
		if why := b.refuse(s, at, report); why != "" {
			s.decision.refuse("%s", why)
			continue
		}
		slots = append(slots, s)
	}
	return slots
}

// ports are the container's ports in the order in which they claim IDs: by number, tcp first.
func (b *builder) ports(c *Container, at place, r routing) []Port {
	ports := slices.Clone(c.Ports)
	if at.reach != byPublished {
		ports = append(ports, r.declared()...)
	}
	rank := map[string]int{"tcp": 0, "udp": 1, "sctp": 2}
	compare := func(x, y Port) int {
		return cmp.Or(cmp.Compare(x.Number, y.Number), cmp.Compare(rank[x.Protocol], rank[y.Protocol]))
	}
	slices.SortStableFunc(ports, compare)
	ports = slices.CompactFunc(ports, func(x, y Port) bool { return compare(x, y) == 0 })
	return slices.DeleteFunc(ports, func(p Port) bool { return p.Number == 0 || !isProtocol(p.Protocol) })
}

// refuse says why a port is not registered; empty when it is, with its spots found.
func (b *builder) refuse(s *slot, at place, report func(label, reason string)) string {
	if ignore, ok := s.settings["ignore"]; ok {
		switch on, known := parseBool(ignore.value); {
		case !known:
			report(ignore.label, fmt.Sprintf("%q is neither true nor false; taken as true", ignore.value))
			return "ignored by " + ignore.source()
		case on:
			return "ignored by " + ignore.source()
		}
	}
	if b.opt.Explicit && s.settings["name"].value == "" {
		return "it has no " + b.opt.Prefix + "NAME, and only what has one is registered (--explicit)"
	}
	var why string
	if s.spots, s.waiting, why = b.spots(s.port, at); s.waiting {
		s.decision.note("waiting", "%s", why)
		return ""
	}
	if len(s.spots) == 0 {
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
func (s *slot) fixAddress(report func(label, reason string)) {
	ip, given := s.settings["ip"]
	if !given || ip.value == "" {
		return
	}
	addr, why := parseAddress(ip.value)
	if why != "" {
		report(ip.label, why)
		return
	}
	for i := range s.spots {
		s.spots[i].fixed = addr
	}
	s.spots = slices.CompactFunc(s.spots, func(x, y spot) bool { return x.at() == y.at() })
}

func (b *builder) explainAddress(s *slot, at place) string {
	var list []string
	for _, sp := range s.spots {
		list = append(list, sp.at().String())
	}
	why := at.why
	if at.reach == byPublished || at.reach == byNode {
		switch {
		case b.opt.IP.IsValid():
			why += ", node address from -ip"
		case b.opt.AddressFrom != "":
			why += ", node address from " + b.opt.AddressFrom
		}
	}
	if ip := s.settings["ip"]; s.spots[0].fixed.IsValid() && ip.value != "" {
		why = ip.source()
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

// finish sorts the plan.
func (b *builder) finish() {
	slices.SortFunc(b.plan.Registrations, byID)
	slices.SortFunc(b.plan.Kept, func(x, y Kept) int { return cmp.Compare(x.Container, y.Container) })
	slices.Sort(b.plan.Waiting)
	b.plan.Waiting = slices.Compact(b.plan.Waiting)
	b.plan.Problems = sortProblems(b.plan.Problems)
	slices.SortStableFunc(b.decisions, func(x, y *Decision) int {
		return cmp.Or(cmp.Compare(x.Container, y.Container), cmp.Compare(x.ID, y.ID))
	})
	for _, d := range b.decisions {
		b.plan.Decisions = append(b.plan.Decisions, *d)
	}
}
