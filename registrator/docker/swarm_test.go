package docker

import (
	"net/netip"
	"testing"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway/registrator/service"
)

// TestSwarm_C111 asks as a worker, as a manager, and as one whose Swarm has lost its leader.
func TestSwarm_C111(t *testing.T) {
	f := newFakeEngine(t)
	c := f.client(Options{})
	if s, err := c.Swarm(t.Context()); err != nil || !s.Member || s.Manager {
		t.Errorf("as a worker: %+v, %v", s, err)
	}
	f.with(func() { f.swarm = `{"NodeID":""}` })
	if s, err := c.Swarm(t.Context()); err != nil || s.Member || s.Manager {
		t.Errorf("outside a Swarm: %+v, %v", s, err)
	}
	f.with(func() {
		f.swarm = `{"NodeID":"node","ControlAvailable":true,"Cluster":{"ID":"c1"}}`
		f.services = `[{"ID":"s2","Spec":{"Name":"api","Mode":{"Replicated":{"Replicas":0}}}},
			{"ID":"s1","Spec":{"Name":"web","Labels":{"fairway.host":"a.test"},"Mode":{"Replicated":{"Replicas":2}}},
			"Endpoint":{"Spec":{"Mode":"vip"},
				"Ports":[{"Protocol":"udp","TargetPort":53,"PublishedPort":5353,"PublishMode":"ingress"},
					{"Protocol":"tcp","TargetPort":80,"PublishedPort":30000,"PublishMode":"ingress"},
					{"Protocol":"tcp","TargetPort":81,"PublishedPort":8081,"PublishMode":"host"},
					{"Protocol":"tcp","TargetPort":82,"PublishMode":"ingress"}],
				"VirtualIPs":[{"NetworkID":"n2","Addr":"10.0.1.2/24"},{"NetworkID":"n1"},{"NetworkID":"n0","Addr":"10.0.0.2/24"}]}}]`
	})
	want := Swarm{Member: true, Manager: true, ID: "c1", Services: []service.SwarmService{
		{
			ID: "s1", Name: "web", Labels: map[string]string{"fairway.host": "a.test"},
			Mesh: []service.Publication{{Target: 53, Published: 5353, Protocol: "udp"}, {Target: 80, Published: 30000, Protocol: "tcp"}},
			VIPs: []service.VIP{{Network: "n0", Addr: netip.MustParseAddr("10.0.0.2")}, {Network: "n2", Addr: netip.MustParseAddr("10.0.1.2")}},
		},
		{ID: "s2", Name: "api", Stopped: true},
	}}
	s, err := c.Swarm(t.Context())
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("as a manager: %v, -want +got:\n%s", err, diff)
	}
	for what, info := range map[string]string{
		"without a leader":           `{"NodeID":"node","LocalNodeState":"active","ControlAvailable":true,"Error":"no leader"}`,
		"so on newer engines":        `{"NodeID":"node","LocalNodeState":"active","ControlAvailable":true,"Cluster":{"ID":""},"Error":"no leader"}`,
		"locked":                     `{"NodeID":"","LocalNodeState":"locked","Error":"Swarm is encrypted and needs to be unlocked"}`,
		"whose Swarm part has ended": `{"NodeID":"","LocalNodeState":"error","Error":"certificate has expired"}`,
		"just starting":              `{"NodeID":"","LocalNodeState":"pending"}`,
	} {
		f.with(func() { f.swarm = info })
		if s, err := c.Swarm(t.Context()); err == nil || !s.Member || s.Manager {
			t.Errorf("%s: %+v, %v", what, s, err)
		}
	}
	f.with(func() { f.swarm = `{"NodeID":"","LocalNodeState":"inactive"}` })
	if s, err := c.Swarm(t.Context()); err != nil || s.Member {
		t.Errorf("after it left: %+v, %v", s, err)
	}
}

func TestRoutingMesh(t *testing.T) {
	f := newFakeEngine(t)
	c := f.client(Options{})
	if id, err := c.RoutingMesh(t.Context()); id != "" || err != nil {
		t.Errorf("outside a Swarm: %q, %v", id, err)
	}
	f.with(func() { f.networks = []network.Summary{{ID: "n0", Name: "x"}, {ID: "n1", Name: "mesh", Ingress: true}} })
	if id, err := c.RoutingMesh(t.Context()); id != "n1" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	f.with(func() { f.down = true })
	if _, err := c.RoutingMesh(t.Context()); err == nil {
		t.Error("no error while the engine is away")
	}
}

// TestWatch_C111_servicesWake: what happens to services and nodes asks for a look at the Swarm, and
// for none at the containers; the creation of a container for neither.
func TestWatch_C111_servicesWake(t *testing.T) {
	f := newFakeEngine(t)
	a := f.add("a", "10000")
	c := f.client(Options{})
	looks := make(chan struct{}, 100)
	woken := f.watch(c, func(o *WatchOptions) { o.Swarm = func() { looks <- struct{}{} } })
	await(t, looks) // the connection
	for _, m := range []events.Message{
		{Type: events.ServiceEventType, Action: events.ActionCreate, Actor: events.Actor{ID: "s1"}},
		{Type: events.ServiceEventType, Action: events.ActionUpdate, Actor: events.Actor{ID: "s1"}},
		{Type: events.ServiceEventType, Action: events.ActionRemove, Actor: events.Actor{ID: "s1"}},
		{Type: events.NodeEventType, Action: events.ActionUpdate, Actor: events.Actor{ID: "n1"}},
	} {
		f.emit(m)
		await(t, looks)
	}
	f.emit(containerEvent(events.ActionCreate, "b"))
	f.emit(containerEvent(events.ActionPause, a))
	await(t, woken)
	if len(woken) > 0 || len(looks) > 0 {
		t.Errorf("%d wakes and %d looks too many", len(woken), len(looks))
	}
}
