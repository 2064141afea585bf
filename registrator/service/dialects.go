package service

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway/registrator/service/dialect"
)

// translate adds to the routing keys found on a container what it says in another front end's
// words. Fairway's own labels win: where they make a route no dialect is read, and a key of theirs
// takes the place of a translated one. It returns what explains the keys.
func translate(c *Container, opt Options, found map[string]setting, report reporter) []string {
	if len(opt.Dialects) == 0 {
		return nil
	}
	labels := make(map[string]string, len(c.Labels)+len(c.Task.labels()))
	maps.Copy(labels, c.Labels)
	maps.Copy(labels, c.Task.labels())
	result := dialect.Translate(dialect.Input{
		Env: c.Env, Labels: labels, Ports: tcpPorts(c), Tags: dialectTags(c, opt),
	}, opt.Dialects)
	if result.Dialect == "" {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if makesRoute(key) {
			return []string{fmt.Sprintf("what is written for %s is not read, because %s makes a route", result.Dialect, found[key].label)}
		}
	}
	for _, p := range result.Problems {
		report(p.Label, p.Reason)
	}
	var notes []string
	for _, dotted := range slices.Sorted(maps.Keys(result.Keys)) {
		v := result.Keys[dotted]
		key := strings.ReplaceAll(dotted, ".", "-")
		if own, given := found[key]; given {
			notes = append(notes, fmt.Sprintf("%s is not read, because %s says the same key", v.Label, own.label))
			continue
		}
		found[key] = setting{key: key, value: v.Text, label: v.Label, from: originOf(c, v.Label)}
		notes = append(notes, fmt.Sprintf("%s is read as %s.%s=%s (%s)", v.Label, opt.RoutingPrefix, dotted, v.Text, result.Dialect))
	}
	return append(notes, result.Notes...)
}

// makesRoute reports whether a key, of whatever route, is one of those that ask for traffic.
func makesRoute(key string) bool {
	return slices.ContainsFunc([]string{"host", "path", "default", "tcp", "sni"}, func(k string) bool {
		return key == k || strings.HasSuffix(key, "-"+k)
	})
}

func originOf(c *Container, label string) origin {
	if _, ok := c.Task.labels()[label]; ok {
		return fromSwarmService
	}
	if _, ok := c.Labels[label]; ok {
		return fromLabel
	}
	return fromEnvironment
}

// tcpPorts are a container's TCP ports, each once.
func tcpPorts(c *Container) []uint16 {
	var ports []uint16
	for _, p := range c.Ports {
		if p.Protocol == "tcp" && p.Number != 0 && !slices.Contains(ports, p.Number) {
			ports = append(ports, p.Number)
		}
	}
	return ports
}

// dialectTags are the tags that a container's services will have, in which fabio's routes stand.
// What is wrong with them is reported where they become tags.
func dialectTags(c *Container, opt Options) []dialect.Tag {
	if !slices.Contains(opt.Dialects, dialect.Fabio) {
		return nil
	}
	var tags []dialect.Tag
	add := func(text, label string, port uint16) {
		if tag := (dialect.Tag{Text: text, Label: label, Port: port}); !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	m := readMetadata(c, opt.Prefix, func(string, string) {})
	ports := tcpPorts(c)
	if len(ports) == 0 {
		ports = []uint16{0} // what is said of no port in particular
	}
	for _, number := range ports {
		all := m.all(Port{Number: number, Protocol: "tcp"}, "tags")
		if len(all) > 1 && !opt.MergeTags {
			all = all[len(all)-1:]
		}
		for _, s := range all {
			port := number
			if s.scope.generic() {
				port = 0
			}
			for _, text := range splitList(s.value) {
				add(text, s.label, port)
			}
		}
	}
	for _, tag := range opt.Tags {
		if !strings.Contains(tag.text, "urlprefix-") {
			continue
		}
		if texts, err := tag.render(c.Inspect); err == nil {
			for _, text := range texts {
				add(text, "-tags", 0)
			}
		}
	}
	return tags
}

// explainRouting notes how the words of another front end were read.
func (b *builder) explainRouting(c *Container, r routing) {
	if len(r.notes) == 0 {
		return
	}
	d := b.decide(c, "")
	for _, note := range r.notes {
		d.note(AboutRouting, "%s", note)
	}
}
