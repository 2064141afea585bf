package main

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"fairway/internal/consul"
	"fairway/registrator/docker"
)

func TestLocate(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	swarm := docker.Node{Name: "node-1", SwarmAddr: netip.MustParseAddr("10.1.2.3")}
	for name, c := range map[string]struct {
		opt     Options
		engine  docker.Node
		want    string // IPv4 address; empty for an error
		wantErr string
	}{
		"given address":               {Options{IP: "192.168.1.102"}, swarm, "192.168.1.102", ""},
		"given template":              {Options{IP: `{{ printf "192.168.1.103" }}`}, swarm, "192.168.1.103", ""},
		"swarm":                       {Options{}, swarm, "10.1.2.3", ""},
		"C51 loopback is never given": {Options{IP: "127.0.1.1"}, swarm, "", "no address that other machines can reach"},
		"loopback interface":          {Options{IP: "lo"}, swarm, "", "no address that other machines can reach"},
		"no such interface":           {Options{IP: "eth77"}, swarm, "", "nor an interface"},
		"CIDR of nobody":              {Options{IP: "203.0.113.0/24"}, swarm, "", "no address that other machines can reach"},
		"broken template":             {Options{IP: "{{ nope }}"}, swarm, "", "-ip {{ nope }}"},
		"unspecified":                 {Options{IP: "0.0.0.0"}, swarm, "", "no address"},
		"C50 engine elsewhere":        {Options{}, docker.Node{Name: hostname + "-not"}, "", "-ip ADDRESS"},
		"swarm on loopback elsewhere": {Options{}, docker.Node{Name: hostname + "-not", SwarmAddr: netip.MustParseAddr("127.0.0.1")}, "", "-ip ADDRESS"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s, err := locate(t.Context(), c.opt, c.engine)
			switch {
			case c.want == "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
				t.Errorf("error %v, want one with %q", err, c.wantErr)
			case c.want != "" && (err != nil || s.Node.IPv4.String() != c.want):
				t.Errorf("address %s, %v; want %s", s.Node.IPv4, err, c.want)
			}
		})
	}
}

func TestLocate_nodeName_C104(t *testing.T) {
	engine := docker.Node{Name: "docker-host", SwarmAddr: netip.MustParseAddr("10.1.2.3")}
	if s, err := locate(t.Context(), Options{}, engine); err != nil || s.Node.Name != "docker-host" {
		t.Errorf("node %q, %v", s.Node.Name, err)
	}
	if s, err := locate(t.Context(), Options{NodeName: "mine"}, engine); err != nil || s.Node.Name != "mine" {
		t.Errorf("node %q, %v", s.Node.Name, err)
	}
}

// TestLocate_C51_route holds on any machine: the route gives an address that others can reach, or
// registrator refuses to start.
func TestLocate_C51_route(t *testing.T) {
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Consul: consul.Config{Addresses: []string{"127.0.0.1:8500"}}}
	s, err := locate(t.Context(), opt, docker.Node{Name: hostname})
	switch {
	case err != nil && !strings.Contains(err.Error(), "-ip ADDRESS"):
		t.Errorf("error %v", err)
	case err == nil && !reachable(s.Node.IPv4) && !reachable(s.Node.IPv6):
		t.Errorf("addresses %s, %s", s.Node.IPv4, s.Node.IPv6)
	}
}

func TestHostPort(t *testing.T) {
	for address, want := range map[string]string{
		"10.0.0.1":                  "10.0.0.1:8500",
		"10.0.0.1:80":               "10.0.0.1:80",
		"https://consul.test:8501/": "consul.test:8501",
		"[2001:db8::1]":             "[2001:db8::1]:8500",
	} {
		if got := hostPort(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
