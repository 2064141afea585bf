package route_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/route"
)

// proof is what a test on real proxies says: its own text, with that of the helpers and tables of its
// file that it names.
type proof struct{ text string }

var (
	labelWritten = regexp.MustCompile(`fairway[-.]([a-z0-9_%.-]+)(?:=|"\])`)
	onBoth       = regexp.MustCompile(`\beach\(t, |range proxies\b`)
	onOne        = map[route.Proxy]*regexp.Regexp{
		route.HAProxy: regexp.MustCompile(`\bstart\(t, 0, |\bnewRig\(t, "haproxy"\)`),
		route.Nginx:   regexp.MustCompile(`\bstart\(t, 1, |\bnewRig\(t, "nginx"\)`),
	}
)

// on reports whether the test starts a proxy.
func (p proof) on(proxy route.Proxy) bool {
	return onBoth.MatchString(p.text) || onOne[proxy].MatchString(p.text)
}

// uses reports whether the test writes a label of the key, whatever the route is called.
func (p proof) uses(key string) bool {
	for _, m := range labelWritten.FindAllStringSubmatch(p.text, -1) {
		rest := strings.NewReplacer("%d", "0", "%s", "x", ".", "-").Replace(m[1])
		if _, found, ok := route.SplitKey(rest); ok && found == key {
			return true
		}
	}
	return false
}

// proofs reads the tests of files, by name.
func proofs(t *testing.T, patterns ...string) map[string]proof {
	t.Helper()
	var files []string
	for _, pattern := range patterns {
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) == 0 {
			t.Fatalf("no tests %s: %v", pattern, err)
		}
		files = append(files, list...)
	}
	found := make(map[string]proof)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := partsOf(t, file, text)
		for name := range parts {
			if strings.HasPrefix(name, "Test") {
				found[name] = proof{parts.reached(name)}
			}
		}
	}
	return found
}

// part is a function or a table of a file, with the words that stand in it.
type part struct {
	text  string
	words []string
}

type parts map[string]part

// partsOf takes a file apart. A method counts with its type.
func partsOf(t *testing.T, file string, text []byte) parts {
	t.Helper()
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, file, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := make(parts)
	add := func(name string, n ast.Node) {
		p := found[name]
		p.text += string(text[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset]) + "\n"
		ast.Inspect(n, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				p.words = append(p.words, id.Name)
			}
			return true
		})
		found[name] = p
	}
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(ownerOf(d), d)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, name := range s.Names {
						add(name.Name, s)
					}
				case *ast.TypeSpec:
					add(s.Name.Name, s)
				}
			}
		}
	}
	return found
}

// ownerOf is the name of a function, or of the type of a method.
func ownerOf(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	of := d.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if id, ok := of.(*ast.Ident); ok {
		return id.Name
	}
	return d.Name.Name
}

// reached is the text of a part and of all that it leads to, other tests aside.
func (p parts) reached(name string) string {
	var text strings.Builder
	seen, todo := map[string]bool{name: true}, []string{name}
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		text.WriteString(p[next].text)
		for _, word := range p[next].words {
			if _, known := p[word]; known && !seen[word] && !strings.HasPrefix(word, "Test") {
				seen[word] = true
				todo = append(todo, word)
			}
		}
	}
	return text.String()
}

// TestParity_everyWorkHasItsTest wants, for every proxy whose cell says works, a test by name that
// starts it and writes a label of the key; and no test beside them that does not.
func TestParity_everyWorkHasItsTest(t *testing.T) {
	known := proofs(t, "../render/*_real_test.go", "../*_real_test.go")
	for key, e := range parity {
		for _, name := range e.tests {
			if p, ok := known[name]; !ok {
				t.Errorf("%s: no test %s in .. or ../render", key, name)
			} else if !p.uses(key) {
				t.Errorf("%s: %s writes no such label", key, name)
			}
		}
		for _, proxy := range []route.Proxy{route.HAProxy, route.Nginx} {
			_, works := verdict(t, key, proxy)
			if works && !slices.ContainsFunc(e.tests, func(name string) bool { return known[name].on(proxy) }) {
				t.Errorf("%s works on %s, which none of its tests starts: %q", key, proxy, e.tests)
			}
		}
		_, haproxy := verdict(t, key, route.HAProxy)
		_, nginx := verdict(t, key, route.Nginx)
		if !haproxy && !nginx && len(e.tests) > 0 {
			t.Errorf("%s works nowhere, and its tests are %q", key, e.tests)
		}
	}
}
