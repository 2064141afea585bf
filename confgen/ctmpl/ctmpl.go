// Package ctmpl prints templates in the dialect of consul-template: the same functions, the same
// data, the same bytes for the same catalog, so that a template moves over as it stands. What a
// template asks of Consul is found out by executing it, as consul-template does: data that is not
// there yet counts as empty for that time, is asked for, and the output is used only once nothing
// was missing.
//
// The functions are ours; their names, arguments and results are described at
// https://github.com/hashicorp/consul-template/blob/main/docs/templating-language.md.
package ctmpl

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// Extension ends the names of template files in this dialect.
const Extension = ".ctmpl"

// Recall returns what is known of a query, and a number that is another one whenever it has
// changed. The state tells what a value that is not there is waiting for.
type Recall func(Query) (value any, version uint64, state State)

// State is how far a query has come.
type State int

// The states of a query.
const (
	Pending State = iota // not answered yet
	Known                // answered
	Absent               // answered: what it asks for does not exist
	Refused              // may not be read, and never could; the error is the Follower's to tell
)

// Template is a compiled template. It is for one goroutine.
type Template struct {
	name string
	tmpl *template.Template
	run  *execution

	output []byte           // of the last complete execution
	basis  map[Query]uint64 // what it was made from; nil before the first
}

// execution is what one execution uses.
type execution struct {
	recall  Recall
	used    map[Query]uint64
	pending map[Query]bool
	absent  map[Query]bool
	scratch Scratch
}

// Parse compiles a template. The functions in more come in addition to the dialect's own.
func Parse(name, text string, more template.FuncMap) (*Template, error) {
	t := &Template{name: name}
	t.tmpl = template.New(name).Option("missingkey=zero")
	funcs := t.funcs()
	for name, f := range more {
		if _, taken := funcs[name]; !taken {
			funcs[name] = f
		}
	}
	if _, err := t.tmpl.Funcs(funcs).Parse(text); err != nil {
		return nil, err
	}
	for _, part := range t.tmpl.Templates() {
		if part.Tree == nil {
			continue
		}
		if err := refusals(part.Tree, part.Root); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Result is what an execution came to.
type Result struct {
	Output  []byte
	Used    []Query // everything that was asked for
	Pending []Query // of these: not answered yet, so that there may be more to ask for
	Absent  []Query // of these: what must exist for this template, and does not
	Changed bool    // has been executed; otherwise Output is the one from before
}

// Complete reports whether Output is of use.
func (r Result) Complete() bool { return len(r.Pending)+len(r.Absent) == 0 }

// Execute prints the template, or returns what it printed last when nothing that it used has
// changed since. An error names file and line.
func (t *Template) Execute(recall Recall) (Result, error) {
	if t.current(recall) {
		return Result{Output: t.output, Used: slices.Collect(maps.Keys(t.basis))}, nil
	}
	e := &execution{recall: recall, used: map[Query]uint64{}, pending: map[Query]bool{}, absent: map[Query]bool{}}
	t.run = e
	var out bytes.Buffer
	err := t.tmpl.Execute(&out, nil)
	r := Result{Used: sortedQueries(e.used), Pending: sortedQueries(e.pending), Absent: sortedQueries(e.absent), Changed: true}
	switch {
	case !r.Complete():
		return r, nil // what it did with data that is not there means nothing
	case err != nil:
		return r, err
	}
	r.Output = out.Bytes()
	t.output, t.basis = r.Output, e.used
	return r, nil
}

// current reports whether the last output was made from what is known now.
func (t *Template) current(recall Recall) bool {
	if t.basis == nil {
		return false
	}
	for q, version := range t.basis {
		if _, now, state := recall(q); state == Pending || now != version {
			return false
		}
	}
	return true
}

func sortedQueries[V any](set map[Query]V) []Query {
	return slices.SortedFunc(maps.Keys(set), func(a, b Query) int { return strings.Compare(a.String(), b.String()) })
}

// ask returns the answer of a query; false when there is none now. must says that the template
// waits for what does not exist.
func (t *Template) ask(q Query, must bool) (any, bool) {
	e := t.run
	value, version, state := e.recall(q)
	e.used[q] = version
	switch {
	case state == Pending:
		e.pending[q] = true
		return nil, false
	case state == Absent && must, state == Refused:
		e.absent[q] = true
		return nil, false
	}
	return value, state == Known
}

// executeTemplate prints a {{define}} block: executeTemplate "name" dot.
func (t *Template) executeTemplate(name string, data ...any) (string, error) {
	var dot any
	switch len(data) {
	case 0:
	case 1:
		dot = data[0]
	default:
		return "", fmt.Errorf("executeTemplate: want a name and at most one value, not %d", len(data))
	}
	var b bytes.Buffer
	if err := t.tmpl.ExecuteTemplate(&b, name, dot); err != nil {
		return "", err
	}
	return b.String(), nil
}

// refused are functions of consul-template that are none of Fairway's, and why.
var refused = func() map[string]string {
	const (
		vault = "Vault is not asked: put the secret into a file and print it with file"
		nomad = "Nomad is not asked: its services are in Consul when their provider is consul"
		mesh  = "Consul's service mesh is not supported"
	)
	return map[string]string{
		"secret": vault, "secrets": vault, "pkiCert": vault,
		"nomadServices": nomad, "nomadService": nomad, "nomadVar": nomad, "nomadVarList": nomad,
		"nomadVarListSafe": nomad, "nomadVarExists": nomad,
		"connect": mesh, "caRoots": mesh, "caLeaf": mesh, "peerings": mesh,
		"exportedServices": mesh, "partitions": "Consul Enterprise's partitions cannot be listed; name one with --consul-partition",
		"plugin":      "a template runs no programs: have the program write a file, and print that with file",
		"writeToFile": "a template writes nothing but its own file: make a template of each file",
		"spew_dump":   "nobody reads it there: use spew_sdump", "spew_printf": "nobody reads it there: use spew_sprintf",
	}
}()

// errRefused is never seen: a template that calls a refused function is not parsed.
var errRefused = errors.New("refused function")

// refusals looks for refused functions below a node.
func refusals(tree *parse.Tree, node parse.Node) error {
	if id, ok := node.(*parse.IdentifierNode); ok {
		if why := refused[id.Ident]; why != "" {
			where, _ := tree.ErrorContext(node)
			return fmt.Errorf("template: %s: function %s: %s", where, id.Ident, why)
		}
		return nil
	}
	for _, child := range children(node) {
		if err := refusals(tree, child); err != nil {
			return err
		}
	}
	return nil
}

// children are the nodes right below one.
func children(node parse.Node) []parse.Node {
	var list []parse.Node
	branch := func(n *parse.BranchNode) { list = append(list, n.Pipe, n.List, n.ElseList) }
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			list = n.Nodes
		}
	case *parse.ActionNode:
		list = append(list, n.Pipe)
	case *parse.PipeNode:
		if n != nil {
			for _, c := range n.Cmds {
				list = append(list, c)
			}
		}
	case *parse.CommandNode:
		list = n.Args
	case *parse.ChainNode:
		list = append(list, n.Node)
	case *parse.TemplateNode:
		list = append(list, n.Pipe)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	}
	return list
}
