package ctmpl

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var writeReference = flag.Bool("reference", false, "write the table of functions in docs/templates.md")

// shown is the catalog that the examples of the reference see.
var shown = memory{
	"services":             {[]*CatalogSnippet{{Name: "db"}, {Name: "web", Tags: ServiceTags{"blue"}}}, 1, Known},
	"service web|passing":  {[]*HealthService{{ID: "web-1", Name: "web", Node: "n1", Address: "10.0.0.1", Port: 80, Tags: ServiceTags{"blue"}, ServiceMeta: map[string]string{"zone": "a"}}, {ID: "web-2", Name: "web", Node: "n2", Address: "10.0.0.2", Port: 80}}, 1, Known},
	"service blue.web|any": {[]*HealthService{{ID: "web-1", Address: "10.0.0.1", Port: 80, Status: "passing"}}, 1, Known},
	"nodes":                {[]*Node{{Node: "n1", Address: "192.0.2.1"}, {Node: "n2", Address: "192.0.2.2"}}, 1, Known},
	"node n1":              {&CatalogNode{Node: &Node{Node: "n1", Address: "192.0.2.1"}, Services: []*CatalogNodeService{{ID: "web-1"}}}, 1, Known},
	"datacenters":          {[]string{"dc1", "dc2"}, 1, Known},
	"key cfg/mode":         {"http", 1, Known},
	"key cfg/nosuch":       {nil, 1, Absent},
	"keys below cfg":       {[]*KeyPair{{Path: "cfg/a/x", Key: "a/x", Value: "1"}, {Path: "cfg/mode", Key: "mode", Value: "http"}}, 1, Known},
	"file /etc/motd":       {"hello", 1, Known},
}

