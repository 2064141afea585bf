package service

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Plan is the desired state of this node's part of the catalog, and how it came about. The same
// containers and options give the same plan, in whatever order they are listed.
type Plan struct {
	Registrations []Registration // sorted by ID
	Kept          []Kept         // sorted by container
	KeptShared    []string       // sorted; the IDs of rows that stay begin so: what publishes them is not known
	Waiting       []string       // names of containers with a port that the engine has not bound yet: look again soon
	Problems      []Problem      // sorted, without duplicates
	Decisions     []Decision     // sorted by container and port
}

// Kept names a container whose rows stay although they cannot be computed from it now: it could
// not be read, is between two starts, or failed and was asked to be remembered.
type Kept struct {
	Container string // as in the owner mark: the first 12 digits of its id
	Status    Status // empty: as it is
	Output    string
}

// Decision tells what was decided about one port of a container, or about the container as a
// whole, and why: what `registrator explain` prints.
type Decision struct {
	Container string // name
	ID        string // the container's id
	Port      string // "6379/tcp"; empty for the container as a whole
	Rows      []string
	Notes     []Note
}

// AboutRouting is what notes on the labels of other front ends are about.
const AboutRouting = "routing"

// Note is one step of a decision.
type Note struct {
	About string // "name", "id", "address", "tags", "meta", "routing", "status", "not registered"
	Text  string
}

// String prints a decision as a paragraph of indented lines.
func (d Decision) String() string {
	var b strings.Builder
	b.WriteString(d.Container)
	if d.Port != "" {
		b.WriteString(" " + d.Port)
	}
	b.WriteByte('\n')
	for _, n := range d.Notes {
		fmt.Fprintf(&b, "  %-15s %s\n", n.About, n.Text)
	}
	return b.String()
}

func (d *Decision) note(about, format string, args ...any) {
	d.Notes = append(d.Notes, Note{About: about, Text: fmt.Sprintf(format, args...)})
}

func (d *Decision) refuse(format string, args ...any) { d.note("not registered", format, args...) }

// reporter takes what a user wrote about one container that could not be used.
type reporter func(label, reason string)

func sortProblems(problems []Problem) []Problem {
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			strings.Compare(a.Container, b.Container),
			strings.Compare(a.Label, b.Label),
			strings.Compare(a.Reason, b.Reason),
		)
	})
	return slices.Compact(problems)
}
