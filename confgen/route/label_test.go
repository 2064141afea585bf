package route_test

import (
	"maps"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway/confgen/route"
	"fairway/registrator/service" //nolint:depguard // A test of what they say to each other in Consul.
)

// TestParity_labelsArrive takes every key, with each of its values, the way from a container's
// label through registrator to a table, which must be that of the row that the tests above write
// by hand: what they and ../render show of a key holds for its label.
func TestParity_labelsArrive(t *testing.T) {
	for key, e := range parity {
		for _, value := range e.values {
			meta := metaOf(key, value, "host", "a.test")
			row := registered(t, meta)
			for _, proxy := range []route.Proxy{route.HAProxy, route.Nginx} {
				byHand, byLabel := tableOf(meta, proxy), tableOf(row.Meta, proxy)
				if !reflect.DeepEqual(byHand, byLabel) {
					t.Errorf("fairway.%s=%s on %s: a label's table is another one; the row: %s", key, value, proxy, cmp.Diff(meta, row.Meta))
				}
			}
		}
	}
}

// tableOf is the table of one row.
func tableOf(meta map[string]string, proxy route.Proxy) route.Table {
	return route.Build(route.Snapshot{Services: []route.Service{serving("self", meta)}}, paritySettings(proxy))
}

// registered is the row of a container with labels that stand in meta as meta has them.
func registered(t *testing.T, meta map[string]string) service.Registration {
	t.Helper()
	labels := map[string]string{}
	for _, key := range append(route.Vocabulary(), "host") {
		if value, ok := meta["fairway-"+strings.ReplaceAll(key, ".", "-")]; ok {
			labels["fairway."+key] = value
		}
	}
	if len(labels) != len(meta) {
		t.Fatalf("%d labels for %v", len(labels), meta)
	}
	opt := service.Defaults()
	opt.Node = service.Node{Name: "n", IPv4: netip.MustParseAddr("10.0.0.1")}
	plan := service.Desired([]service.Container{{
		ID: strings.Repeat("a", 64), Name: "self", Image: "self", Labels: labels, State: service.Running, NetworkMode: "bridge",
		Ports: []service.Port{{Number: 8080, Protocol: "tcp", Bindings: []service.Binding{{IP: netip.IPv4Unspecified(), Port: 80}}}},
	}}, opt)
	if len(plan.Registrations) != 1 || len(plan.Problems) > 0 {
		t.Fatalf("%v: %+v, problems %v", labels, plan.Registrations, plan.Problems)
	}
	row := plan.Registrations[0]
	row.Meta = maps.Clone(row.Meta)
	delete(row.Meta, service.Owner)
	return row
}
