package service

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// claim is a registration that has no ID yet.
type claim struct {
	row       Registration // without ID
	container *Container
	slot      *slot
	id        string // what it would like to be called
	label     string // where the user chose that ID; empty for the default
	aliases   []string
	aliasRow  Registration // what an alias registers, without ID and name
	shared    string       // the place, where all tasks of the service on this node share it
}

// claim turns a slot into claims: one for each place it is reached at. stack is the container that
// publishes its ports; nil where they are reached as they are.
func (b *builder) claim(c *Container, s *slot, slots []*slot, stack *Container, l life, report reporter) {
	row := Registration{Tags: b.tags(c, s, report)}
	checks := readChecks(s.settings, s.port, c, report)
	row.Status, row.Output = checks.apply(c, l)
	row.Weight = weight(s.settings["weight"], report)
	row.EnableTagOverride = tagOverride(s.settings["enable_tag_override"], report)
	row.Name = b.name(c, s, len(slots) > 1, report)
	row.Meta = buildMeta(b.pairs(c, s, true, report), report)
	id, label := b.wantedID(c, s, report)
	before := make(map[bool]int) // claims to places of its own, and to shared ones
	alias, aliases := row, b.aliases(s, row.Name, len(slots) > 1, report)
	if len(aliases) > 0 {
		alias.Meta = buildMeta(b.pairs(c, s, false, report), report)
	}
	s.explain(row)
	if s.waiting {
		b.plan.Waiting = append(b.plan.Waiting, c.Name)
		s.spots = []spot{{}}
	}
	for i, sp := range s.spots {
		at := sp.at()
		row.Address, row.Port, row.Addresses = at.Addr().String(), int(at.Port()), sp.tagged()
		row.Checks = checks.at(at, stack)
		alias.Address, alias.Port, alias.Addresses, alias.Checks = row.Address, row.Port, row.Addresses, row.Checks
		if i == 0 {
			s.explainChecks(row)
		}
		one := &claim{row: row, container: c, slot: s, id: id, label: label, aliases: aliases, aliasRow: alias}
		if sp.shared {
			one.shared = s.sharedBy(c, at)
			shareChecks(row.Checks)
		}
		if label == "" && sp.shared {
			one.id = b.defaultID(firstName(c.Task.ServiceName, c.Name), s)
		}
		if before[sp.shared] > 0 || label != "" && i > 0 {
			one.id += ":" + s.distinct(sp)
		}
		before[sp.shared]++
		b.claims = append(b.claims, one)
	}
}

// distinct tells one place of a port from its others: by its host port, else by address and port.
func (s *slot) distinct(sp spot) string {
	same := 0
	for _, other := range s.spots {
		if other.at().Port() == sp.at().Port() {
			same++
		}
	}
	if same > 1 {
		return sp.at().String()
	}
	return strconv.Itoa(int(sp.at().Port()))
}

// name is the service's name. Where a container registers several ports, a name that was not given
// to some of them in particular gets the port as a suffix.
func (b *builder) name(c *Container, s *slot, several bool, report reporter) string {
	name, why := defaultName(c)
	given := s.settings["name"]
	text := strings.TrimSpace(given.value)
	if refused := refuseName(text); refused != "" {
		report(given.label, "the name "+refused)
	} else if text != "" {
		name, why = text, given.source()
	}
	if refused := refuseName(name); refused != "" || name == "" {
		name, why = "container-"+shortID(c.ID), "the container's id, for want of a better name"
	}
	if !inDNS(name) && why != "the Swarm service" { // Swarm's own "stack_service" is nobody's slip
		report(cmp.Or(given.label, b.opt.Prefix+"NAME"),
			fmt.Sprintf("Consul's DNS cannot find a service called %q (%s); it takes up to 63 letters, digits and hyphens", name, why))
	}
	if several && given.scope.generic() {
		name += "-" + strconv.Itoa(int(s.port.Number))
		why += ", with its port because there are several"
	}
	s.decision.note("name", "%s: %s", name, why)
	return name
}

// aliases are the further names of a port, suffixed as its name is.
func (b *builder) aliases(s *slot, name string, several bool, report reporter) []string {
	given := s.settings["aliases"]
	var names []string
	for _, alias := range splitList(given.value) {
		if why := refuseName(alias); why != "" {
			report(given.label, fmt.Sprintf("the alias %q %s", alias, why))
			continue
		}
		if several && given.scope.generic() {
			alias += "-" + strconv.Itoa(int(s.port.Number))
		}
		names = append(names, alias)
	}
	return slices.DeleteFunc(unique(names), func(alias string) bool { return alias == name })
}

