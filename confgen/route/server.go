package route

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultWeight = 100
	maxWeight     = 256
	maxServerID   = 1<<20 - 1 // HAProxy hashes by the low 20 bits of the id
	maxBackendID  = 1<<31 - 1
)

// address checks that a proxy can send to an instance at all.
func address(in *Instance) (netip.Addr, string) {
	if in.Address == "" {
		return netip.Addr{}, "has no address"
	}
	ip, err := netip.ParseAddr(in.Address)
	switch {
	case err != nil:
		return netip.Addr{}, "address " + quote(in.Address) + " is not an IP address"
	case ip.Zone() != "":
		return netip.Addr{}, "address " + quote(in.Address) + " has a zone, which means nothing on another machine"
	case ip.IsUnspecified(), ip.IsMulticast():
		return netip.Addr{}, "address " + quote(in.Address) + " is not one machine's address"
	case in.Port < 1 || in.Port > 65535:
		return netip.Addr{}, "port " + strconv.Itoa(in.Port) + " is not from 1 to 65535"
	}
	return ip.Unmap(), ""
}

// member is an instance that serves a route.
type member struct {
	in   *Instance
	addr netip.Addr
	wish *wish
}

// newer says which of two instances was registered later; the id decides between equals.
func newer(a, b *Instance) bool {
	if a.Created != b.Created {
		return a.Created > b.Created
	}
	return a.ID > b.ID
}

// servers turns the members of a backend into servers, one per address and port (F21: an
// instance that comes back under a new ID is the same server), sorted by name. Their weights
// still have to be scaled.
func (b *builder) servers(members []member) []Server {
	latest := members
	if len(members) > 1 {
		latest = slices.Clone(members)
		slices.SortFunc(latest, func(x, y member) int {
			return cmp.Or(x.addr.Compare(y.addr), cmp.Compare(x.in.Port, y.in.Port), cmp.Compare(y.in.Created, x.in.Created), cmp.Compare(y.in.ID, x.in.ID))
		})
		latest = slices.CompactFunc(latest, func(x, y member) bool { return x.addr == y.addr && x.in.Port == y.in.Port })
	}
	list := make([]Server, len(latest))
	for i, m := range latest {
		address := m.in.Address
		if strings.Contains(address, ":") { // IPv6 has several spellings, and one for IPv4 too
			address = m.addr.String()
		}
		list[i] = Server{
			Name:    serverName(m.in, address),
			Address: address,
			Port:    m.in.Port,
			Weight:  weight(m),
			State:   Maint,
			Limits:  m.wish.limits,
		}
		if (m.in.Status == Passing || m.in.Status == Warning) && !m.wish.maintenance {
			list[i].State = Ready
		}
	}
	b.lastResort(latest, list)
	slices.SortFunc(list, func(x, y Server) int { return cmp.Compare(x.Name, y.Name) })
	numberServers(list)
	return list
}

// lastResort readies the failing servers of a backend in which every one fails, or more than the
// operator takes for possible, except those that an operator took out (F59).
func (b *builder) lastResort(members []member, list []Server) {
	ready, able := 0, 0
	for i, m := range members {
		if list[i].State == Ready {
			ready++
		}
		if m.in.Status != Maintenance {
			able++
		}
	}
	if b.set.NoLastResort || ready > 0 && 100*ready >= b.set.Panic*able {
		return
	}
	for i, m := range members {
		if m.in.Status != Maintenance && !m.wish.maintenance {
			list[i].State = Ready
		}
	}
}

// serverName is unique in a backend, because address and port are: what follows the last "_"
// can be read back.
func serverName(in *Instance, address string) string {
	node := in.Node
	if len(node) > 64 {
		node = node[:64]
	}
	if node == "" {
		node = "node"
	}
	name := make([]byte, 0, len(node)+len(address)+7)
	for i := range len(node) {
		if c := node[i]; safeInServerName(c) {
			name = append(name, c)
		} else {
			name = append(name, '-')
		}
	}
	name = append(name, '_')
	name = append(name, address...)
	name = append(name, ':')
	return string(strconv.AppendInt(name, int64(in.Port), 10))
}

func safeInServerName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c == ':'
}

// weight is the label's, else Consul's in hundredths of its default 1. For a warning instance
// Consul's weight may be 0: it finishes what it has and gets nothing new.
func weight(m member) int {
	switch {
	case m.wish.weight >= 0:
		return m.wish.weight
	case m.in.Weight > 0:
		return min(m.in.Weight, 65535) * defaultWeight
	case m.in.Status == Warning:
		return 0
	default:
		return defaultWeight
	}
}

// scale brings weights into what HAProxy takes, keeping their ratios as far as integers can,
// and never turning a weight into 0.
func scale(list []Server) {
	top := 0
	for _, s := range list {
		top = max(top, s.Weight)
	}
	if top <= maxWeight {
		return
	}
	for i, s := range list {
		if s.Weight > 0 {
			list[i].Weight = max(1, s.Weight*maxWeight/top)
		}
	}
}

// numberServers gives each server the hash of its name, so that two front ends and two runs
// agree without remembering anything. Where two hashes meet, the later name takes the next.
func numberServers(list []Server) {
	for i := range list {
		id := int(hash(list[i].Name)%maxServerID) + 1
		for taken(list[:i], id) {
			id = id%maxServerID + 1
		}
		list[i].ID = id
	}
}

// numberBackends gives each backend the hash of its name, as numberServers does. A backend never
// takes another number because one comes or goes: a number that two names share is nobody's.
func numberBackends(list []Backend) {
	first := make(map[int]int, len(list)) // number → the first that has it
	for i := range list {
		id := int(hash(list[i].Name)%maxBackendID) + 1
		j, shared := first[id]
		if !shared {
			first[id], list[i].ID = i, id
			continue
		}
		list[i].ID, list[j].ID = 0, 0
	}
}

// hash is FNV-1a.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

func taken(list []Server, id int) bool {
	return slices.ContainsFunc(list, func(s Server) bool { return s.ID == id })
}
