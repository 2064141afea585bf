package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// forUs reports whether a route is one for this front end, and remembers one that is not. "*", the
// default, is for all.
func (p *parser) forUs(out *parsed, w *wish) bool {
	value, given := w.values["instance"]
	if !given {
		return true
	}
	names, err := readInstances(value)
	if err != nil {
		p.problem(out, w.name, "instance", quote(value)+": "+err.Error()+withheld)
		return false
	}
	if slices.Contains(names, "*") || p.set.Instance != "" && slices.Contains(names, strings.ToLower(p.set.Instance)) {
		return true
	}
	if !w.stream {
		out.foreign = append(out.foreign, w)
	}
	return false
}

// foreign are the routes of one service's labels that are for other front ends.
func (p *parser) foreign(service string, of *parsed) []Foreign {
	var list []Foreign
	for _, w := range of.foreign {
		names, err := readInstances(w.values["instance"])
		if err != nil {
			continue // forUs has read them
		}
		here := "has no name (--instance)"
		if p.set.Instance != "" {
			here = "is " + p.set.Instance
		}
		names = sortedUnique(names)
		reason := fmt.Sprintf("it is for %s alone (%s), and this front end %s", strings.Join(names, ", "), label(p.name, w.name, "instance"), here)
		for _, r := range appendClaims(nil, service, "", 0, w, "") {
			list = append(list, Foreign{Route: r, For: names, Reason: reason})
		}
	}
	return list
}

func sortForeign(list []Foreign) []Foreign {
	slices.SortFunc(list, compareForeign)
	return slices.CompactFunc(list, func(x, y Foreign) bool { return compareForeign(x, y) == 0 })
}

func compareForeign(x, y Foreign) int {
	return cmp.Or(comparePrecedence(x.Route, y.Route), compareAge(x.Route, y.Route), cmp.Compare(x.When.String(), y.When.String()),
		slices.Compare(x.Entrypoints, y.Entrypoints), cmp.Compare(x.Reason, y.Reason))
}

func readInstances(value string) ([]string, error) {
	names := splitList(strings.ToLower(value))
	for _, name := range names {
		if name != "*" && name != safeName(name) {
			return nil, errors.New("write *, or the names of front ends, as --instance gives them: edge-1,edge-2")
		}
	}
	if len(names) == 0 {
		return nil, errors.New("write *, or the names of front ends, as --instance gives them: edge-1,edge-2")
	}
	return names, nil
}