// tags are the user's, then the operator's, then the protocol if it is not tcp.
func (b *builder) tags(c *Container, s *slot, report reporter) []string {
	given := s.settings["tags"]
	tags := slices.DeleteFunc(splitList(given.value), func(tag string) bool {
		why := refuseText(tag)
		if why != "" {
			report(given.label, fmt.Sprintf("the tag %q %s", tag, why))
		}
		return why != ""
	})
	for _, tag := range b.opt.Tags {
		rendered, err := tag.render(c.Inspect)
		if err != nil {
			report("-tags", fmt.Sprintf("%v; this tag is left out", err))
		}
		for _, text := range rendered {
			if why := refuseText(text); why != "" {
				report("-tags", fmt.Sprintf("%s yields %q, which %s", tag.text, text, why))
				continue
			}
			tags = append(tags, text)
		}
	}
	if s.port.Protocol != "tcp" {
		tags = append(tags, s.port.Protocol)
	}
	return unique(tags)
}

// pairs are the meta of a port in the order of their importance. An alias carries no routing keys:
// the front end reaches the same container by its first name.
func (b *builder) pairs(c *Container, s *slot, routed bool, report reporter) []pair {
	pairs := []pair{{key: Owner, value: Mark(c.ID, s.port)}}
	if c.Task.guessed() {
		pairs = append(pairs, pair{key: MetaGuess, value: unknown})
	}
	if routed {
		for _, k := range s.routing {
			pairs = append(pairs, pair{key: b.opt.RoutingPrefix + "-" + k.key, value: k.value, label: k.label})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.settings)) {
		setting := s.settings[key]
		switch {
		case isReserved(key) || isCheckKey(key):
		case strings.HasPrefix(key, b.opt.RoutingPrefix+"-") || strings.HasPrefix(key, "fairway-"):
			report(setting.label, fmt.Sprintf("routing is written as labels: %s.host=…", b.opt.RoutingPrefix))
		default:
			pairs = append(pairs, pair{key: key, value: setting.value, label: setting.label})
		}
	}
	return pairs
}

// isReserved tells the keys that mean something to registrator from those that are meta.
func isReserved(key string) bool {
	switch key {
	case "name", "id", "tags", "ip", "ignore", "aliases", "weight", "enable_tag_override":
		return true
	}
	return false
}

func (b *builder) wantedID(c *Container, s *slot, report reporter) (id, label string) {
	given := s.settings["id"]
	id = strings.TrimSpace(given.value)
	if why := refuseName(id); why != "" {
		report(given.label, "the ID "+why)
	} else if id != "" {
		return id, given.label
	}
	return b.defaultID(firstName(c.Task.Name, c.Name, shortID(c.ID)), s), ""
}

// firstName is the first that an ID can hold: what Swarm says stands in labels, which anybody can
// write on a container.
func firstName(names ...string) string {
	for _, name := range names {
		if name != "" && refuseName(name) == "" {
			return name
		}
	}
	return ""
}

// defaultID names a port of something on this node.
func (b *builder) defaultID(of string, s *slot) string {
	return fmt.Sprintf("%s:%s:%s", b.opt.Node.Name, of, s.port.suffix())
}

// suffix is how IDs write a port: "53", "53:udp".
func (p Port) suffix() string {
	if p.Protocol == "tcp" {
		return strconv.Itoa(int(p.Number))
	}
	return fmt.Sprintf("%d:%s", p.Number, p.Protocol)
}

// maxWeight is the highest weight Consul takes.
const maxWeight = 65535

func weight(s setting, report reporter) int {
	if s.value == "" {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(s.value))
	if err != nil || n < 1 || n > maxWeight {
		report(s.label, fmt.Sprintf("Consul's weights go from 1 to %d", maxWeight))
		return 0
	}
	return n
}

func tagOverride(s setting, report reporter) bool {
	on, ok := parseBool(s.value)
	if !ok {
		report(s.label, "write true or false")
	}
	return on
}

// explain notes what the row says besides its name and address.
func (s *slot) explain(row Registration) {
	if len(row.Tags) > 0 {
		s.decision.note("tags", "%s", strings.Join(row.Tags, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(row.Meta)) {
		if key != Owner {
			s.decision.note("meta", "%s=%s", key, row.Meta[key])
		}
	}
	s.decision.note("status", "%s: %s", row.Status, row.Output)
}
