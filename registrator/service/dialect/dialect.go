// Package dialect reads the labels and variables that people wrote for other front ends, and says
// the same in Fairway's vocabulary. It is pure: text in, text out, the same for the same input.
//
// One dialect is read for a container: the first of those enabled in which it asks for a route.
// Nothing is read from a second one, because two front ends' ideas of one container do not add up.
//
// What would keep requests out (an address list, a password, a method) and cannot be said costs
// its route, because a route without it would let in what was kept out. What else cannot be said
// is left out. Both are problems that quote what was written.
package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The dialects, as the operator names them.
const (
	NginxProxy = "nginx-proxy"
	Interlock  = "interlock"
	Fabio      = "fabio"
	Traefik    = "traefik"
)

var readers = map[string]func(*reading){
	NginxProxy: readNginxProxy,
	Interlock:  readInterlock,
	Fabio:      readFabio,
	Traefik:    readTraefik,
}

// Names are all dialects in the order in which they are asked unless the operator gives another.
func Names() []string { return []string{NginxProxy, Interlock, Fabio, Traefik} }

// Parse reads the operator's comma list of dialects, in the order in which they are asked. "none"
// is the empty list.
func Parse(list string) ([]string, error) {
	if strings.TrimSpace(list) == "none" {
		return nil, nil
	}
	var names []string
	for _, name := range splitList(list) {
		switch {
		case readers[name] == nil:
			return nil, fmt.Errorf("%q is no dialect; want none, or some of %s", name, strings.Join(Names(), ","))
		case !slices.Contains(names, name):
			names = append(names, name)
		}
	}
	if names == nil {
		return nil, fmt.Errorf("want none, or some of %s", strings.Join(Names(), ","))
	}
	return names, nil
}

// Input is what is known of one container.
type Input struct {
	Env    []string          // "KEY=value"; the last of a key counts
	Labels map[string]string // the container's, and over them its Swarm service's
	Tags   []Tag             // in their order
	Ports  []uint16          // its TCP ports, exposed or published
}

// Tag is one tag that the container's services get.
type Tag struct {
	Text  string
	Port  uint16 // the only container port that gets it; 0 for all
	Label string // where it was written
}

// Result is a translation. The zero Result says that nothing was written in any dialect.
type Result struct {
	Dialect  string           // the one that was read
	Keys     map[string]Value // by key without prefix: "host", or "traefik_api.path" where there are several routes
	Problems []Problem        // in a stable order
	Notes    []string         // what an operator may want to know and need not change
}

// Value is the value of a key and the label or variable that it comes from.
type Value struct{ Text, Label string }

// Problem is something written in a dialect that cannot be said in Fairway's vocabulary.
type Problem struct{ Label, Reason string }

// Translate reads a container in the first of the enabled dialects in which it asks for a route.
func Translate(in Input, enabled []string) Result {
	for i, name := range enabled {
		read := readers[name]
		if read == nil {
			continue
		}
		r := newReading(in, name)
		read(r)
		if !r.asked {
			continue
		}
		result := r.result()
		for _, other := range enabled[i+1:] {
			o := newReading(in, other)
			if readers[other] == nil || other == name {
				continue
			}
			if readers[other](o); o.asked {
				result.Notes = append(result.Notes, fmt.Sprintf("what is written for %s is not read, because %s comes first in --dialects", other, name))
			}
		}
		return result
	}
	return Result{}
}

// reading is one dialect being read for one container.
type reading struct {
	Input
	dialect  string
	env      map[string]string
	asked    bool // something asks for a route, well or badly
	routes   []*route
	problems []Problem
	notes    []string
}

func newReading(in Input, name string) *reading {
	r := &reading{Input: in, dialect: name, env: make(map[string]string)}
	for _, line := range in.Env {
		if key, value, ok := strings.Cut(line, "="); ok {
			r.env[key] = strings.TrimSpace(value)
		}
	}
	return r
}

// maxProblems of one container are told: a person reads them.
const maxProblems = 40

func (r *reading) problem(label, format string, args ...any) {
	p := Problem{clip(label), fmt.Sprintf(format, args...)}
	if len(r.problems) < maxProblems && !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

func (r *reading) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); len(r.notes) < maxProblems && !slices.Contains(r.notes, n) {
		r.notes = append(r.notes, n)
	}
}

// labels are the labels under a prefix, in lower case and without it. Where two differ only in
// case the one that sorts last counts.
func (r *reading) labels(prefix string) map[string]Value {
	found := make(map[string]Value)
	for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
		if key, ours := strings.CutPrefix(strings.ToLower(label), prefix); ours {
			found[key] = Value{strings.TrimSpace(r.Labels[label]), label}
		}
	}
	return found
}
