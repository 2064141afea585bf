package main

import (
	"net/netip"
	"strings"
	"testing"

	"fairway/registrator/catalog"
	"fairway/registrator/service"
)

func TestDecide(t *testing.T) {
	node := service.Node{Name: "app-1", IPv4: netip.MustParseAddr("10.0.0.5"), IPv6: netip.MustParseAddr("fd00::5")}
	tests := map[string]struct {
		wanted mode
		self   catalog.Self
		hidden error
		want   mode
		reason string
	}{
		"ourName":         {modeAuto, catalog.Self{Node: "app-1", Address: "10.9.9.9"}, nil, modeAgent, "this node's name"},
		"ourNameOnServer": {modeAuto, catalog.Self{Node: "app-1", Address: "10.9.9.9", Server: true}, nil, modeAgent, "this node's name"},
		"ourAddress":      {modeAuto, catalog.Self{Node: "x", Address: "10.0.0.5"}, nil, modeAgent, "this node's address"},
		"ourAddress6":     {modeAuto, catalog.Self{Node: "x", Address: "fd00::5"}, nil, modeAgent, "this node's address"},
		"serverBesideUs":  {modeAuto, catalog.Self{Node: "x", Address: "10.0.0.5", Server: true}, nil, modeCatalog, "server x (10.0.0.5)"},
		"serverElsewhere": {modeAuto, catalog.Self{Node: "x", Address: "10.0.0.1", Server: true}, nil, modeCatalog, "server x"},
		"agentElsewhere":  {modeAuto, catalog.Self{Node: "x", Address: "10.0.0.6"}, nil, modeCatalog, "client agent x"},
		"noAddress":       {modeAuto, catalog.Self{Node: "x"}, nil, modeCatalog, "client agent x"},
		"hidden":          {modeAuto, catalog.Self{}, catalog.ErrHidden, modeCatalog, "agent:read"},
		"asked":           {modeAgent, catalog.Self{Node: "x", Address: "10.0.0.1", Server: true}, nil, modeAgent, "--mode agent"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decide(test.wanted, test.self, test.hidden, node)
			if got.mode != test.want || !strings.Contains(got.reason, test.reason) {
				t.Errorf("%s, want %s because %q", got, test.want, test.reason)
			}
			if (got.mode == modeAgent) != (got.agent == test.self.Node && got.agent != "") {
				t.Errorf("agent %q", got.agent)
			}
		})
	}
}
