package service

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Adopted is the owner mark of a row that gliderlabs/registrator wrote and that is ours from now on:
// it belongs to no container yet, so it is written anew or removed.
const Adopted = "adopted"

// Verdict is what becomes of a row that gliderlabs/registrator left.
type Verdict string

// The verdicts.
const (
	Take   Verdict = "take"   // it is written anew, under its own ID
	Remove Verdict = "remove" // nobody needs it any more
	Wait   Verdict = "wait"   // its successor is not registered, or not passing, yet
	Leave  Verdict = "leave"  // a person must decide
)

// Adoption is a verdict on one row.
type Adoption struct {
	ID      string
	Verdict Verdict
	Reason  string
}

// legacyID is how gliderlabs/registrator calls a row that was given no ID: behind the host's name.
var legacyID = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9_.-]+):([0-9]+)(:udp)?$`)

// Legacy reads an ID as gliderlabs/registrator gives it on one of some hosts: "host:container:port",
// with ":udp" where it applies.
func Legacy(id string, hosts []string) (container string, port Port, ok bool) {
	for _, host := range hosts {
		rest, found := strings.CutPrefix(id, host+":")
		m := legacyID.FindStringSubmatch(rest)
		if !found || host == "" || m == nil {
			continue
		}
		n, err := strconv.ParseUint(m[2], 10, 16)
		if err != nil || n == 0 {
			continue
		}
		port = Port{Number: uint16(n), Protocol: "tcp"}
		if m[3] != "" {
			port.Protocol = "udp"
		}
		return m[1], port, true
	}
	return "", Port{}, false
}

// Adopt judges rows that gliderlabs/registrator left for one of some hosts. Rows with an owner mark
// and rows of any other form or host are nobody's business and not judged. Observed are the rows
// where ours stand; inPlace says that the old ones stand there, too.
//
//	the container     our row for its port                      in place   elsewhere
//	is not there      –                                         remove     remove
//	cannot be read    –                                         leave      leave
//	is there          none: ignored, loopback, -explicit, …     leave      leave
//	is there          has the same ID                           take       as below
//	is there          not written yet                           wait       wait
//	is there          not passing, and the old one is           wait       wait
//	is there          written                                   remove     remove
//
// So whoever asks for the service always finds the old row or the new one.
func Adopt(old []Registration, plan Plan, containers []Container, hosts []string, observed []Registration, inPlace bool) []Adoption {
	var list []Adoption
	for _, row := range old {
		name, port, ok := Legacy(row.ID, hosts)
		if !ok || row.Owned() {
			continue
		}
		a := Adoption{ID: row.ID}
		a.Verdict, a.Reason = judge(row, name, port, plan, containers, observed, inPlace)
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Adoption) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func judge(row Registration, name string, port Port, plan Plan, containers []Container, observed []Registration, inPlace bool) (Verdict, string) {
	i := slices.IndexFunc(containers, func(c Container) bool {
		return c.Name == name && c.State != Exited && c.State != Dead && c.State != Created && c.State != Removing
	})
	switch {
	case i < 0:
		return Remove, fmt.Sprintf("no container %s runs here", name)
	case containers[i].State == Unknown:
		return Leave, fmt.Sprintf("container %s cannot be read now", name)
	}
	mark := Mark(containers[i].ID, port)
	successor := slices.IndexFunc(plan.Registrations, func(r Registration) bool { return r.Meta[Owner] == mark })
	if same := slices.IndexFunc(plan.Registrations, func(r Registration) bool { return r.ID == row.ID }); same >= 0 {
		if inPlace {
			return Take, fmt.Sprintf("container %s runs and asks for it", name)
		}
		successor = same
	}
	if successor < 0 {
		return Leave, fmt.Sprintf("container %s runs, and nothing is registered for its port %s (see registrator explain %s); "+
			"if that is right: consul services deregister -id=%s", name, port.suffix(), name, row.ID)
	}
	id := plan.Registrations[successor].ID
	written := slices.IndexFunc(observed, func(r Registration) bool { return r.ID == id && r.Owned() })
	if written < 0 {
		return Wait, fmt.Sprintf("its successor %s is not registered yet", id)
	}
	if now, _ := observed[written].Health(); now != Passing && row.Status == Passing {
		return Wait, fmt.Sprintf("its successor %s is %s", id, now)
	}
	return Remove, fmt.Sprintf("registered as %s", id)
}

// Claim puts the mark of adoption on rows that are taken over or removed where they stand, so that
// a difference to the plan deals with them as with any row of ours.
func Claim(rows []Registration, adoptions []Adoption) []Registration {
	ours := map[string]bool{}
	for _, a := range adoptions {
		ours[a.ID] = a.Verdict == Take || a.Verdict == Remove
	}
	rows = slices.Clone(rows)
	for i := range rows {
		if ours[rows[i].ID] {
			rows[i].Meta = maps.Clone(rows[i].Meta)
			if rows[i].Meta == nil {
				rows[i].Meta = map[string]string{}
			}
			rows[i].Meta[Owner] = Adopted
		}
	}
	return rows
}
