package route_test

import (
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"testing"

	"fairway/confgen/route"
)

// TestServerIDs wants numbers that are unique in a backend, that HAProxy's hashing can tell
// apart, and that a server keeps when others come and go (but for the rare pair whose hashes
// meet). With 3,000 names some meet for certain.
func TestServerIDs(t *testing.T) {
	build := func(n int) map[string]int {
		s := route.Service{Name: "web"}
		for i := range n {
			s.Instances = append(s.Instances, route.Instance{
				Node: "n", ID: fmt.Sprint(i), Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), Port: 80,
				Status: route.Passing, Meta: map[string]string{"fairway-host": "a.test"},
			})
		}
		ids, taken := make(map[string]int), make(map[int]string)
		for _, server := range route.Build(route.Snapshot{Services: []route.Service{s}}, route.Settings{}).Backends[0].Servers {
			if other := taken[server.ID]; other != "" || server.ID < 1 || server.ID > 1<<20-1 {
				t.Fatalf("%s has id %d, like %q", server.Name, server.ID, other)
			}
			ids[server.Name], taken[server.ID] = server.ID, server.Name
		}
		return ids
	}
	few, many := build(1000), build(3000)
	if len(few) != 1000 || len(many) != 3000 {
		t.Fatalf("%d and %d servers", len(few), len(many))
	}
	moved := 0
	for name, id := range maps.All(few) {
		if many[name] != id {
			moved++
		}
	}
	if moved > 5 {
		t.Errorf("%d of 1,000 servers got another id when others came", moved)
	}
}

// TestBuildLeavesSnapshot wants the snapshot as it was: it is shared with others.
func TestBuildLeavesSnapshot(t *testing.T) {
	b := route.Instance{Node: "b", ID: "b", Address: "10.0.0.2", Port: 80, Status: route.Passing, Tags: []string{"z", "fairway.host=b.test"}}
	a := route.Instance{Node: "a", ID: "a", Address: "10.0.0.1", Port: 80, Status: route.Passing, Tags: []string{"y", "fairway.host=b.test"}}
	s := route.Snapshot{Services: []route.Service{{Name: "z", Instances: []route.Instance{b, a}}, {Name: "a", Instances: []route.Instance{a}}}}
	table := route.Build(s, route.Settings{})
	if s.Services[0].Name != "z" || s.Services[0].Instances[0].ID != "b" || b.Tags[0] != "z" {
		t.Errorf("the snapshot was sorted: %v", s)
	}
	if table.Entrypoints[0] != (route.Entrypoint{Name: "web", Port: 80}) || len(table.Backends) != 2 {
		t.Errorf("%+v", table)
	}
}

// TestBackendIDs wants numbers that follow from the name alone, and none for two names that would
// have the same.
func TestBackendIDs(t *testing.T) {
	twins := sameNumber(t)
	numbers := func(names ...string) map[string]int {
		var s route.Snapshot
		for i, name := range names {
			s.Services = append(s.Services, route.Service{Name: name, Instances: []route.Instance{{
				ID: name, Node: "n", Address: "192.0.2.1", Port: 80, Status: route.Passing, Created: uint64(i), Meta: map[string]string{"fairway-host": name + ".test"},
			}}})
		}
		got := map[string]int{}
		for _, b := range route.Build(s, route.Settings{}).Backends {
			got[b.Name] = b.ID
		}
		return got
	}
	alone := numbers("web")["web"]
	if alone < 1 || alone > 1<<31-1 {
		t.Errorf("the number of web is %d", alone)
	}
	for _, others := range [][]string{{"api", "zoo"}, {"zoo", "api"}, twins} {
		if got := numbers(append([]string{"web"}, others...)...); got["web"] != alone {
			t.Errorf("beside %s the number of web is %d and not %d", others, got["web"], alone)
		}
	}
	got := numbers("web", twins[0], twins[1])
	if got[twins[0]] != 0 || got[twins[1]] != 0 {
		t.Errorf("%s would have the same number, and have %d and %d", twins, got[twins[0]], got[twins[1]])
	}
	if one := numbers(twins[0])[twins[0]]; one == 0 {
		t.Errorf("%s has no number where it is alone", twins[0])
	}
}

// sameNumber finds two names whose hashes are the same.
func sameNumber(t *testing.T) []string {
	t.Helper()
	names := map[uint32]string{}
	for i := range 1 << 20 {
		name := "s" + strconv.Itoa(i*7919)
		h := fnv.New32a()
		_, _ = h.Write([]byte(name))
		at := h.Sum32() % (1<<31 - 1)
		if other, taken := names[at]; taken {
			return []string{other, name}
		}
		names[at] = name
	}
	t.Fatal("no two of a million names have the same number")
	return nil
}
