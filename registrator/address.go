package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	sockaddr "github.com/hashicorp/go-sockaddr/template"

	"fairway/internal/consul"
	"fairway/registrator/docker"
	"fairway/registrator/service"
)

// Addresses that need not exist: a UDP socket connected to them tells which source address the
// default route gives, and sends nothing.
const (
	anywhere4 = "192.0.2.1:9"
	anywhere6 = "[2001:db8::1]:9"
)

// locate fills in who and where this node is. It fails when the address other machines reach it
// at cannot be known (C50).
func locate(ctx context.Context, opt Options, engine docker.Node) (service.Options, error) {
	s := opt.Service
	s.Node.Name = opt.NodeName
	if s.Node.Name == "" {
		s.Node.Name = engine.Name
	}
	var found []netip.Addr
	var err error
	switch {
	case opt.IP != "":
		found, err = addressesOf(opt.IP)
		s.AddressFrom = "-ip " + opt.IP
		if len(found) == 1 {
			s.IP = found[0]
		}
	case reachable(engine.SwarmAddr):
		found, s.AddressFrom = []netip.Addr{engine.SwarmAddr}, "Swarm's node address"
	default:
		found, s.AddressFrom, err = routeSources(ctx, opt.Consul, engine)
	}
	if err != nil {
		return s, err
	}
	for _, a := range found {
		switch {
		case a.Is4() && !s.Node.IPv4.IsValid():
			s.Node.IPv4 = a
		case a.Is6() && !s.Node.IPv6.IsValid():
			s.Node.IPv6 = a
		}
	}
	return s, nil
}

// reachable reports whether other machines can use an address at all: never 0.0.0.0, loopback or
// link-local.
func reachable(a netip.Addr) bool { return a.IsValid() && a.IsGlobalUnicast() }

// addressesOf reads -ip: an address, an interface's name, a CIDR or a go-sockaddr template.
func addressesOf(ip string) ([]netip.Addr, error) {
	if strings.Contains(ip, "{{") {
		out, err := sockaddr.Parse(ip)
		if err != nil {
			return nil, fmt.Errorf("-ip %s: %w", ip, err)
		}
		return usable(ip, strings.Fields(out))
	}
	if prefix, err := netip.ParsePrefix(ip); err == nil {
		all, err := net.InterfaceAddrs()
		if err != nil {
			return nil, fmt.Errorf("-ip %s: %w", ip, err)
		}
		return usable(ip, texts(all, prefix))
	}
	if _, err := netip.ParseAddr(ip); err == nil {
		return usable(ip, []string{ip})
	}
	device, err := net.InterfaceByName(ip)
	if err != nil {
		return nil, fmt.Errorf("-ip %s: neither an address, a CIDR, a template nor an interface of this machine", ip)
	}
	all, err := device.Addrs()
	if err != nil {
		return nil, fmt.Errorf("-ip %s: %w", ip, err)
	}
	return usable(ip, texts(all, netip.Prefix{}))
}

// texts lists interface addresses that lie in a prefix; all of them when it is zero.
func texts(addrs []net.Addr, in netip.Prefix) []string {
	var list []string
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && (!in.IsValid() || in.Contains(p.Addr())) {
			list = append(list, p.Addr().String())
		}
	}
	return list
}

// usable keeps the first address of each family that others can reach; none is an error.
func usable(ip string, candidates []string) ([]netip.Addr, error) {
	var list []netip.Addr
	families := map[bool]bool{}
	for _, text := range candidates {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("-ip %s: gives %q, which is no address", ip, text)
		}
		a = a.Unmap()
		if reachable(a) && !families[a.Is4()] {
			families[a.Is4()] = true
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("-ip %s: gives no address that other machines can reach (found: %s)", ip, strings.Join(candidates, " "))
	}
	return list, nil
}

var errNoAddress = errors.New("the address other machines reach this node at cannot be found out: give it with -ip ADDRESS, INTERFACE or CIDR")

// routeSources finds the addresses this machine would send from: to Consul, or where that is on
// this machine, anywhere. It is no answer when the engine is on another machine, or when
// registrator is in a network of its own: then the engine's host name is not ours.
func routeSources(ctx context.Context, cfg consul.Config, engine docker.Node) ([]netip.Addr, string, error) {
	if host, err := os.Hostname(); err != nil || host != engine.Name {
		return nil, "", fmt.Errorf("registrator is not on the network of Docker's host %s: %w", engine.Name, errNoAddress)
	}
	var found []netip.Addr
	from := "the default route"
	for _, address := range cfg.Addresses {
		if a := sourceTo(ctx, "udp", hostPort(address)); reachable(a) {
			found, from = append(found, a), "the route to Consul"
			break
		}
	}
	for _, address := range []string{anywhere4, anywhere6} {
		if a := sourceTo(ctx, "udp", address); reachable(a) {
			found = append(found, a) // the first of a family counts
		}
	}
	if len(found) == 0 {
		return nil, "", errNoAddress
	}
	return found, from, nil
}

// hostPort is what can be dialled in a Consul address; a unix socket has nothing.
func hostPort(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		rest = scheme
	}
	rest, _, _ = strings.Cut(rest, "/")
	rest = rest[strings.LastIndexByte(rest, '@')+1:] // a user and password
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return net.JoinHostPort(strings.Trim(rest, "[]"), "8500")
	}
	return rest
}

// sourceTo is the address a packet to address would leave from; zero when there is no route.
func sourceTo(ctx context.Context, network, address string) netip.Addr {
	conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return netip.Addr{} // no route is an answer here
	}
	defer conn.Close()
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
