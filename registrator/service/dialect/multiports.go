package dialect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// mount is what one path of VIRTUAL_HOST_MULTIPORTS says.
type mount struct {
	Port json.Number `json:"port"`
	Dest string      `json:"dest"`
}

const (
	multiportsLabel = "VIRTUAL_HOST_MULTIPORTS"
	multiportsForm  = `write it as JSON: {"a.test": {"/": {"port": 8000, "dest": ""}}}`
)

// multiports reads VIRTUAL_HOST_MULTIPORTS, which is JSON, or YAML of three levels: host, path,
// and port or dest.
func (r *reading) multiports(text string) {
	read := readMountsYAML
	if strings.HasPrefix(text, "{") {
		read = readMountsJSON
	}
	hosts, err := read(text)
	if err != nil {
		r.problem(multiportsLabel, "%s: %s; %s", quote(text), err, multiportsForm)
		return
	}
	if len(hosts) == 0 {
		r.problem(multiportsLabel, "%s names no host; %s", quote(text), multiportsForm)
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		names := r.hosts(multiportsLabel, []string{host})
		paths := hosts[host]
		if len(paths) == 0 {
			paths = map[string]mount{"/": {}}
		}
		for _, path := range slices.Sorted(maps.Keys(paths)) {
			if len(names) == 0 {
				break
			}
			m := paths[path]
			t := r.route(r.routeName(strings.Trim(host+path, "/")), multiportsLabel)
			t.set("host", strings.Join(names, ","), multiportsLabel)
			r.virtualPath(t, path, multiportsLabel, m.Dest, multiportsLabel)
			r.virtualPort(t, m.Port.String(), multiportsLabel)
		}
	}
	r.merge()
}

func readMountsJSON(text string) (map[string]map[string]mount, error) {
	var hosts map[string]map[string]mount
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&hosts); err != nil {
		return nil, fmt.Errorf("not what it should be: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON")
	}
	return hosts, nil
}

// readMountsYAML reads the nested mappings that nginx-proxy's documentation shows, and refuses
// everything else that YAML has.
func readMountsYAML(text string) (map[string]map[string]mount, error) {
	hosts := make(map[string]map[string]mount)
	indents := []int{0, -1, -1} // of the three levels, once seen
	var host, path string
	above := -1 // level of the line before, or -1 where nothing may be nested
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \r")
		body := strings.TrimLeft(line, " ")
		if body == "" || body[0] == '#' {
			continue
		}
		key, value, err := yamlPair(body)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		level, err := yamlLevel(indents, len(line)-len(body), above)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		above = level
		if level < 2 && value != "" {
			if value != "{}" {
				return nil, fmt.Errorf("line %d: %s has no nested block", i+1, quote(key))
			}
			above = -1
		}
		twice := false
		switch level {
		case 0:
			_, twice = hosts[key]
			host, hosts[key] = key, make(map[string]mount)
			indents[1], indents[2] = -1, -1
		case 1:
			_, twice = hosts[host][key]
			path, hosts[host][key] = key, mount{}
			indents[2] = -1
		default:
			m := hosts[host][path]
			if twice, err = m.set(key, value); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			hosts[host][path] = m
			above = 2
		}
		if twice {
			return nil, fmt.Errorf("line %d: %s comes twice", i+1, quote(key))
		}
	}
	return hosts, nil
}

// yamlLevel finds the level of a line by its indentation: one that was seen, or the next deeper
// one right under its key.
func yamlLevel(indents []int, indent, above int) (int, error) {
	if level := slices.Index(indents, indent); level >= 0 {
		return level, nil
	}
	if next := above + 1; above >= 0 && next < len(indents) && indents[next] < 0 && indent > indents[above] {
		indents[next] = indent
		return next, nil
	}
	return 0, errors.New("this indentation fits nothing above")
}

func (m *mount) set(key, value string) (twice bool, err error) {
	text, err := yamlText(value)
	if err != nil {
		return false, err
	}
	switch key {
	case "port":
		if _, err := strconv.ParseUint(text, 10, 16); err != nil {
			return false, fmt.Errorf("port %s is not a number", quote(text))
		}
		twice = m.Port != ""
		m.Port = json.Number(text)
	case "dest":
		twice = m.Dest != ""
		m.Dest = text
	default:
		return false, fmt.Errorf("%s is neither port nor dest", quote(key))
	}
	return twice, nil
}

// yamlPair splits "key: value". Keys are quoted or plain; a plain one ends at the first ": ".
func yamlPair(s string) (key, value string, err error) {
	if s[0] == '"' || s[0] == '\'' {
		end := strings.IndexByte(s[1:], s[0])
		if end < 0 {
			return "", "", errors.New("a quote is not closed")
		}
		key, value = s[:end+2], s[end+2:]
		if value != ":" && !strings.HasPrefix(value, ": ") {
			return "", "", errors.New("a key is followed by a colon")
		}
		value = value[1:]
	} else if at := strings.Index(s+" ", ": "); at >= 0 {
		key, value = s[:at], s[at+1:]
	} else {
		return "", "", fmt.Errorf("%s is not a key and a colon", quote(s))
	}
	if key, err = yamlText(key); err != nil {
		return "", "", err
	}
	if key == "" {
		return "", "", errors.New("a key is empty")
	}
	return key, stripComment(strings.TrimSpace(value)), nil
}

func stripComment(s string) string {
	if strings.HasPrefix(s, "#") {
		return ""
	}
	if at := strings.Index(s, " #"); at >= 0 && !strings.ContainsAny(s[:1], `"'`) {
		s = strings.TrimSpace(s[:at])
	}
	return s
}

// yamlText reads a scalar on one line, quoted without escapes or plain without signs that mean
// something in YAML.
func yamlText(s string) (string, error) {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		inside := s[1 : len(s)-1]
		if strings.IndexByte(inside, s[0]) >= 0 || strings.Contains(inside, `\`) {
			return "", errors.New("escapes in quotes are not read")
		}
		return inside, nil
	}
	const signs = "-?:,[]{}#&*!|>'\"%@`"
	switch {
	case s == "":
		return "", nil
	case strings.IndexByte(signs, s[0]) >= 0, s == "~":
		return "", fmt.Errorf("%s begins with a sign of YAML; put it in quotes", quote(s))
	case strings.Contains(s, " #"), strings.Contains(s, ": "), strings.Contains(s, "\t"):
		return "", fmt.Errorf("%s needs quotes", quote(s))
	}
	return s, nil
}
