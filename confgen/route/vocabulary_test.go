package route_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/route"
)

// keyRow is a row of the page's table of keys: the keys that it is about, and its examples by key.
type keyRow struct {
	keys     []string
	examples map[string]string
}

var (
	quotedKey    = regexp.MustCompile("`([a-z.-]+)`")
	keyedExample = regexp.MustCompile("`fairway\\.([a-z.-]+)=([^`]*)`")
)

// keyRows reads the table "Keys that work".
func keyRows(t *testing.T) []keyRow {
	t.Helper()
	page, err := os.ReadFile(parityPage)
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n## Keys that work\n")
	text, _, ended := strings.Cut(text, "\n\nBooleans are ")
	if !ok || !ended {
		t.Fatalf("%s has no table of keys", parityPage)
	}
	var rows []keyRow
	for line := range strings.Lines(text) {
		columns := strings.Split(line, "|")
		if len(columns) < 4 || !strings.Contains(columns[1], "`") {
			continue
		}
		row := keyRow{examples: make(map[string]string)}
		for _, m := range quotedKey.FindAllStringSubmatch(columns[1], -1) {
			row.keys = append(row.keys, m[1])
		}
		for _, m := range keyedExample.FindAllStringSubmatch(columns[2], -1) {
			row.examples[m[1]] = m[2]
		}
		rows = append(rows, row)
	}
	return rows
}

// TestVocabulary_documented wants a row for every key that works anywhere, with an example of it that
// one of the proxies takes, and no row for anything else.
func TestVocabulary_documented(t *testing.T) {
	documented := make(map[string]bool)
	for _, row := range keyRows(t) {
		for _, key := range row.keys {
			if documented[key] {
				t.Errorf("%s has two rows", key)
			}
			documented[key] = true
			value, ok := row.examples[key]
			switch {
			case !slices.Contains(route.Vocabulary(), key):
				t.Errorf("%s is no key", key)
			case !ok:
				t.Errorf("%s has no example", key)
			case key == ofRegistrator:
			default:
				haproxy, nginx := refusalOf(t, key, value, route.HAProxy, "host", "a.test"), refusalOf(t, key, value, route.Nginx, "host", "a.test")
				if haproxy != "" && nginx != "" {
					t.Errorf("fairway.%s=%s: %s; %s", key, value, haproxy, nginx)
				}
			}
		}
		for key := range row.examples {
			if !slices.Contains(row.keys, key) {
				t.Errorf("an example of %s stands in the row of %q", key, row.keys)
			}
		}
	}
	for _, key := range route.Vocabulary() {
		_, haproxy := verdict(t, key, route.HAProxy)
		_, nginx := verdict(t, key, route.Nginx)
		if works := haproxy || nginx || key == ofRegistrator; works != documented[key] {
			t.Errorf("%s works: %v, and has a row: %v", key, works, documented[key])
		}
	}
}
