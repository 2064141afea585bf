package route

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// service adds the backends of one service, and what its routes claim.
func (b *builder) service(s *service) {
	var own []Backend
	for _, name := range routeNames(s) {
		members := make([]member, 0, len(s.candidates))
		for i := range s.candidates {
			c := &s.candidates[i]
			if w := c.wish(name); w != nil && !slices.Contains(c.barred, name) {
				members = append(members, member{in: c.in, addr: c.addr, wish: w})
			}
		}
		groups := groupByClaims(b.pooled(s.name, name, members))
		for i, group := range groups {
			lead := leader(group)
			b.differences(s.name, name, lead, group)
			if i > 0 {
				b.apart(s.name, name, groups[0], lead)
			}
			servers := b.servers(reachable(group))
			scale(servers)
			at := slices.IndexFunc(own, func(o Backend) bool {
				return slices.Equal(o.Servers, servers) && o.Options.Equal(lead.wish.options)
			})
			if at < 0 {
				at = len(own)
				own = append(own, Backend{Name: b.backendName(s, len(own), i, lead.wish), Service: s.name, Servers: servers, Options: lead.wish.options})
			}
			b.claims = appendClaims(b.claims, s.name, own[at].Name, oldest(group), lead.wish, "")
			for _, d := range lead.wish.detours {
				to := b.detourBackend(own[at].Name, s.name, d)
				b.claims = appendClaims(b.claims, s.name, to, oldest(group), lead.wish.on(d), d.key)
			}
		}
	}
	b.backends = append(b.backends, own...)
}

