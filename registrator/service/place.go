package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// reach says how other machines reach a container's ports.
type reach int

const (
	nowhere     reach = iota
	byPublished       // at the addresses its ports are published on
	byNode            // host networking: at the node's address, at the port itself
	byOwn             // at an address of its own, at the port itself
)

// place is where a container's ports are.
type place struct {
	reach  reach
	stack  *Container // whose network stack it uses: its own, or that of container:<other>
	v4, v6 netip.Addr // with byOwn: the container's addresses
	shared bool       // with byOwn: they are those of all tasks of its Swarm service
	why    string     // in words, for explanations
	kept   bool       // with nowhere: the stack's owner could not be read, so rows are kept
}

// locate decides where a container is, by the first of these that holds: the address label of
// -useIpFromLabel, host networking, the network its label names, the network the operator's flag
// names, any network with -internal, the published ports.
func (b *builder) locate(c *Container, network setting, report reporter) place {
	if at, ok := b.byAddressLabel(c, report); ok {
		return at
	}
	stack, at := b.stackOf(c)
	if stack == nil {
		return at
	}
	if stack.NetworkMode == "host" {
		if network.value != "" && network.value != "host" {
			report(network.label, "the container uses the host's network and has no other")
		}
		return place{reach: byNode, stack: stack, why: "host networking"}
	}
	if network.value != "" {
		if n, ok := findNetwork(stack.Networks, network.value); ok {
			return b.onNetwork(c, stack, n, "named by "+network.source())
		}
		report(network.label, fmt.Sprintf("the container has no address on a network %q; it is attached to %s",
			network.value, networkNames(stack.Networks)))
	}
	if n, ok := findNetwork(stack.Networks, b.opt.Network); ok {
		return b.onNetwork(c, stack, n, "named by the operator")
	}
	if b.opt.Internal {
		if n, ok := preferred(stack.Networks); ok {
			return b.onNetwork(c, stack, n, "the first by gateway priority and name")
		}
		return place{stack: stack, why: fmt.Sprintf("no address on any network; its network mode is %q", stack.NetworkMode)}
	}
	if stack.NetworkMode == "none" {
		return place{stack: stack, why: "its network mode is none"}
	}
	return place{reach: byPublished, stack: stack, why: "published"}
}

func (b *builder) byAddressLabel(c *Container, report reporter) (place, bool) {
	text := c.Labels[b.opt.IPLabel]
	if b.opt.IPLabel == "" || text == "" {
		return place{}, false
	}
	addr, why := parseAddress(text)
	if why != "" {
		report(b.opt.IPLabel, why)
		return place{}, false
	}
	at := place{reach: byOwn, stack: c, why: "label " + b.opt.IPLabel}
	if addr.Is4() {
		at.v4 = addr
	} else {
		at.v6 = addr
	}
	return at, true
}

// stackOf follows container:<id or name> to the container whose network stack is shared. When
// there is none, the place says why.
func (b *builder) stackOf(c *Container) (*Container, place) {
	for range 8 { // the engine allows one hop; a cycle cannot be built, and would end here
		other, joined := strings.CutPrefix(c.NetworkMode, "container:")
		if !joined {
			return c, place{}
		}
		target := b.find(other)
		switch {
		case target == nil:
			return nil, place{why: fmt.Sprintf("it uses the network of container %s, which is not on this node", other)}
		case target.State == Unknown:
			return nil, place{kept: true, why: fmt.Sprintf("it uses the network of container %s, which could not be read just now", other)}
		case target.State != Running && target.State != Paused:
			return nil, place{why: fmt.Sprintf("it uses the network of container %s, which is %s", other, target.State)}
		}
		c = target
	}
	return nil, place{why: "its network mode leads in a circle"}
}

// onNetwork is the container's address on a network, or where the operator wants it the virtual
// one of its Swarm service.
func (b *builder) onNetwork(c, stack *Container, n Network, why string) place {
	if vip := c.Task.vip(n); b.opt.VIP && vip.IsValid() {
		at := place{reach: byOwn, stack: stack, shared: true, why: fmt.Sprintf("virtual address on network %s, %s", n.Name, why)}
		if vip.Is4() {
			at.v4 = vip
		} else {
			at.v6 = vip
		}
		return at
	}
	return place{reach: byOwn, stack: stack, v4: usable(n.IPv4), v6: usable(n.IPv6), why: fmt.Sprintf("network %s, %s", n.Name, why)}
}

// findNetwork finds a network by name or id. Swarm's ingress network is never meant: nothing but
// the routing mesh is reached there.
func findNetwork(networks []Network, nameOrID string) (Network, bool) {
	if nameOrID == "" {
		return Network{}, false
	}
	i := slices.IndexFunc(networks, func(n Network) bool {
		return (n.Name == nameOrID || n.ID == nameOrID) && reachable(n)
	})
	if i < 0 {
		return Network{}, false
	}
	return networks[i], true
}

// preferred is the network a container is reached at when nobody named one: that with the highest
// gateway priority, and of equals the first by name. Of the same networks always the same.
func preferred(networks []Network) (Network, bool) {
	var best Network
	found := false
	for _, n := range networks {
		better := n.GatewayPriority > best.GatewayPriority ||
			n.GatewayPriority == best.GatewayPriority && n.Name < best.Name
		if reachable(n) && (!found || better) {
			best, found = n, true
		}
	}
	return best, found
}

func reachable(n Network) bool {
	return !n.Ingress && (usable(n.IPv4).IsValid() || usable(n.IPv6).IsValid())
}

func networkNames(networks []Network) string {
	var names []string
	for _, n := range networks {
		if reachable(n) {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return "none with an address"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// parseAddress reads an address, or the address of a CIDR ("10.42.1.7/16"), that other machines
// can reach; the string says why it is none.
func parseAddress(s string) (netip.Addr, string) {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(s)
	if err != nil {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Addr{}, fmt.Sprintf("%q is no IP address; write for example 10.0.0.5", s)
		}
		addr = prefix.Addr()
	}
	if addr = addr.Unmap(); !usable(addr).IsValid() {
		return netip.Addr{}, fmt.Sprintf("other machines cannot reach %s; write an address of this node or container", addr)
	}
	return addr, ""
}

// usable is the address if it may stand in the catalog, else the zero address: 0.0.0.0, ::,
// loopback and multicast never lead to a container, nor does an address with a zone from elsewhere.
func usable(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" || a.Is6() && a.IsLinkLocalUnicast() {
		return netip.Addr{}
	}
	return a
}
