package service

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// origin is where a piece of metadata was written. Later origins win at equal specificity.
type origin int

const (
	fromEnvironment origin = iota
	fromLabel
	fromSwarmService
)

func (o origin) String() string {
	return [...]string{"environment", "label", "label of the Swarm service"}[o]
}

// scope narrows a piece of metadata to some ports of its container. The zero scope is all ports.
type scope struct {
	from, to uint16 // both 0 for every port
	protocol string // "" for every protocol
}

func (s scope) covers(p Port) bool {
	inRange := s.from == 0 || s.from <= p.Number && p.Number <= s.to
	return inRange && (s.protocol == "" || s.protocol == p.Protocol)
}

func (s scope) generic() bool { return s.from == 0 }

// compare orders scopes from the widest to the narrowest: no port, then ranges by their width, an
// exact port being the narrowest of all; between two equally wide, the one that names a protocol.
func (s scope) compare(t scope) int {
	return cmp.Or(
		cmp.Compare(t.width(), s.width()),
		cmp.Compare(min(len(s.protocol), 1), min(len(t.protocol), 1)),
	)
}

func (s scope) width() int {
	if s.generic() {
		return 1 << 16
	}
	return int(s.to) - int(s.from)
}

// setting is one piece of metadata as somebody wrote it.
type setting struct {
	key    string // lower case, without prefix and scope: "name", "check_http"
	value  string
	label  string // the variable or label as written: "SERVICE_80_NAME"
	from   origin
	dotted bool // written as service.80.name
	scope  scope
}

// with is the setting with another value.
func (s setting) with(value string) setting {
	s.value = value
	return s
}

func (s setting) source() string { return fmt.Sprintf("%s (%s)", s.label, s.from) }

// metadata is all that was written on one container, the weakest setting first.
type metadata []setting

// forPort returns what holds for one port: for each key its strongest setting.
func (m metadata) forPort(p Port) map[string]setting {
	settings := make(map[string]setting)
	for _, s := range m {
		if s.scope.covers(p) {
			settings[s.key] = s
		}
	}
	return settings
}

// all returns every setting of one key that holds for a port, the weakest first, without those
// that a later origin of the same scope replaces.
func (m metadata) all(p Port, key string) []setting {
	var list []setting
	for _, s := range m {
		if s.key != key || !s.scope.covers(p) {
			continue
		}
		if n := len(list); n > 0 && list[n-1].scope == s.scope {
			list = list[:n-1]
		}
		list = append(list, s)
	}
	return list
}

// readMetadata collects what a container's environment, its labels and its Swarm service's labels
// say under the prefix. What cannot be understood is left out and reported.
func readMetadata(c *Container, prefix string, report reporter) metadata {
	var m metadata
	add := func(label, rest, value string, from origin, dotted bool) {
		s := setting{value: value, label: label, from: from, dotted: dotted}
		var err error
		if s.scope, s.key, err = parseKey(rest); err != nil {
			report(label, err.Error())
			return
		}
		m = append(m, s)
	}
	for _, line := range c.Env {
		key, value, ok := strings.Cut(line, "=")
		if rest, ours := strings.CutPrefix(key, prefix); ok && ours {
			add(key, rest, value, fromEnvironment, false)
		}
	}
	dots := dottedPrefix(prefix)
	labels := func(labels map[string]string, from origin) {
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			if rest, ours := strings.CutPrefix(key, prefix); ours {
				add(key, rest, labels[key], from, false)
			} else if rest, ours := strings.CutPrefix(key, dots); ours {
				add(key, strings.ReplaceAll(rest, ".", "_"), labels[key], from, true)
			}
		}
	}
	labels(c.Labels, fromLabel)
	labels(c.Task.labels(), fromSwarmService)
	slices.SortStableFunc(m, func(a, b setting) int {
		dotted := map[bool]int{true: -1}
		return cmp.Or(a.scope.compare(b.scope), cmp.Compare(a.from, b.from), cmp.Compare(dotted[a.dotted], dotted[b.dotted]))
	})
	return m
}

// dottedPrefix is the lower-case form of a prefix: "service." for "SERVICE_".
func dottedPrefix(prefix string) string {
	return strings.ToLower(strings.TrimRight(prefix, "_.")) + "."
}

// parseKey splits "80_TCP_NAME" into the ports it is meant for and the key "name".
func parseKey(rest string) (scope, string, error) {
	rest = strings.ToLower(rest)
	if rest == "" {
		return scope{}, "", errors.New("names no key; write for example SERVICE_NAME")
	}
	head, key, ok := strings.Cut(rest, "_")
	if !ok || !looksLikePorts(head) {
		return scope{}, rest, nil
	}
	s, err := parsePorts(head)
	if err != nil {
		return scope{}, "", err
	}
	if protocol, narrowed, ok := strings.Cut(key, "_"); ok && isProtocol(protocol) {
		s.protocol, key = protocol, narrowed
	}
	if key == "" {
		return scope{}, "", errors.New("names ports and no key; write for example SERVICE_80_NAME")
	}
	return s, key, nil
}

func looksLikePorts(s string) bool {
	return s != "" && s[0] != '-' && strings.Trim(s, "0123456789-") == ""
}

func parsePorts(s string) (scope, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	from, err := parsePort(first)
	if err != nil {
		return scope{}, err
	}
	to, err := parsePort(last)
	if err != nil {
		return scope{}, err
	}
	if from > to {
		return scope{}, fmt.Errorf("the range %s ends before it begins; write %d-%d", s, to, from)
	}
	return scope{from: from, to: to}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port; ports go from 1 to 65535", s)
	}
	return uint16(n), nil
}

func isProtocol(s string) bool { return s == "tcp" || s == "udp" || s == "sctp" }

// parseBool reads a switch the way people write them.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "1", "t", "true", "yes", "y", "on":
		return true, true
	case "0", "f", "false", "no", "n", "off", "":
		return false, true
	}
	return false, false
}
