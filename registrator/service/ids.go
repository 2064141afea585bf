package service

import (
	"fmt"
	"slices"
)

// assignIDs gives every claim an ID that no other has.
//
// Default IDs are unique by their making and come first, so that nobody's SERVICE_ID takes
// another container's row. Of several claims to one chosen ID the oldest container's keeps it (of
// one container's ports, the lowest), because it is the one that had it before; the others get
// what tells them apart as a suffix, and stay registered. When the oldest goes, the next in age
// moves up to the bare ID. An address that changes its ID in one transaction is one server all
// along for whoever reads the catalog by address.
func (b *builder) assignIDs() {
	holders := make(map[string]*claim)
	assign := func(c *claim) {
		c.row.ID = c.free(holders)
		holders[c.row.ID] = c
		if c.row.ID != c.id {
			b.collision(c, holders[c.id])
		}
	}
	for _, chosen := range []bool{false, true} {
		for _, c := range b.claims {
			if (c.label != "") == chosen {
				assign(c)
			}
		}
	}
	mains := slices.Clone(b.claims)
	for _, c := range mains {
		b.emit(c)
		for _, name := range c.aliases {
			alias := &claim{row: c.aliasRow, container: c.container, slot: c.slot, id: c.row.ID + ":" + name}
			alias.row.Name = name
			alias.row.ID = alias.free(holders)
			holders[alias.row.ID] = alias
			b.emit(alias)
		}
	}
}

// emit adds a row to the plan, unless its port waits to be bound: such a claim only holds its ID,
// so that the rows beside it are not renamed a moment later.
func (b *builder) emit(c *claim) {
	if c.slot.waiting {
		return
	}
	b.plan.Registrations = append(b.plan.Registrations, c.row)
	c.slot.decision.Rows = append(c.slot.decision.Rows, c.row.ID)
	c.slot.decision.note("id", "%s", c.row.ID)
}

// free is the wanted ID, or the shortest that is like it and not taken.
func (c *claim) free(holders map[string]*claim) string {
	holder := holders[c.id]
	if holder == nil {
		return c.id
	}
	suffix := c.slot.port.suffix()
	switch {
	case holder.container != c.container:
		suffix = c.container.Name
	case holder.slot.port.Number == c.slot.port.Number && holder.slot.port.Protocol != c.slot.port.Protocol:
		suffix = c.slot.port.Protocol
	}
	for _, id := range []string{
		c.id + ":" + suffix,
		c.id + ":" + c.container.Name + ":" + c.slot.port.suffix(),
		c.id + ":" + Mark(c.container.ID, c.slot.port),
	} {
		if holders[id] == nil {
			return id
		}
	}
	for n := 2; ; n++ {
		if id := fmt.Sprintf("%s:%d", c.id, n); holders[id] == nil {
			return id
		}
	}
}

// collision reports an ID that somebody else has. The two protocols of one port are no slip: an ID
// given to the port is meant for both.
func (b *builder) collision(c, holder *claim) {
	if c.label == "" || holder.container == c.container && holder.slot.port.Number == c.slot.port.Number {
		return
	}
	of := fmt.Sprintf("port %s of this container", holder.slot.port.suffix())
	if holder.container != c.container {
		of = "container " + holder.container.Name
	}
	b.plan.Problems = append(b.plan.Problems, Problem{
		Container: c.container.Name,
		Label:     c.label,
		Reason:    fmt.Sprintf("the ID %s is already that of %s; registered as %s", c.id, of, c.row.ID),
	})
}
