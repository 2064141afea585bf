package service

import (
	"cmp"
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
	b.mergeShared()
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
	for _, own := range containers {
		if opt.Ingress != ByNode {
			own = own.published()
		}
		c := &own
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

func (b *builder) container(c *Container) {
	report := reporter(func(label, reason string) {
		b.plan.Problems = append(b.plan.Problems, Problem{Container: c.Name, Label: label, Reason: reason})
	})
	life := lifeOf(c, b.opt.Deregister)
	if life.fate != serve {
		b.rest(c, life)
		return
	}
	if c.Task.unknown() {
		b.keepShared(c)
		b.wait(c, life)
		return
	}
	if c.Task.guessed() {
		b.keepShared(c)
	}
	b.readService(c, report)
	routes := readRouting(c, b.opt, report)
	b.explainRouting(c, routes)
	at := b.locate(c, routes.network, report)
	if at.kept {
		b.rest(c, life.kept(at.why))
		return
	}
	metadata := readMetadata(c, b.opt.Prefix, report)
	if at.reach == nowhere {
		b.decide(c, "").refuse("%s", at.why)
		routes.unreachable(nil, at.why, report)
		return
	}
	all := b.slots(c, at, routes, metadata, report)
	slots := slices.DeleteFunc(slices.Clone(all), func(s *slot) bool { return s.refused != "" })
	routes.assign(slots, report)
	switch {
	case slices.ContainsFunc(slots, func(s *slot) bool { return s.port.Protocol == "tcp" }):
	case b.opt.Ingress == ByNode && at.reach == byPublished && c.Task.Service != nil && len(c.Task.Service.Mesh) > 0:
		b.onMesh(c, routes, report)
	default:
		routes.unreachable(all, "", report)
	}
	var publisher *Container
	if at.reach == byPublished {
		publisher = at.stack
	}
	for _, s := range slots {
		b.claim(c, s, slots, publisher, life, report)
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

// finish sorts the plan.
func (b *builder) finish() {
	slices.SortFunc(b.plan.Registrations, byID)
	slices.SortFunc(b.plan.Kept, func(x, y Kept) int { return cmp.Compare(x.Container, y.Container) })
	slices.Sort(b.plan.KeptShared)
	b.plan.KeptShared = slices.Compact(b.plan.KeptShared)
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
