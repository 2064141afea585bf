package service

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"
)

// splitList splits a comma list. "\," is a comma that does not split; spaces around an element and
// empty elements are dropped.
func splitList(s string) []string {
	var list []string
	var element strings.Builder
	end := func() {
		if e := strings.TrimSpace(element.String()); e != "" {
			list = append(list, e)
		}
		element.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == ',':
			element.WriteByte(',')
			i++
		case s[i] == ',':
			end()
		default:
			element.WriteByte(s[i])
		}
	}
	end()
	return list
}

// unique drops what was there before, keeping the order.
func unique(list []string) []string {
	seen := make(map[string]bool, len(list))
	return slices.DeleteFunc(list, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}

// refuseText says why a text cannot stand in Consul: it would come back changed, or break whoever
// prints it. Empty when it can.
func refuseText(s string) string {
	switch {
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.ContainsFunc(s, isControl):
		return "holds a control character"
	}
	return ""
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Tag is one element of -tags: a text, or a Go template over the container's inspect document.
type Tag struct {
	text     string
	template *template.Template // nil for a plain text
}

// ParseTags reads the comma list of -tags. Its elements may be Go templates; commas inside an
// action or a block do not split. An error tells the element and the place in it.
func ParseTags(list string) ([]Tag, error) {
	var tags []Tag
	for i, text := range splitTemplates(list) {
		text = strings.TrimSpace(text)
		if !strings.Contains(text, "{{") {
			for _, plain := range splitList(text) {
				if why := refuseText(plain); why != "" {
					return nil, fmt.Errorf("tag %d, %q, %s", i+1, plain, why)
				}
				tags = append(tags, Tag{text: plain})
			}
			continue
		}
		t, err := template.New(fmt.Sprintf("tag %d", i+1)).Funcs(tagFunctions).Option("missingkey=zero").Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%w, in %s", err, text)
		}
		tags = append(tags, Tag{text: text, template: t})
	}
	return tags, nil
}

// render evaluates the tag for one container. The result of a template may be a list again.
func (t Tag) render(inspect any) ([]string, error) {
	if t.template == nil {
		return []string{t.text}, nil
	}
	var out strings.Builder
	if err := t.template.Execute(&out, inspect); err != nil {
		return nil, err
	}
	return splitList(out.String()), nil
}

// splitTemplates splits at the commas that stand outside every action and outside every block.
// An escaped comma stays escaped.
func splitTemplates(s string) []string {
	var list []string
	depth, start := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.HasPrefix(s[i:], "{{"):
			length := strings.Index(s[i:], "}}")
			if length < 0 {
				return append(list, s[start:]) // the template parser will name the place
			}
			depth += nesting(s[i+2 : i+length])
			i += length + 1
		case s[i] == ',' && depth <= 0:
			list = append(list, s[start:i])
			start = i + 1
		}
	}
	return append(list, s[start:])
}

// nesting is by how much an action changes the depth of blocks.
func nesting(action string) int {
	fields := strings.Fields(strings.TrimPrefix(action, "-"))
	if len(fields) == 0 {
		return 0
	}
	switch fields[0] {
	case "if", "range", "with", "block", "define":
		return 1
	case "end":
		return -1
	}
	return 0
}
