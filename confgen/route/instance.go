package route

import (
	"errors"
	"slices"
	"strings"
)

// forUs reports whether a route is one for this front end. "*", the default, is for all.
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
	return slices.Contains(names, "*") || p.set.Instance != "" && slices.Contains(names, strings.ToLower(p.set.Instance))
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
