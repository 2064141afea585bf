package testbed

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Rule is one rule of a Consul policy.
type Rule struct {
	Name string // `key_prefix "fairway/nodes/"`
	Text string
}

var ruleText = regexp.MustCompile(`(?m)^(\w+(?: "[^"]*")?) \{[^}]*\}`)

// Policy reads the rules of a file of examples/acl.
func Policy(t testing.TB, file string) []Rule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(), "examples", "acl", file))
	if err != nil {
		t.Fatal(err)
	}
	var rules []Rule
	for _, m := range ruleText.FindAllStringSubmatch(string(text), -1) {
		rules = append(rules, Rule{Name: m[1], Text: m[0]})
	}
	if len(rules) != strings.Count(string(text), "policy =") {
		t.Fatalf("%s: %d rules were found in\n%s", file, len(rules), text)
	}
	return rules
}

// Without is the text of some rules without the one of that name; "" leaves none out.
func Without(t testing.TB, rules []Rule, name string) string {
	t.Helper()
	var text []string
	for _, r := range rules {
		if r.Name != name {
			text = append(text, r.Text)
		}
	}
	if name != "" && len(text) != len(rules)-1 {
		t.Fatalf("no rule %s in %v", name, rules)
	}
	return strings.Join(text, "\n")
}