// reference is the table of functions: what each does, and an example with what it prints.
var reference = []struct{ group, name, does, example, prints string }{
	{"What Consul knows", "service", "passing instances: `[tag.]name[@datacenter][~near][\\|status,…]`; statuses are `passing`, `warning`, `critical`, `maintenance`, `any`", `{{range service "web"}}{{.Address}}:{{.Port}} {{end}}`, "10.0.0.1:80 10.0.0.2:80 "},
	{"", "services", "names of all services, with their tags", `{{range services}}{{.Name}} {{end}}`, "db web "},
	{"", "nodes", "all nodes", `{{range nodes}}{{.Node}}={{.Address}} {{end}}`, "n1=192.0.2.1 n2=192.0.2.2 "},
	{"", "node", "one node and its services; without a name the agent's own", `{{with node "n1"}}{{.Node.Address}}: {{len .Services}}{{end}}`, "192.0.2.1: 1"},
	{"", "datacenters", "all datacenters; `true`: only those that answer", `{{datacenters | join ","}}`, "dc1,dc2"},
	{"", "key", "a value in KV; the template waits until the key exists", `{{key "cfg/mode"}}`, "http"},
	{"", "keyOrDefault", "the same, or a default where it is missing or empty", `{{keyOrDefault "cfg/nosuch" "tcp"}}`, "tcp"},
	{"", "keyExists", "whether a key exists", `{{keyExists "cfg/nosuch"}}`, "false"},
	{"", "ls", "pairs right below a prefix", `{{range ls "cfg"}}{{.Key}}={{.Value}}{{end}}`, "mode=http"},
	{"", "safeLs", "the same; the template waits while there are none", `{{range safeLs "cfg"}}{{.Key}}{{end}}`, "mode"},
	{"", "tree", "pairs anywhere below a prefix", `{{range tree "cfg"}}{{.Key}} {{end}}`, "a/x mode "},
	{"", "safeTree", "the same; the template waits while there are none", `{{len (safeTree "cfg")}}`, "2"},
	{"", "file", "a local file, looked at every two seconds; the template waits until it exists", `{{file "/etc/motd"}}`, "hello"},

	{"Arranging it", "byTag", "instances or services by tag", `{{range $tag, $list := service "web" | byTag}}{{$tag}}: {{len $list}}{{end}}`, "blue: 1"},
	{"", "byMeta", "instances by metadata keys; `key\\|int` sorts as numbers", `{{range $zone, $list := service "web" | byMeta "zone"}}{{$zone}}: {{len $list}} {{end}}`, "_no_zone_: 1 a: 1 "},
	{"", "byPort", "instances by port", `{{range $port, $list := service "web" | byPort}}{{$port}}: {{len $list}}{{end}}`, "80: 2"},
	{"", "byKey", "pairs by the first folder of their keys", `{{range $top, $pairs := tree "cfg" | byKey}}{{$top}}: {{range $k, $p := $pairs}}{{$k}}={{$p.Value}}{{end}}{{end}}`, "a: x=1"},
	{"", "explode", "pairs as a tree of maps", `{{tree "cfg" | explode | toJSON}}`, `{"a":{"x":"1"},"mode":"http"}`},
	{"", "explodeMap", "a map with slashes in its keys as a tree", `{{parseJSON "{\"a/b\": 1}" | explodeMap | toJSON}}`, `{"a":{"b":1}}`},
	{"", "mergeMap", "two maps; the first wins", `{{mergeMap (parseJSON "{\"a\": 1}") (parseJSON "{\"a\": 2, \"b\": 3}") | toJSON}}`, `{"a":1,"b":3}`},
	{"", "mergeMapWithOverride", "two maps; the second wins", `{{mergeMapWithOverride (parseJSON "{\"a\": 1}") (parseJSON "{\"a\": 2}") | toJSON}}`, `{"a":2}`},

	{"Lists", "contains", "whether a list has an element, or a text a part", `{{split "," "a,b" | contains "b"}}`, "true"},
	{"", "containsAll", "whether it has all", `{{split "," "a,b" | containsAll (parseJSON "[\"a\", \"c\"]")}}`, "false"},
	{"", "containsAny", "whether it has any", `{{split "," "a,b" | containsAny (parseJSON "[\"a\", \"c\"]")}}`, "true"},
	{"", "containsNone", "whether it has none", `{{split "," "a,b" | containsNone (parseJSON "[\"c\"]")}}`, "true"},
	{"", "containsNotAll", "whether it lacks some", `{{split "," "a,b" | containsNotAll (parseJSON "[\"a\", \"c\"]")}}`, "true"},
	{"", "in", "`contains` the other way round", `{{in (split "," "a,b") "b"}}`, "true"},
	{"", "loop", "numbers up to and without a limit", `{{range loop 1 4}}{{.}} {{end}}`, "1 2 3 "},
	{"", "join", "a list as a text", `{{split "," "a,b" | join "-"}}`, "a-b"},
	{"", "split", "a text as a list", `{{len (split "," "a,b")}}`, "2"},
	{"", "splitToMap", "a text as a map", `{{splitToMap "," ":" "a:1,b:2"}}`, "map[a:1 b:2]"},

	{"Texts", "indent", "spaces in front of each line", `{{indent 2 "a"}}`, "  a"},
	{"", "regexMatch", "whether a regular expression matches", `{{"web-1" | regexMatch "-[0-9]+$"}}`, "true"},
	{"", "regexReplaceAll", "replace what a regular expression matches", `{{"web-1" | regexReplaceAll "-[0-9]+$" ""}}`, "web"},
	{"", "replaceAll", "replace a part", `{{"a.b" | replaceAll "." "-"}}`, "a-b"},
	{"", "toLower", "", `{{toLower "Web"}}`, "web"},
	{"", "toUpper", "", `{{toUpper "Web"}}`, "WEB"},
	{"", "toTitle", "", `{{toTitle "web one"}}`, "Web One"},
	{"", "trim", "cut characters off both ends", `{{trim "/" "/a/"}}`, "a"},
	{"", "trimPrefix", "", `{{trimPrefix "/" "/a/"}}`, "a/"},
	{"", "trimSuffix", "", `{{trimSuffix "/" "/a/"}}`, "/a"},
	{"", "trimSpace", "", `{{trimSpace " a "}}`, "a"},
	{"", "base64Encode", "", `{{base64Encode "a?"}}`, "YT8="},
	{"", "base64Decode", "", `{{base64Decode "YT8="}}`, "a?"},
	{"", "base64URLEncode", "", `{{base64URLEncode "a?>"}}`, "YT8-"},
	{"", "base64URLDecode", "", `{{base64URLDecode "YT8-"}}`, "a?>"},
	{"", "md5sum", "", `{{md5sum "a"}}`, "0cc175b9c0f1b6a831c399e269772661"},
	{"", "sha256Hex", "", `{{sha256Hex "a" | sprig_trunc 8}}`, "ca978112"},
	{"", "hmacSHA256Hex", "of a message with a key", `{{hmacSHA256Hex "a" "key" | sprig_trunc 8}}`, "780c3db4"},
	{"", "timestamp", "when something that the template uses last changed; takes a layout of Go's, or `unix`", `{{timestamp "UTC"}}`, "UTC"},
	{"", "sockaddr", "an expression of go-sockaddr", `{{sockaddr "GetAllInterfaces | include \"name\" \"lo\" | include \"type\" \"IPv4\" | attr \"address\""}}`, "127.0.0.1"},

	{"Documents", "parseJSON", "", `{{(parseJSON "{\"a\": 1}").a}}`, "1"},
	{"", "parseYAML", "", `{{(parseYAML "a: 1").a}}`, "1"},
	{"", "parseBool", "", `{{parseBool "1"}}`, "true"},
	{"", "parseFloat", "", `{{parseFloat "1.5"}}`, "1.5"},
	{"", "parseInt", "", `{{parseInt "-1"}}`, "-1"},
	{"", "parseUint", "", `{{parseUint "1"}}`, "1"},
	{"", "toJSON", "", `{{toJSON "<a>"}}`, `"\u003ca\u003e"`},
	{"", "toJSONPretty", "on several lines", `{{split "," "a" | toJSONPretty}}`, "[\n  \"a\"\n]"},
	{"", "toUnescapedJSON", "", `{{toUnescapedJSON "<a>"}}`, `"<a>"`},
	{"", "toUnescapedJSONPretty", "on several lines", `{{split "," "<a>" | toUnescapedJSONPretty}}`, "[\n  \"<a>\"\n]"},
	{"", "toYAML", "", `{{parseJSON "{\"a\": 1}" | toYAML}}`, "a: 1"},
	{"", "toTOML", "", `{{parseJSON "{\"a\": \"b\"}" | toTOML}}`, `a = "b"`},

	{"Numbers", "add", "the second number comes first, so that it can be piped", `{{1 | add 2}}`, "3"},
	{"", "subtract", "", `{{5 | subtract 2}}`, "3"},
	{"", "multiply", "", `{{2 | multiply 3}}`, "6"},
	{"", "divide", "", `{{10 | divide 3}}`, "3"},
	{"", "modulo", "", `{{10 | modulo 3}}`, "1"},
	{"", "minimum", "", `{{minimum 2 3}}`, "2"},
	{"", "maximum", "", `{{maximum 2 3}}`, "3"},

	{"Around the template", "env", "an environment variable of confgen", `{{env "FAIRWAY_SHOWN"}}`, "yes"},
	{"", "mustEnv", "the same; an error where it is not set", `{{mustEnv "FAIRWAY_SHOWN"}}`, "yes"},
	{"", "envOrDefault", "", `{{envOrDefault "FAIRWAY_NOSUCH" "no"}}`, "no"},
	{"", "executeTemplate", "a `define` block as a text", `{{define "b"}}[{{.}}]{{end}}{{executeTemplate "b" "x"}}`, "[x]"},
	{"", "scratch", "values kept while the template is executed: `Set`, `SetX`, `Get`, `Key`, `MapSet`, `MapSetX`, `MapValues`", `{{scratch.Set "n" 1}}{{scratch.Get "n"}}`, "1"},
	{"", "spew_sdump", "a value with its types", `{{spew_sdump 3}}`, "(int) 3\n"},
	{"", "spew_sprintf", "", `{{spew_sprintf "%v" 3}}`, "3"},
}

