package ctmpl

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is what is known; queries that it does not hold have not been answered.
type memory map[string]fact

type fact struct {
	value   any
	version uint64
	state   State
}

func (m memory) recall(q Query) (any, uint64, State) {
	a := m[q.String()]
	return a.value, a.version, a.state
}

func compile(t *testing.T, text string) *Template {
	t.Helper()
	tmpl, err := Parse("x.ctmpl", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func names(queries []Query) string {
	var list []string
	for _, q := range queries {
		list = append(list, q.String())
	}
	return strings.Join(list, ", ")
}

// What a template asks for comes to light step by step, and nothing is of use before the last.
func TestExecute_F68_onlyWhatIsComplete(t *testing.T) {
	tmpl := compile(t, `{{range services}}{{range service .Name}}{{.Address}};{{end}}{{end}}{{index (service "db") 0 | toJSON | len}}`)
	known := memory{}
	want := func(pending string, complete bool) Result {
		t.Helper()
		r, err := tmpl.Execute(known.recall)
		if err != nil || names(r.Pending) != pending || r.Complete() != complete {
			t.Fatalf("%v: pending %q, complete %t", err, names(r.Pending), r.Complete())
		}
		return r
	}
	want("service db|passing, services", false) // and no error, though the list that it indexes is empty
	known["services"] = fact{[]*CatalogSnippet{{Name: "web"}}, 1, Known}
	want("service db|passing, service web|passing", false)
	known["service web|passing"] = fact{[]*HealthService{{Address: "10.0.0.1"}}, 1, Known}
	known["service db|passing"] = fact{[]*HealthService{{}}, 1, Known}
	r := want("", true)
	if !strings.HasPrefix(string(r.Output), "10.0.0.1;") || !r.Changed {
		t.Errorf("%q", r.Output)
	}
	if again := want("", true); again.Changed || string(again.Output) != string(r.Output) {
		t.Error("executed though nothing that it uses has changed")
	}
	unused := known["services"]
	known["service nobody|passing"] = unused
	if want("", true).Changed {
		t.Error("executed for what it does not use")
	}
	unused.version++
	known["services"] = unused
	if !want("", true).Changed {
		t.Error("not executed though something has changed")
	}
}

// What may not be read is not taken for nothing; what does not exist is, unless the template says
// that it must.
func TestExecute_whatIsNotThere(t *testing.T) {
	absent := fact{state: Absent}
	refused := absent
	refused.state = Refused
	known := memory{"key a": absent, "keys below a": absent, "service a|passing": refused}
	for text, want := range map[string]string{
		`{{keyExists "a"}} {{keyOrDefault "a" "b"}} {{len (ls "a")}}`: "",
		`{{key "a"}}`:           "key a",
		`{{safeLs "a"}}`:        "keys below a",
		`{{safeTree "a"}}`:      "keys below a",
		`{{len (service "a")}}`: "service a|passing",
	} {
		r, err := compile(t, text).Execute(known.recall)
		if err != nil || names(r.Absent) != want {
			t.Errorf("%s: waits for %q, want %q; %v", text, names(r.Absent), want, err)
		}
	}
}

// What is none of Fairway's is refused when the template is read, with its place and a way out,
// wherever in the template it stands.
func TestParse_refusals(t *testing.T) {
	for text, want := range map[string]string{
		"\n{{with secret \"x\"}}{{end}}":                                  "x.ctmpl:2:7: function secret: Vault is not asked: put the secret into a file",
		`{{define "b"}}{{if true}}{{nomadService "x"}}{{end}}{{end}}`:     "function nomadService: Nomad is not asked",
		`{{range $x := (printf "%s" (plugin "x"))}}{{end}}`:               "function plugin: a template runs no programs",
		`{{if false}}{{else}}{{writeToFile "a" "" "" "0644" "x"}}{{end}}`: "function writeToFile: a template writes nothing but its own file",
		`{{(caLeaf "x").Cert}}`:                                           "function caLeaf: Consul's service mesh is not supported",
		`{{template "b" (connect "x")}}{{define "b"}}{{end}}`:             "function connect",
		`{{nosuch}}`: `x.ctmpl:1: function "nosuch" not defined`,
	} {
		if _, err := Parse("x.ctmpl", text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestExecute_mistakes(t *testing.T) {
	for text, want := range map[string]string{
		`{{service "a b"}}`:            `"a b": want tag.name@datacenter~near|passing,warning`,
		`{{service "a|dead"}}`:         `status "dead": want any, passing`,
		`{{service "a?zone=x"}}`:       "?zone: want ns, partition or peer",
		`{{1 | divide 0}}`:             "divide: by zero",
		`{{1 | modulo 0}}`:             "modulo: by zero",
		`{{1.5 | modulo 2}}`:           "modulo: want whole numbers",
		`{{add "a" 1}}`:                "add: want numbers, not a (string)",
		`{{loop 9000000}}`:             "more than 1048576 times",
		`{{parseInt "x"}}`:             "parseInt: ",
		`{{parseJSON "{"}}`:            "parseJSON: ",
		`{{regexMatch "(" ""}}`:        "regexMatch: ",
		`{{mustEnv "FAIRWAY_NOSUCH"}}`: "the environment variable FAIRWAY_NOSUCH is not set",
		`{{executeTemplate "nosuch"}}`: `no template "nosuch"`,
		`{{byTag "x"}}`:                "byTag: want what service or services returns",

		`{{scratch.Set "a" 1}}{{scratch.MapSet "a" "b" 1}}`: `"a" is no map`,
		`{{explodeMap (parseJSON "{\"a\":1,\"a/b\":2}")}}`:  `"a" has the value`,
	} {
		_, err := compile(t, text).Execute(memory{}.recall)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.ctmpl:1") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestQuery_grammar(t *testing.T) {
	for text, want := range map[string]Query{
		"web":                              {kind: kindService, name: "web", filters: "passing"},
		"v1.2.web@dc2~n1|warning, passing": {},
		"v1.2.web@dc2~n1|warning,passing":  {kind: kindService, tag: "v1.2", name: "web", dc: "dc2", near: "n1", filters: "passing,warning"},
		"web?ns=a&partition=b@dc2":         {kind: kindService, name: "web", dc: "dc2", namespace: "a", partition: "b", filters: "passing"},
	} {
		got, err := newQuery(kindService, text)
		if (err != nil) != (want == Query{}) {
			t.Errorf("%s: %v", text, err)
		} else if err == nil {
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(Query{})); diff != "" {
				t.Errorf("%s:\n%s", text, diff)
			}
		}
	}
}
