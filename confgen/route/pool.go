package route

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// live reads the keys that operators change while requests flow. The unnamed route's are the
// defaults of the named ones.
func (p *parser) live(out *parsed, w *wish, get lookup) {
	if s, route, ok := get("maintenance"); ok {
		w.maintenance, _ = p.boolean(out, route, map[string]string{"maintenance": s}, "maintenance")
	}
	w.share = -1
	if s, route, ok := get("share"); ok {
		share, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		switch {
		case err == nil && share >= 0 && share <= 100: // not NaN
			w.share = share
		case route == w.name:
			p.problem(out, route, "share", quote(s)+": write a percentage from 0 to 100")
		}
	}
	s, route, ok := get("group")
	switch {
	case ok && (s == "" || len(s) > maxKey) && route == w.name:
		p.problem(out, route, "group", fmt.Sprintf("%s: write a name of at most %d characters", quote(s), maxKey))
	case ok && len(s) <= maxKey:
		w.group = s
	}
	if _, given := w.values["share"]; given && w.group == "" {
		p.problem(out, w.name, "share", "is a part of a group's requests, and the route names no group")
	}
}

// variant is what one service brings to a group: the instances of one of its routes that claim
// the same.
type variant struct {
	service string
	name    string // of the route
	members []member
	lead    member
	created uint64
	share   float64 // in percent; -1 when not given
}

// pooled keeps the members of one route that belong to a group for pools, and returns the rest.
func (b *builder) pooled(service, name string, members []member) []member {
	if !slices.ContainsFunc(members, func(m member) bool { return m.wish.group != "" }) {
		return members
	}
	groups := make(map[string][]member)
	for _, m := range members {
		groups[m.wish.group] = append(groups[m.wish.group], m)
	}
	for group, members := range groups {
		if group == "" {
			continue
		}
		for _, same := range groupByClaims(members) {
			lead := leader(same)
			b.differences(service, name, lead, same)
			b.pooling++
			if b.variants == nil {
				b.variants = make(map[string][]variant)
			}
			b.variants[group] = append(b.variants[group], variant{
				service: service, name: name, members: same, lead: lead,
				created: oldest(same), share: lead.wish.share,
			})
		}
	}
	return groups[""]
}

// spot is one host and path on one entrypoint, under one condition.
type spot struct {
	entrypoint string
	host
	path
	when string
}

// pools adds the backends that services share, and appends what they claim. Each host and path
// is served by those variants of its group that claim it, so that a path which only a new variant
// has goes there alone.
func (b *builder) pools(claims []Route) []Route {
	for _, group := range slices.Sorted(maps.Keys(b.variants)) {
		variants := b.variants[group]
		slices.SortFunc(variants, func(x, y variant) int {
			return cmp.Or(cmp.Compare(x.created, y.created), cmp.Compare(x.service, y.service), cmp.Compare(x.name, y.name),
				cmp.Compare(x.lead.in.ID, y.lead.in.ID))
		})
		claims = b.pool(group, b.alike(group, variants), claims)
	}
	return claims
}

// alike leaves out the variants that keep out others than the oldest does, or are spoken to in
// another way: one backend cannot do both, and none may be reached by whom its own labels keep out.
func (b *builder) alike(group string, variants []variant) []variant {
	lead := variants[0]
	list := []variant{lead}
	for _, v := range variants[1:] {
		differing := ""
		for _, key := range sortedKeys {
			if (restricts[key] || key == "client-ca") && v.lead.wish.values[key] != lead.lead.wish.values[key] {
				differing = key
				break
			}
		}
		if differing == "" {
			list = append(list, v)
			continue
		}
		b.problem(Problem{
			Service: v.service, Instance: v.lead.in.ID, Key: label(b.parser.name, v.name, differing),
			Reason: fmt.Sprintf("%s, but %s of service %s, which was registered first in the group %s; they cannot be served as one, so this one is left out of it; say the same on both",
				orNothing(v.lead.wish.values[differing]), orNothing(lead.lead.wish.values[differing]), lead.service, quote(group)),
		})
	}
	return list
}

func (b *builder) pool(group string, variants []variant, claims []Route) []Route {
	sets := make(map[spot][]int)
	var spots []spot // in the order of the variants, the oldest first
	for i, v := range variants {
		for h, p := range v.lead.wish.claims {
			for _, e := range v.lead.wish.serving(h) {
				at := spot{e, h, p, v.lead.wish.when.String()}
				if len(sets[at]) == 0 {
					spots = append(spots, at)
				}
				if !slices.Contains(sets[at], i) {
					sets[at] = append(sets[at], i)
				}
			}
		}
	}
	backends := make(map[string]string) // by set
	routes := make(map[spot]int)        // what the backend claims on several entrypoints is one route
	for _, at := range spots {
		set := fmt.Sprint(sets[at])
		if backends[set] == "" {
			backends[set] = b.pooledBackend(group, at, pick(variants, sets[at]), len(backends) == 0)
		}
		key := spot{backends[set], at.host, at.path, at.when}
		if i, again := routes[key]; again {
			claims[i].Entrypoints = sortedUnique(append(claims[i].Entrypoints, at.entrypoint))
			continue
		}
		routes[key] = len(claims)
		first := variants[sets[at][0]]
		claims = append(claims, Route{
			HostKind: at.host.kind, Host: at.host.name, PathKind: at.path.kind, Path: at.path.name, When: first.lead.wish.when,
			Entrypoints: []string{at.entrypoint}, Priority: first.lead.wish.priority,
			Backend: backends[set], Service: first.service, Name: first.name, created: first.created, demand: first.lead.wish.demands(),
		})
	}
	return b.pooledDetours(group, variants, claims)
}

