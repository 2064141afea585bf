package swarm

import (
	"net/netip"
	"testing"
	"time"

	"fairway/registrator/service"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// known is what the directory says of a task of service s1: "-" for nothing, "guess", else its host.
func known(d *Directory, at time.Time) (string, time.Duration) {
	list := []service.Container{
		{ID: "plain"}, {ID: "c1", Task: service.Task{ID: "t1", ServiceID: "s1", ServiceName: "web"}},
	}
	again := d.Fill(list, at)
	if list[0].Task.Service != nil {
		return "a container that is no task got a service", 0
	}
	switch s := list[1].Task.Service; {
	case s == nil:
		return "-", again
	case s.Guess != "":
		return "guess", again
	default:
		return s.Labels["fairway.host"], again
	}
}

func expect(t *testing.T, d *Directory, at time.Duration, want string, wait time.Duration) {
	t.Helper()
	if got, again := known(d, t0.Add(at)); got != want || again != wait {
		t.Errorf("at %s: %q, again in %s; want %q, %s", at, got, again, want, wait)
	}
}

func services(id, host string) map[string]*service.SwarmService {
	return map[string]*service.SwarmService{id: {ID: id, Labels: map[string]string{"fairway.host": host}}}
}

func TestDirectory_C111_unknownIsNotEmpty(t *testing.T) {
	d := NewDirectory()
	expect(t, d, 0, "-", patience) // Consul has not answered yet
	expect(t, d, patience-1, "-", 1)
	expect(t, d, patience, "guess", 0)
	d.SetShared(services("other", "x.test"), t0)
	expect(t, d, patience, "guess", 0) // somebody shares, and not this
	if !d.SetShared(services("s1", "a.test"), t0) || d.SetShared(services("s1", "a.test"), t0) {
		t.Error("what is news is not told, or told twice")
	}
	expect(t, d, 2*patience, "a.test", 0)

	// The key goes with the service, whose tasks are still stopping, or by a slip.
	d.SetShared(services("other", "x.test"), t0)
	expect(t, d, time.Hour, "a.test", 0)
	d.Fill(nil, t0) // the task has ended
	expect(t, d, time.Hour, "-", patience)
}

// TestDirectory_C111_nobodyShares: on a Swarm whose managers run no registrator only the first tasks
// after a start wait, for the manager that may just be starting, too.
func TestDirectory_C111_nobodyShares(t *testing.T) {
	d := NewDirectory()
	d.SetShared(map[string]*service.SwarmService{}, t0)
	expect(t, d, time.Second, "-", patience-time.Second)
	expect(t, d, patience, "", 0) // a service that says nothing, and no guess
	d.Fill(nil, t0)
	expect(t, d, time.Hour, "", 0)
}

// TestDirectory_C114 promotes and demotes: what a manager's engine says comes first, and a role that is
// lost loses nothing.
func TestDirectory_C114_managerAndWorker(t *testing.T) {
	d := NewDirectory()
	d.SetNode(false, "")
	d.SetShared(services("s1", "a.test"), t0)
	d.SetLocal([]service.SwarmService{{ID: "s1", Labels: map[string]string{"fairway.host": "new.test"}}})
	expect(t, d, 0, "new.test", 0)
	d.SetShared(services("s1", "new.test"), t0)
	if !d.SetLocal(nil) {
		t.Error("a demotion is no news")
	}
	expect(t, d, 0, "new.test", 0)

	never := NewDirectory() // a manager that could not share
	never.SetShared(map[string]*service.SwarmService{}, t0)
	never.SetLocal([]service.SwarmService{{ID: "s1", Labels: map[string]string{"fairway.host": "a.test"}}})
	expect(t, never, 0, "a.test", 0)
	never.SetLocal(nil)
	expect(t, never, time.Hour, "a.test", 0)

	alone := NewDirectory() // an image made from a task's container carries its labels
	alone.SetNode(true, "")
	expect(t, alone, 0, "", 0)
}

func TestDirectory_C108_meshOfThisSwarmOnly(t *testing.T) {
	on := func(id, network string) service.SwarmService {
		return service.SwarmService{
			ID: id, Name: id, Mesh: []service.Publication{{Target: 80, Published: 8080, Protocol: "tcp"}},
			VIPs: []service.VIP{{Network: network, Addr: netip.MustParseAddr("10.0.0.2")}},
		}
	}
	ours, theirs := on("s1", "mesh"), on("s2", "another mesh")
	opt := service.Options{Ingress: service.ByNode}
	d := NewDirectory()
	d.SetShared(map[string]*service.SwarmService{"s1": &ours, "s2": &theirs}, t0)
	if list := d.Mesh(nil, opt); len(list) != 1 || list[0].State != service.Unknown {
		t.Errorf("before the engine said which mesh is ours: %+v", list)
	}
	d.SetNode(false, "mesh")
	if list := d.Mesh(nil, opt); len(list) != 1 || list[0].Name != "s1" {
		t.Errorf("%+v", list)
	}
	if list := d.Mesh(nil, service.Options{Ingress: service.ByTask}); len(list) != 0 {
		t.Errorf("unasked: %+v", list)
	}
	d.SetNode(false, "") // the mesh was removed, or never made
	if list := d.Mesh(nil, opt); len(list) != 0 {
		t.Errorf("without a mesh: %+v", list)
	}
}