const (
	referenceFile  = "../../docs/templates.md"
	referenceBegin = "<!-- Written by go test ./confgen/ctmpl -run TestReference -reference; a test compares and runs every example. -->\n"
	referenceEnd   = "<!-- end -->\n"
)

// Every function is in the reference, with an example that prints what the page says.
func TestReference(t *testing.T) {
	t.Setenv("FAIRWAY_SHOWN", "yes")
	have := map[string]bool{}
	for _, r := range reference {
		have[r.name] = true
		result, err := compile(t, r.example).Execute(shown.recall)
		if err != nil || !result.Complete() || string(result.Output) != r.prints || !strings.Contains(r.example, r.name) {
			t.Errorf("%s: %s prints %q, want %q; waits for %s%s; %v", r.name, r.example, result.Output, r.prints, names(result.Pending), names(result.Absent), err)
		}
	}
	for name := range (&Template{}).funcs() {
		if !have[name] && refused[name] == "" && !strings.HasPrefix(name, "sprig_") {
			t.Errorf("%s is not in the reference", name)
		}
	}
	page, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), referenceBegin)
	_, after, closed := strings.Cut(rest, referenceEnd)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", referenceFile)
	}
	want := before + referenceBegin + table() + referenceEnd + after
	if *writeReference {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("%s is not what the code says (-code +page):\n%s", referenceFile, diff)
	}
}

func table() string {
	var b strings.Builder
	cell := strings.NewReplacer("|", `\|`, "\n", "⏎")
	for _, r := range reference {
		if r.group != "" {
			fmt.Fprintf(&b, "\n### %s\n\n| function | what it is | example | prints |\n|---|---|---|---|\n", r.group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | `%s` |\n", r.name, r.does, cell.Replace(r.example), cell.Replace(r.prints))
	}
	b.WriteString("\n### Refused\n\n| function | why |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, refused[name])
	}
	b.WriteString("\n")
	return b.String()
}
