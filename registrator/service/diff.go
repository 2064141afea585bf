package service

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Changes turns what the catalog holds into what it should hold. Both lists are sorted by ID, and
// both are empty when there is nothing to do.
type Changes struct {
	Put    []Registration // to be written, each with its check in one transaction
	Delete []string       // IDs to be removed

	// Stale are rows that are right in all but the words of their check: the container is in the
	// state it says, and its probe printed something new. Whoever applies the changes writes them
	// at most once a minute each.
	Stale []Registration

	// Same are rows that are right as they are. Nothing is to be written for them; what runs out
	// unless it is renewed, is renewed.
	Same []Registration

	// Problems name IDs we want that a row of somebody else holds. That row is not touched.
	Problems []Problem
}

// Empty reports whether there is nothing to write.
func (c Changes) Empty() bool { return len(c.Put) == 0 && len(c.Delete) == 0 }

// Diff compares the rows of our node with the plan. An observed row carries the status and output
// of its check "service:<ID>", and its active checks; a row without the former has an empty status
// and is written again.
//
//	observed                    desired   change
//	–                           x         put
//	ours, equal                 x         –
//	ours, other words only      x         stale
//	ours, different             x         put
//	somebody else's             x         problem
//	ours, container kept        –         put with the kept status if that differs
//	ours, of a Swarm service    –         nothing while it is not known what that publishes
//	ours                        –         delete
//	ours, labels known          guessed   put with the status if that differs
//	somebody else's             –         –
//
// Ours is what carries the owner mark.
func Diff(observed []Registration, plan Plan) Changes {
	var changes Changes
	plan = plan.prefer(observed)
	held := make(map[string]Registration, len(observed))
	for _, row := range observed {
		held[row.ID] = row
	}
	wanted := make(map[string]bool, len(plan.Registrations))
	for _, want := range plan.Registrations {
		wanted[want.ID] = true
		have, exists := held[want.ID]
		switch {
		case !exists:
			changes.Put = append(changes.Put, want)
		case !have.Owned():
			changes.Problems = append(changes.Problems, foreign(want, plan))
		default:
			changes.compare(have, want)
		}
	}
	changes.leftovers(observed, wanted, plan)
	slices.SortFunc(changes.Put, byID)
	slices.Sort(changes.Delete)
	changes.Problems = sortProblems(changes.Problems)
	return changes
}

func (c *Changes) compare(have, want Registration) {
	if want.EnableTagOverride && have.EnableTagOverride {
		want.Tags = have.Tags // somebody else may set them: that is what the switch is for
	}
	switch {
	case !have.sameButOutput(want) || state(have.Output) != state(want.Output):
		c.Put = append(c.Put, want)
	case have.Output != want.Output || !sameWords(have.Checks, want.Checks):
		c.Stale = append(c.Stale, want)
	default:
		c.Same = append(c.Same, want)
	}
}

// leftovers deals with our rows that no running container asks for.
func (c *Changes) leftovers(observed []Registration, wanted map[string]bool, plan Plan) {
	keep := make(map[string]Kept, len(plan.Kept))
	for _, k := range plan.Kept {
		keep[k.Container] = k
	}
	for _, row := range observed {
		if wanted[row.ID] || !row.Owned() {
			continue
		}
		container := marked(row.Meta[Owner])
		k, kept := keep[container]
		if !kept && isMesh(container) {
			k, kept = keep[meshID]
		}
		switch {
		case !kept && slices.ContainsFunc(plan.KeptShared, func(start string) bool { return strings.HasPrefix(row.ID, start) }):
		case !kept:
			c.Delete = append(c.Delete, row.ID)
		case k.Status != "" && (row.Status != k.Status || row.Output != k.Output):
			row.Status, row.Output = k.Status, k.Output
			c.Put = append(c.Put, row)
		}
	}
}

func foreign(want Registration, plan Plan) Problem {
	p := Problem{
		Container: marked(want.Meta[Owner]),
		Label:     "SERVICE_ID",
		Reason: fmt.Sprintf("the ID %s belongs to a row that registrator did not write and will not touch; "+
			"remove that row or choose another SERVICE_ID", want.ID),
	}
	for _, d := range plan.Decisions {
		if slices.Contains(d.Rows, want.ID) {
			p.Container = d.Container
		}
	}
	return p
}

// Owned reports whether a row carries the owner mark.
func (r Registration) Owned() bool { return r.Meta[Owner] != "" }

// Equal reports whether two registrations are the same to Consul.
func (r Registration) Equal(s Registration) bool {
	return r.sameButOutput(s) && r.Output == s.Output && sameWords(r.Checks, s.Checks)
}

func (r Registration) sameButOutput(s Registration) bool {
	return r.ID == s.ID && r.Name == s.Name && r.Address == s.Address && r.Port == s.Port &&
		max(r.Weight, 1) == max(s.Weight, 1) && // Consul answers its default, 1, for none
		r.EnableTagOverride == s.EnableTagOverride && r.Status == s.Status &&
		slices.Equal(r.Tags, s.Tags) && maps.Equal(r.Meta, s.Meta) && maps.Equal(r.Addresses, s.Addresses) &&
		slices.EqualFunc(r.Checks, s.Checks, Check.Same)
}

func byID(a, b Registration) int { return cmp.Compare(a.ID, b.ID) }

// shortID is a container's id as people and the owner mark write it.
func shortID(id string) string { return id[:min(len(id), 12)] }

// Mark is the owner mark of one port of a container: "0123456789ab:6379/tcp".
func Mark(containerID string, p Port) string {
	return fmt.Sprintf("%s:%d/%s", shortID(containerID), p.Number, p.Protocol)
}

// marked is the container that an owner mark names.
func marked(mark string) string {
	container, _, _ := strings.Cut(mark, ":")
	return container
}