func routeNames(s *service) []string {
	if first := s.candidates[0].labels; allShare(s, first) {
		names := make([]string, len(first.wishes))
		for i, w := range first.wishes {
			names[i] = w.name
		}
		return names
	}
	names := make(map[string]bool)
	for _, c := range s.candidates {
		for _, w := range c.labels.wishes {
			names[w.name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func allShare(s *service, labels *parsed) bool {
	return !slices.ContainsFunc(s.candidates, func(c candidate) bool { return c.labels != labels })
}

// groupByClaims separates instances that only share a service's name from those that are
// versions of one another. Instances that claim a host and path in common, under one condition,
// are one group, in which the newest passing one's labels win. Instances without anything in
// common, such as two containers of one image that were given different hosts, serve each their
// own: sending one's requests to the other would be wrong, and dropping one would be worse. The
// oldest group is first.
func groupByClaims(members []member) [][]member {
	if len(members) == 0 {
		return nil
	}
	if !slices.ContainsFunc(members, func(m member) bool { return m.wish != members[0].wish }) {
		return [][]member{members}
	}
	type claim struct {
		host
		path
		when string
	}
	parent := make([]int, len(members))
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	holder := make(map[claim]int)
	for i, m := range members {
		parent[i] = i
		when := m.wish.when.String()
		for h, p := range m.wish.claims {
			if j, ok := holder[claim{h, p, when}]; ok {
				parent[root(i)] = root(j)
			} else {
				holder[claim{h, p, when}] = i
			}
		}
	}
	groups := make(map[int][]member)
	for i, m := range members {
		groups[root(i)] = append(groups[root(i)], m)
	}
	list := slices.Collect(maps.Values(groups))
	slices.SortFunc(list, func(x, y []member) int {
		return cmp.Or(cmp.Compare(oldest(x), oldest(y)), cmp.Compare(x[0].in.ID, y[0].in.ID), compareInstances(x[0].in, y[0].in))
	})
	return list
}

// leader is the instance whose labels a group follows: the newest of those in the best health.
func leader(group []member) member {
	best := group[0]
	for _, m := range group[1:] {
		a, b := health(m.in), health(best.in)
		if a > b || a == b && newer(m.in, best.in) {
			best = m
		}
	}
	return best
}

func health(in *Instance) int {
	if in.Held {
		return -1 // what the catalog still says goes before what it said
	}
	switch in.Status {
	case Passing:
		return 2
	case Warning:
		return 1
	default:
		return 0
	}
}

// heldOnly is the age of claims that only held instances make.
const heldOnly = math.MaxUint64

// oldest is the age of a group's claims. Instances that may be gone claim nothing from others: a
// group of them alone is younger than everybody.
func oldest(group []member) uint64 {
	least := uint64(heldOnly)
	for _, m := range group {
		if !m.in.Held {
			least = min(least, m.in.Created)
		}
	}
	return least
}

// reachable leaves out the members whose address was refused; they keep their claims, so that
// the route answers 503 rather than going to a rival.
func reachable(group []member) []member {
	if !slices.ContainsFunc(group, func(m member) bool { return !m.addr.IsValid() }) {
		return group
	}
	var list []member
	for _, m := range group {
		if m.addr.IsValid() {
			list = append(list, m)
		}
	}
	return list
}

// perInstanceKeys may differ between instances: they say something of the instance alone.
var perInstanceKeys = map[string]bool{"weight": true, "port": true, "maintenance": true, "maxconn": true, "backup": true, "slowstart": true}

// differences shows which values lost to the leader's.
func (b *builder) differences(service, name string, lead member, group []member) {
	said := make(said)
	for _, m := range group {
		if m.wish == lead.wish || maps.Equal(m.wish.values, lead.wish.values) {
			continue
		}
		all := maps.Clone(m.wish.values)
		maps.Copy(all, lead.wish.values)
		for _, key := range slices.Sorted(maps.Keys(all)) {
			mine, leads := m.wish.values[key], lead.wish.values[key]
			if mine == leads || perInstanceKeys[key] {
				continue
			}
			b.perInstance(said, service, m.in.ID, Problem{
				Key: label(b.parser.name, name, key),
				Reason: fmt.Sprintf("instances disagree: says %s, but %s of %s is in use, because it is the newest in the best health",
					orNothing(mine), orNothing(leads), lead.in.ID),
			})
		}
	}
}

// apart shows that instances under one service name ask for routes that have nothing in common.
func (b *builder) apart(service, name string, first []member, lead member) {
	b.problem(Problem{
		Service: service, Instance: lead.in.ID, Key: label(b.parser.name, name, "host"),
		Reason: fmt.Sprintf("asks for other hosts and paths than %s under the same service name: each is served by its own instances; a service name of its own would keep them apart in Consul too",
			leader(first).in.ID),
	})
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return quote(s)
}

func andMore(instance string) string {
	const more = " and others"
	if strings.HasSuffix(instance, more) {
		return instance
	}
	return instance + more
}

// backendName names the n-th backend of a service: the first is called like the service, others
// after the route that they serve, and after its first host and path where instances of one
// service serve different ones.
func (b *builder) backendName(s *service, n, group int, w *wish) string {
	if n == 0 {
		return s.backend
	}
	name := s.backend
	if w.name != "" {
		name += "." + safeName(w.name)
	}
	if group > 0 {
		name += "." + safeName(strings.Trim(w.first(), "."))
	}
	return b.unique(name)
}

// first names the first host and path of a wish.
func (w *wish) first() string {
	for h, p := range w.claims {
		return h.name + strings.ReplaceAll(p.name, "/", ".")
	}
	return ""
}

func (b *builder) unique(name string) string {
	unique := name
	for n := 2; b.names[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	b.names[unique] = true
	if b.own != nil {
		b.own.names = append(b.own.names, unique)
		b.own.renamed = b.own.renamed || unique != name
	}
	return unique
}

// safeName keeps names of [a-z0-9._-] that start with a letter or digit: nginx compares names
// of upstreams without case, and Fairway's own start with "_".
func safeName(s string) string {
	safe := make([]byte, 0, len(s))
	for i := range min(len(s), 64) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', i > 0 && (c == '-' || c == '_' || c == '.'):
			safe = append(safe, c)
		case c >= 'A' && c <= 'Z':
			safe = append(safe, c+'a'-'A')
		case i == 0:
			safe = append(safe, 'x')
		default:
			safe = append(safe, '-')
		}
	}
	if string(safe) == s && s != "" {
		return s
	}
	return fmt.Sprintf("%s-%08x", safe, hash(s))
}
