package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// Decision is what a location of nginx leaves to the request, because a route that it may lead
// to has conditions: a chain of maps finds the first case whose tests all hold, and with it the
// named location that has the rest.
type Decision struct {
	Name   string // of the variable, behind "fairway_go_"
	Chains [][]Case
	Else   string // where all others go
}

// Case is a place to go, and the variables that must be 1 for it.
type Case struct {
	Tests  []string
	Target string // a named location, or a variable that holds one
}

// String is for digest.
func (c Case) String() string { return strings.Join(c.Tests, " ") + " " + c.Target }

// option is a route that a location may lead to.
type alternative struct {
	step step
	route.Route
}

// alternatives are the routes that requests for a literal path, or for a prefix and all below it
// that has no location of its own, may take, in order of precedence up to the first that takes
// all that are left.
func (t tree) alternatives(steps []step, path string, literal bool) []alternative {
	var list []alternative
	for _, s := range steps {
		for _, r := range s.exact {
			if literal && r.Path == path {
				if list = append(list, alternative{s, r}); r.When == nil {
					return list
				}
			}
		}
		for _, r := range s.regex {
			if literal && !t.data.matches(r.Path, path) {
				continue
			}
			if list = append(list, alternative{s, r}); literal && r.When == nil {
				return list
			}
		}
		for _, r := range s.prefix { // longer ones first
			if covers(r.Path, path) {
				if list = append(list, alternative{s, r}); r.When == nil {
					return list
				}
			}
		}
	}
	return list
}

// open reports whether only the request can tell where it goes. Where pages of a backend's own
// come behind a question about the host, that is one as well: a location has one list of pages.
func (t tree) open(list []alternative) bool {
	return slices.ContainsFunc(list, func(a alternative) bool {
		o := t.data.options[a.Backend]
		return a.When != nil || a.step.guarded && o != nil && o.Errors != ""
	})
}

// decide makes the decision of a location, and remembers it.
func (t tree) decide(list []alternative, literal, undecided bool) string {
	var cases []Case
	end := "@fairway-not-found"
	hosts := Case{Tests: []string{"hosts_" + variable(t.entrypoint.Name)}, Target: "@fairway-regex"}
	if len(t.data.NamedRegexes(t.entrypoint.Name)) > 0 {
		hosts.Target = "$fairway_named_" + variable(t.entrypoint.Name)
	}
	asked := false
	for _, a := range list {
		if a.step.guarded && !asked {
			cases, asked = append(cases, hosts), true
		}
		c := Case{Target: "@to-" + a.Backend}
		if a.PathKind == route.PathRegex && !literal {
			c.Tests = append(c.Tests, "path_"+digest([]string{a.Path}))
		}
		if a.When != nil {
			c.Tests = append(c.Tests, "if_"+testName(a.When))
		}
		if len(c.Tests) == 0 {
			end, asked = c.Target, true
			break
		}
		cases = append(cases, c)
	}
	if undecided && !asked {
		cases = append(cases, hosts)
	}
	d := Decision{Name: digest(append(cases, Case{Target: end})), Else: end, Chains: slices.Collect(slices.Chunk(cases, chain))}
	t.data.decisions[d.Name] = d
	return d.Name
}

// chain is how many cases one map of nginx may hold: no word over 4,096 bytes and no chain of
// over 100 variables.
const chain = 30

// Decisions are what all locations of the server blocks made so far leave to the request.
func (d *data) Decisions() []Decision {
	list := make([]Decision, 0, len(d.decisions))
	for _, name := range slices.Sorted(maps.Keys(d.decisions)) {
		list = append(list, d.decisions[name])
	}
	return list
}

// testsAtMost is how many variables Tests and Decisions will need at most.
func (d *data) testsAtMost() int {
	n, any := len(d.Routes), false
	for _, r := range d.Routes {
		if r.When != nil {
			n, any = n+4*len(testParts(r.When)), true
		}
	}
	if !any {
		return 0
	}
	return 4 * n
}

// targets are locations for the routes that decisions of a server block lead to.
func (t tree) targets(steps []step, named []Location) []Location {
	var list []Location
	for _, s := range steps {
		for _, r := range slices.Concat(s.exact, s.regex, s.prefix) {
			l := t.location("", "@to-"+r.Backend, step{}, r)
			same := func(o Location) bool { return o.Path == l.Path }
			if !slices.ContainsFunc(list, same) && !slices.ContainsFunc(named, same) {
				list = append(list, l)
			}
		}
	}
	return list
}

// Test is a variable that is 1 for requests that meet something, and 0 for others.
type Test struct {
	Name  string // behind "fairway_"
	Parts []TestPart
}

// TestPart is a map: the variable it looks at, and the regular expression that must match.
type TestPart struct{ Source, Regex string }

// Tests are the variables that decisions ask for.
func (d *data) Tests() []Test {
	tests := make(map[string]Test)
	asked := make(map[string]bool)
	for _, decision := range d.decisions {
		for _, cases := range decision.Chains {
			for _, c := range cases {
				for _, name := range c.Tests {
					asked[name] = true
				}
			}
		}
	}
	for _, r := range d.Routes {
		if name := "path_" + digest([]string{r.Path}); r.PathKind == route.PathRegex && asked[name] {
			tests[name] = Test{name, []TestPart{{"$uri", r.Path}}}
		}
		if r.When != nil {
			name := "if_" + testName(r.When)
			tests[name] = Test{name, testParts(r.When)}
		}
	}
	list := make([]Test, 0, len(tests))
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		list = append(list, tests[name])
	}
	return list
}

func testParts(c *route.Conditions) []TestPart {
	var list []TestPart
	if len(c.Methods) > 0 {
		list = append(list, TestPart{"$request_method", `\A(?:` + strings.Join(c.Methods, "|") + `)\z`})
	}
	for _, h := range c.Headers {
		p := TestPart{"$http_" + strings.ReplaceAll(h.Name, "-", "_"), "."}
		switch h.Kind {
		case route.MatchEqual:
			p.Regex = `\A` + regexQuote(h.Value) + `\z`
		case route.MatchRegex:
			p.Regex = h.Value
		case route.MatchPresent:
		}
		list = append(list, p)
	}
	for _, q := range c.Query {
		list = append(list, TestPart{"$args", q.Regex()})
	}
	return list
}

// variable is a name as a part of a variable's.
func variable(name string) string { return strings.ReplaceAll(name, "-", "_") }

// Pattern is a regular expression on the tests of a map's cases, each case's digits followed by
// a comma, that matches where all of the i-th case hold.
func (d Decision) Pattern(i int) string { return fmt.Sprintf("^(?:[01]+,){%d}1+,", i) }
