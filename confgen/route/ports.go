package route

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// owner reads registrator's mark, "<container>:<port>/<protocol>". Without a mark the port is
// the one that the instance was registered with.
func owner(in *Instance) (container string, port int, udp bool) {
	container, rest, ok := strings.Cut(in.Owner, ":")
	number, protocol, _ := strings.Cut(rest, "/")
	port, err := strconv.Atoi(number)
	if !ok || err != nil {
		return "", in.Port, false
	}
	return container, port, protocol != "" && protocol != "tcp"
}

// selectPorts bars instances from routes that mean another port of their container, or that
// leave open which of several ports is meant: guessing would send requests to the wrong one.
// What is barred is barred in a copy, since it follows from other services too.
func (b *builder) selectPorts(services []service) {
	sharing := make(map[string][]*candidate)
	for i := range services {
		s := &services[i]
		if b.memory.crowded == 0 && !s.part.asks {
			continue
		}
		for j := range s.candidates {
			c := &s.candidates[j]
			if c.container == "" || b.memory.holders[c.container] < 2 && !c.named() && !c.udp {
				continue
			}
			if &s.candidates[0] == &s.part.candidates[0] {
				s.candidates = slices.Clone(s.candidates)
				c = &s.candidates[j]
			}
			sharing[c.container] = append(sharing[c.container], c)
		}
	}
	for _, list := range sharing {
		b.selectAmong(list)
	}
}

// named reports whether any route of the instance names a port.
func (c *candidate) named() bool {
	return slices.ContainsFunc(c.labels.wishes, func(w *wish) bool { return w.port != 0 })
}

// selectOne handles a service registered by hand: a named port must be the registered one.
func (b *builder) selectOne(c *candidate) {
	for _, w := range c.labels.wishes {
		if w.port != 0 && w.port != c.port {
			c.barred = append(c.barred, w.name)
			b.problem(Problem{
				Service: c.service, Instance: c.in.ID, Key: label(b.parser.name, w.name, "port"),
				Reason: fmt.Sprintf("names port %d, but the instance is registered at port %d", w.port, c.port),
			})
		}
	}
}

// selectAmong handles the ports of one container that carry routing labels. They share the
// container's labels, so each route is on several of them unless it names its port.
func (b *builder) selectAmong(list []*candidate) {
	names := make(map[string]bool)
	for _, c := range list {
		for _, w := range c.labels.wishes {
			names[w.name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b.selectRoute(name, list)
	}
}

func (b *builder) selectRoute(name string, list []*candidate) {
	var open, tcp []int // ports for which no port is named; all that carry HTTP
	matched := false
	for _, c := range list {
		w := c.wish(name)
		if w == nil {
			continue
		}
		if !c.udp {
			tcp = append(tcp, c.port)
		}
		matched = matched || w.port == c.port
		if w.port == 0 && !c.udp {
			open = append(open, c.port)
		}
	}
	slices.Sort(open)
	slices.Sort(tcp)
	open, tcp = slices.Compact(open), slices.Compact(tcp)
	for _, c := range list {
		w := c.wish(name)
		if w == nil {
			continue
		}
		reason := ""
		switch {
		case c.udp && len(tcp) == 0:
			reason = "the port carries no TCP, and routes carry HTTP"
		case c.udp:
		case w.port == 0 && len(open) < 2, w.port == c.port:
			continue
		case w.port == 0:
			reason = "the container has several ports (" + portList(open) + "); name the one that is meant"
		case !matched:
			reason = fmt.Sprintf("names port %d, which the container does not publish; it has %s", w.port, portList(tcp))
		}
		c.barred = append(c.barred, name)
		if reason != "" {
			b.problem(Problem{Service: c.service, Instance: c.in.ID, Key: label(b.parser.name, name, "port"), Reason: reason})
		}
	}
}

func (c *candidate) wish(name string) *wish {
	for _, w := range c.labels.wishes {
		if w.name == name {
			return w
		}
	}
	return nil
}

func portList(ports []int) string {
	list := make([]string, len(ports))
	for i, p := range ports {
		list[i] = strconv.Itoa(p)
	}
	return strings.Join(list, ", ")
}
