package service

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// spot is one place where a port of a container is reached: one registration. Where it is reached
// over both families, the address is the IPv4 one and both are tagged.
type spot struct {
	v4, v6 netip.AddrPort // at least a port in one of them
	fixed  netip.Addr     // SERVICE_IP or -ip: replaces both
	shared bool           // by all tasks of a Swarm service on this node
}

// at is the spot's address and port. The address is zero when it is not known.
func (s spot) at() netip.AddrPort {
	first := s.v4
	if !s.v4.Addr().IsValid() && (s.v6.Addr().IsValid() || s.v4.Port() == 0) {
		first = s.v6
	}
	if s.fixed.IsValid() {
		return netip.AddrPortFrom(s.fixed, first.Port())
	}
	return first
}

func (s spot) tagged() map[string]Tagged {
	if s.fixed.IsValid() || !s.v4.Addr().IsValid() || !s.v6.Addr().IsValid() {
		return nil
	}
	return map[string]Tagged{
		"lan_ipv4": {IP: s.v4.Addr(), Port: int(s.v4.Port())},
		"lan_ipv6": {IP: s.v6.Addr(), Port: int(s.v6.Port())},
	}
}

// spots finds where a port is reached, in a fixed order. waiting means that the engine has not
// bound it yet; why tells, when there is no spot, the reason.
func (b *builder) spots(p Port, at place) (spots []spot, waiting bool, why string) {
	switch at.reach {
	case byOwn:
		return []spot{{v4: addrPort(at.v4, p.Number), v6: addrPort(at.v6, p.Number), shared: at.shared}}, false, ""
	case byNode:
		return []spot{b.onNode(p.Number, p.Number)}, false, ""
	case byPublished:
		return b.published(bindingsOf(at.stack, p))
	case nowhere:
	}
	return nil, false, at.why
}

// bindingsOf are the places a port is published at by the container that owns the network stack.
func bindingsOf(stack *Container, p Port) []Binding {
	for _, own := range stack.Ports {
		if own.Number == p.Number && own.Protocol == p.Protocol {
			return own.Bindings
		}
	}
	return nil
}

const notPublished = "exposed, not published"

func (b *builder) published(bindings []Binding) (spots []spot, waiting bool, why string) {
	if len(bindings) == 0 {
		return nil, false, notPublished
	}
	var v4, v6 []Binding
	for _, binding := range bindings {
		binding.IP = binding.IP.Unmap()
		switch {
		case binding.Mesh:
			mesh := b.onNode(binding.Port, 0)
			mesh.shared = true
			spots = append(spots, mesh)
		case binding.Port == 0:
			return nil, true, "the engine has not bound its host port yet"
		case binding.IP.IsLoopback() && !b.opt.PublishLoopback:
			why = fmt.Sprintf("bound to %s, which no other machine can reach (--publish-loopback registers it all the same)", binding.IP)
		case !binding.IP.IsUnspecified() && !binding.IP.IsLoopback() && !usable(binding.IP).IsValid():
			why = fmt.Sprintf("bound to %s, which no other machine can reach", binding.IP)
		case binding.IP.Is4():
			v4 = append(v4, binding)
		default:
			v6 = append(v6, binding)
		}
	}
	for _, t := range twins(tidy(v4), tidy(v6)) {
		spots = append(spots, b.resolve(t))
	}
	slices.SortFunc(spots, func(x, y spot) int {
		return cmp.Or(cmp.Compare(x.at().Port(), y.at().Port()), x.at().Addr().Compare(y.at().Addr()))
	})
	return slices.CompactFunc(spots, func(x, y spot) bool { return x.at() == y.at() }), false, why
}

// tidy sorts bindings and drops repetitions.
func tidy(list []Binding) []Binding {
	slices.SortFunc(list, func(x, y Binding) int {
		return cmp.Or(cmp.Compare(x.Port, y.Port), x.IP.Compare(y.IP))
	})
	return slices.Compact(list)
}

// twin is one publication of a port in both families, or in one of them.
type twin struct{ v4, v6 Binding }

// twins pairs what is one publication seen twice: the bindings of both families with one host
// port, and those on all addresses of both families, for which some engines pick two host ports.
func twins(v4, v6 []Binding) []twin {
	var list []twin
	pair := func(same func(x, y Binding) bool) {
		v4 = slices.DeleteFunc(v4, func(x Binding) bool {
			i := slices.IndexFunc(v6, func(y Binding) bool { return same(x, y) })
			if i < 0 {
				return false
			}
			list = append(list, twin{v4: x, v6: v6[i]})
			v6 = slices.Delete(v6, i, i+1)
			return true
		})
	}
	pair(func(x, y Binding) bool { return x.Port == y.Port && x.IP.IsUnspecified() == y.IP.IsUnspecified() })
	pair(func(x, y Binding) bool { return x.Port == y.Port })
	pair(func(x, y Binding) bool { return x.IP.IsUnspecified() && y.IP.IsUnspecified() })
	for _, x := range v4 {
		list = append(list, twin{v4: x})
	}
	for _, y := range v6 {
		list = append(list, twin{v6: y})
	}
	return list
}

// resolve turns a publication into addresses: a specific bind address is the only one that
// answers, whatever the node's address is; a bind to all of them answers at the node's.
func (b *builder) resolve(t twin) spot {
	s := b.onNode(t.v4.Port, t.v6.Port)
	at4, at6 := t.v4.specific(), t.v6.specific()
	if at4.IsValid() || at6.IsValid() {
		s.fixed = netip.Addr{}
	}
	if at4.IsValid() {
		s.v4 = netip.AddrPortFrom(at4, t.v4.Port)
	}
	if at6.IsValid() {
		s.v6 = netip.AddrPortFrom(at6, t.v6.Port)
	}
	return s
}

// specific is the address of a binding that is bound to one address only.
func (b Binding) specific() netip.Addr {
	if b.IP.IsUnspecified() {
		return netip.Addr{}
	}
	return b.IP
}

// onNode is the node's address with a port for each family, 0 where nothing listens. The
// operator's -ip is the node's only address then, in either family.
func (b *builder) onNode(port4, port6 uint16) spot {
	if ip := usable(b.opt.IP); ip.IsValid() {
		port := cmp.Or(port4, port6)
		if ip.Is6() {
			port = cmp.Or(port6, port4)
		}
		return spot{v4: addrPort(netip.Addr{}, port), fixed: ip}
	}
	return spot{v4: addrPort(usable(b.opt.Node.IPv4), port4), v6: addrPort(usable(b.opt.Node.IPv6), port6)}
}

// addrPort drops an address at which no port listens.
func addrPort(a netip.Addr, port uint16) netip.AddrPort {
	if port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, port)
}
