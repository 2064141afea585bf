package route

import "testing"

// Instances that may be gone take nothing from those that are there, whatever their age.
func TestBuild_F10_whatIsHeldYields(t *testing.T) {
	instance := func(id, address string, created uint64, held bool, meta map[string]string) Instance {
		return Instance{Node: "n", ID: id, Address: address, Port: 80, Status: Passing, Created: created, Held: held, Meta: meta}
	}
	label := map[string]string{"fairway-host": "a.test", "fairway-priority": "9"}
	old := Service{Name: "old", Instances: []Instance{instance("o", "10.0.0.1", 1, true, label)}}
	fresh := Service{Name: "fresh", Instances: []Instance{instance("f", "10.0.0.2", 9, false, map[string]string{"fairway-host": "a.test"})}}
	table := Build(Snapshot{Services: []Service{old, fresh}}, Settings{})
	if r, found := table.Match("web", "a.test", "/"); !found || r.Service != "fresh" {
		t.Errorf("the route goes to %q", r.Service)
	}
	old.Instances[0].Held = false
	table = Build(Snapshot{Services: []Service{old, fresh}}, Settings{})
	if r, _ := table.Match("web", "a.test", "/"); r.Service != "old" {
		t.Errorf("without the hold the route goes to %q", r.Service)
	}
	// Within a service, the labels of what is there decide.
	mixed := Service{Name: "mixed", Instances: []Instance{
		instance("gone", "10.0.0.1", 9, true, map[string]string{"fairway-host": "a.test,b.test"}),
		instance("here", "10.0.0.2", 1, false, map[string]string{"fairway-host": "a.test"}),
	}}
	table = Build(Snapshot{Services: []Service{mixed}}, Settings{})
	if _, found := table.Match("web", "b.test", "/"); found || len(table.Backends[0].Servers) != 2 {
		t.Errorf("labels of an instance that may be gone decide: %+v", table)
	}
}

func TestBuild_F59_panicShare(t *testing.T) {
	meta := map[string]string{"fairway-host": "a.test"}
	var s Service
	s.Name = "web"
	for i, status := range []Status{Passing, Critical, Critical, Maintenance} {
		s.Instances = append(s.Instances, Instance{Node: "n", ID: string(rune('a' + i)), Address: "10.0.0.1", Port: 80 + i, Status: status, Meta: meta})
	}
	for panicShare, ready := range map[int]int{0: 1, 33: 1, 34: 3, 100: 3} {
		table := Build(Snapshot{Services: []Service{s}}, Settings{Panic: panicShare})
		n := 0
		for _, server := range table.Backends[0].Servers {
			if server.State == Ready {
				n++
			}
		}
		if n != ready {
			t.Errorf("below %d %%: %d servers get requests, want %d", panicShare, n, ready)
		}
	}
}
