package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Map is a map file.
type Map struct {
	Path    string // as confgen knows it, relative; HAProxy may see it under another folder
	Entries []string
}

// ParseMap reads a map file: "key value" lines in order, without comments and blank lines.
func ParseMap(path string, text []byte) Map {
	m := Map{Path: path}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			m.Entries = append(m.Entries, entry(line))
		}
	}
	return m
}

// entry writes an entry as HAProxy keeps it: key, one blank, value.
func entry(line string) string {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line
	}
	return line[:i] + " " + strings.TrimSpace(line[i:])
}

// mapNames returns the maps that the worker has loaded, under the names that it uses.
func (c *Conn) mapNames(ctx context.Context) ([]string, error) {
	answer, err := c.Ask(ctx, "show map")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(answer) {
		// 2 (/etc/haproxy/hosts.map) pattern loaded from file '/etc/haproxy/hosts.map' used by …
		_, rest, _ := strings.Cut(line, "(")
		name, _, found := strings.Cut(rest, ") ")
		if found && name != "" && !strings.HasPrefix(line, "#") {
			names = append(names, name)
		}
	}
	return names, nil
}

// findMap returns HAProxy's name of a map, or "" when its configuration does not use it.
func findMap(names []string, path string) (string, error) {
	matches := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name != path && !strings.HasSuffix(name, "/"+path)
	})
	if len(matches) > 1 {
		return "", fmt.Errorf("map %s: haproxy has several that could be it: %s", path, strings.Join(matches, ", "))
	}
	if len(matches) == 0 {
		return "", nil
	}
	return matches[0], nil
}

// mapDiffers compares a map with the worker's. The order is compared too: it decides in maps of
// regular expressions. HAProxy lists entries in the order in which they came in.
func (c *Conn) mapDiffers(ctx context.Context, name string, m Map) (bool, error) {
	answer, err := c.Ask(ctx, "show map "+escape([]string{name})[0])
	if err != nil {
		return false, err
	}
	i := 0
	for line := range strings.Lines(answer) {
		_, have, found := strings.Cut(strings.TrimSpace(line), " ") // 0x56141f7a1c60 key value
		if !found {
			continue
		}
		if i >= len(m.Entries) || m.Entries[i] != have {
			return true, nil
		}
		i++
	}
	return i != len(m.Entries), nil
}

// linesAtOnce is how many entries one payload may carry.
const linesAtOnce = 200

// replaceMap loads a whole new version of a map beside the old one and switches over.
func (c *Conn) replaceMap(ctx context.Context, name string, m Map) error {
	name = escape([]string{name})[0]
	answer, err := c.Do(ctx, "prepare map "+name)
	if err != nil {
		return err
	}
	_, version, found := strings.Cut(answer, "New version created: ")
	if !found {
		return fmt.Errorf("ask haproxy \"prepare map %s\": unexpected answer %q", name, answer)
	}
	command := "add map @" + version + " " + name
	for entries := m.Entries; len(entries) > 0; {
		n := chunk(entries, MaxMessage-len(command)-len(" <<\n\n"))
		if answer, err := c.Do(ctx, command, entries[:n]...); err != nil || answer != "" {
			_, clearErr := c.Do(ctx, "clear map @"+version+" "+name)
			if err == nil {
				err = &CommandError{Command: command, Text: answer}
			}
			if clearErr != nil {
				return fmt.Errorf("%w; then clear map: %w", err, clearErr)
			}
			return err
		}
		entries = entries[n:]
	}
	_, err = c.Do(ctx, "commit map @"+version+" "+name)
	return err
}

// chunk returns how many entries fit into one payload; at least one, which frame then refuses.
func chunk(entries []string, room int) int {
	for n, e := range entries {
		room -= len(e) + 1
		if n == linesAtOnce || room < 1 {
			return max(n, 1)
		}
	}
	return len(entries)
}