func pick(variants []variant, set []int) []variant {
	list := make([]variant, len(set))
	for i, at := range set {
		list[i] = variants[at]
	}
	return list
}

// pooledBackend makes the backend of the variants that share a spot. The first of a group is
// called like the group, so that variants come and go without another name.
func (b *builder) pooledBackend(group string, at spot, variants []variant, first bool) string {
	name := safeName(group)
	if !first {
		name += "." + safeName(strings.Trim(at.host.name+strings.ReplaceAll(at.path.name, "/", "."), "."))
	}
	lead := variants[0]
	backend := Backend{Name: b.unique(name), Service: lead.service, Options: lead.lead.wish.options}
	var members []member
	for _, v := range variants {
		members = append(members, v.members...)
		b.pooledDifferences(group, lead, v)
	}
	backend.Servers = b.servers(reachable(members))
	if len(variants) > 1 {
		backend.Pool = share(backend.Servers, variants)
	}
	scale(backend.Servers)
	b.backends = append(b.backends, backend)
	return backend.Name
}

// pooledDifferences shows what a variant asks of a shared backend and does not get.
func (b *builder) pooledDifferences(group string, lead, v variant) {
	own := map[string]bool{"host": true, "path": true, "share": true, "entrypoints": true, "default": true, "priority": true}
	for _, key := range slices.Sorted(maps.Keys(v.lead.wish.values)) {
		mine, leads := v.lead.wish.values[key], lead.lead.wish.values[key]
		if mine == leads || own[key] || perInstanceKeys[key] {
			continue
		}
		b.problem(Problem{
			Service: v.service, Instance: v.lead.in.ID, Key: label(b.parser.name, v.name, key),
			Reason: fmt.Sprintf("%s: the group %s is served by one backend, and %s of service %s, which was registered first, is in use",
				quote(mine), group, orNothing(leads), lead.service),
		})
	}
}

// share gives each variant's servers weights that add up to its share, and returns the shares.
// The requests of a variant without a server that takes them go to the others, to those with a
// share of nothing only where there is no other.
func share(servers []Server, variants []variant) []Variant {
	of := make(map[string]int, len(servers)) // address and port → variant
	for i, v := range variants {
		for _, m := range v.members {
			key := m.addr.String() + " " + fmt.Sprint(m.in.Port)
			if _, taken := of[key]; !taken {
				of[key] = i
			}
		}
	}
	belongs := func(s Server) int { return of[s.Address+" "+fmt.Sprint(s.Port)] }
	ready, all := make([]int, len(variants)), make([]int, len(variants))
	for _, s := range servers {
		all[belongs(s)] += s.Weight
		if s.State == Ready {
			ready[belongs(s)] += s.Weight
		}
	}
	percent, total := percentages(variants), 0.0
	for i := range variants {
		if ready[i] > 0 {
			total += percent[i]
		}
	}
	if total == 0 {
		for i := range variants {
			percent[i] = 1
			if ready[i] > 0 {
				total++
			}
		}
	}
	top := 0.0
	wanted := make([]float64, len(servers))
	for i, s := range servers {
		v := belongs(s)
		if sum := cmp.Or(ready[v], all[v]); sum > 0 {
			wanted[i] = percent[v] * float64(s.Weight) / float64(sum)
		}
		top = max(top, wanted[i])
	}
	for i := range servers {
		servers[i].Weight = 0
		if wanted[i] > 0 {
			servers[i].Weight = max(1, int(math.Round(maxWeight*wanted[i]/top)))
		}
	}
	pool := make([]Variant, len(variants))
	for i, v := range variants {
		pool[i] = Variant{Service: v.service, Route: v.name}
		if ready[i] > 0 && total > 0 {
			pool[i].Percent = int(math.Round(100 * percent[i] / total))
		}
	}
	return pool
}

// percentages are the shares as said; variants that say none divide what the others leave.
func percentages(variants []variant) []float64 {
	left, silent := 100.0, 0
	for _, v := range variants {
		if v.share < 0 {
			silent++
		} else {
			left -= v.share
		}
	}
	list := make([]float64, len(variants))
	for i, v := range variants {
		if v.share >= 0 {
			list[i] = v.share
		} else {
			list[i] = max(0, left) / float64(silent)
		}
	}
	return list
}

// pooledDetours claims the hosts and paths from which variants send clients on; the first to
// claim one has it.
func (b *builder) pooledDetours(group string, variants []variant, claims []Route) []Route {
	seen := make(map[spot]bool)
	for _, v := range variants {
		for _, d := range v.lead.wish.detours {
			var fresh []Route
			for _, c := range appendClaims(nil, v.service, "", v.created, v.lead.wish.on(d), d.key) {
				c.Entrypoints = slices.DeleteFunc(slices.Clone(c.Entrypoints), func(e string) bool {
					at := spot{e, host{kind: c.HostKind, name: c.Host}, path{kind: c.PathKind, name: c.Path}, c.When.String()}
					taken := seen[at]
					seen[at] = true
					return taken
				})
				if len(c.Entrypoints) > 0 {
					fresh = append(fresh, c)
				}
			}
			if len(fresh) == 0 {
				continue
			}
			to := b.detourBackend(safeName(group), v.service, d)
			for _, c := range fresh {
				c.Backend = to
				claims = append(claims, c)
			}
		}
	}
	return claims
}
