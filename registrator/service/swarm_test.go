package service

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDiff_C111_aGuessChangesNothingKnown: rows that were made with the labels of their Swarm
// service stay, names and routes and all, where these are only guessed now; their status follows.
func TestDiff_C111_aGuessChangesNothingKnown(t *testing.T) {
	task := func(service *SwarmService, health Health) []Container {
		return []Container{{
			ID: "0123456789abcdef", Name: "web.1.k2x", State: Running, Health: health,
			Task:  Task{ID: "k2x", Name: "web.1.k2x", ServiceID: "s1", ServiceName: "web", Service: service},
			Ports: []Port{{Number: 80, Protocol: "tcp", Bindings: []Binding{{IP: netip.IPv4Unspecified(), Port: 8080}}}},
		}}
	}
	opt := Defaults()
	opt.Node = Node{Name: "n", IPv4: netip.MustParseAddr("192.0.2.1")}
	known := &SwarmService{ID: "s1", Labels: map[string]string{"SERVICE_ID": "mine", "fairway.host": "a.test"}}
	guess := &SwarmService{ID: "s1", Guess: "why"}
	rows := Desired(task(known, Healthy), opt).Registrations

	for what, unsure := range map[string]*SwarmService{"nothing known yet": nil, "guessed": guess} {
		if c := Diff(rows, Desired(task(unsure, Healthy), opt)); !c.Empty() {
			t.Errorf("%s: %+v", what, c)
		}
	}
	changes := Diff(rows, Desired(task(guess, Unhealthy), opt))
	want := rows[0]
	want.Status, want.Output = Critical, "unhealthy"
	if diff := cmp.Diff([]Registration{want}, changes.Put); diff != "" || len(changes.Delete) > 0 {
		t.Errorf("unhealthy while guessed: deleted %v, put (-want +got):\n%s", changes.Delete, diff)
	}

	// What was only guessed before is nothing to keep: it is as the container says, and gives way.
	guessed := Desired(task(guess, Healthy), opt).Registrations
	if guessed[0].Meta[MetaGuess] == "" || guessed[0].ID != "n:web.1.k2x:80" {
		t.Fatalf("guessed %+v", guessed[0])
	}
	if c := Diff(guessed, Desired(task(guess, Unhealthy), opt)); len(c.Put) != 1 || c.Put[0].Meta[MetaGuess] == "" {
		t.Errorf("from guess to guess: %+v", c)
	}
	c := Diff(guessed, Desired(task(known, Healthy), opt))
	if len(c.Put) != 1 || c.Put[0].ID != "mine" || len(c.Delete) != 1 {
		t.Errorf("from guess to knowledge: %+v", c)
	}
	if c := Diff(nil, Desired(task(nil, Healthy), opt)); !c.Empty() {
		t.Errorf("a new task does not wait: %+v", c)
	}
}

// TestMesh_C108_unknownIsNotEmpty: rows of the routing mesh stay as long as no list of services was
// read, and go when the list says so.
func TestMesh_C108_unknownIsNotEmpty(t *testing.T) {
	opt := Defaults()
	opt.Node, opt.Ingress = Node{Name: "n", IPv4: netip.MustParseAddr("192.0.2.1")}, ByNode
	web := SwarmService{ID: "s1xxxxxxx", Name: "web", Mesh: []Publication{{Target: 80, Published: 8080, Protocol: "tcp"}}}
	rows := Desired(Mesh([]SwarmService{web}, true), opt).Registrations
	if len(rows) != 1 || rows[0].ID != "n:web:80" || rows[0].Port != 8080 {
		t.Fatalf("rows %+v", rows)
	}
	if c := Diff(rows, Desired(Mesh(nil, false), opt)); !c.Empty() {
		t.Errorf("nothing known: %+v", c)
	}
	if c := Diff(rows, Desired(Mesh(nil, true), opt)); len(c.Delete) != 1 || len(c.Put) != 0 {
		t.Errorf("no services: %+v", c)
	}
	web.Stopped = true
	if c := Diff(rows, Desired(Mesh([]SwarmService{web}, true), opt)); len(c.Delete) != 1 || len(c.Put) != 0 {
		t.Errorf("C112 scaled to 0: %+v", c)
	}
}

// TestDiff_C108_sharedRowsWaitForWhatIsPublished: the row that stands for all tasks of a service on
// this node bears the mark of one of them. Should that one have ended while nothing is known of the
// service, as after a start, the row stays as long as another runs here.
func TestDiff_C108_sharedRowsWaitForWhatIsPublished(t *testing.T) {
	task := func(n string, service *SwarmService) Container {
		return Container{
			ID: n + "123456789abcdef", Name: "web." + n, State: Running, NetworkMode: "default",
			Task:  Task{ID: n, Name: "web." + n, ServiceID: "s1", ServiceName: "web", Service: service},
			Ports: []Port{{Number: 80, Protocol: "tcp"}},
		}
	}
	opt := Defaults()
	opt.Node = Node{Name: "n", IPv4: netip.MustParseAddr("192.0.2.1")}
	known := &SwarmService{ID: "s1", Name: "web", Mesh: []Publication{{Target: 80, Published: 8080, Protocol: "tcp"}}}
	rows := Desired([]Container{task("1", known), task("2", known)}, opt).Registrations
	if len(rows) != 1 || rows[0].ID != "n:web:80" || marked(rows[0].Meta[Owner]) != "1123456789ab" {
		t.Fatalf("rows %+v", rows)
	}
	other := Registration{ID: "n:web-admin:80", Name: "x", Meta: map[string]string{Owner: "ffffffffffff:80/tcp"}}
	for what, unsure := range map[string]*SwarmService{"nothing known yet": nil, "guessed": {ID: "s1", Guess: "why"}} {
		c := Diff(append(rows, other), Desired([]Container{task("2", unsure)}, opt))
		if len(c.Put) != 0 || !slices.Equal(c.Delete, []string{other.ID}) {
			t.Errorf("%s: put %+v, deleted %v", what, c.Put, c.Delete)
		}
	}
	c := Diff(rows, Desired([]Container{task("2", known)}, opt))
	if len(c.Put) != 1 || c.Put[0].ID != rows[0].ID || len(c.Delete) != 0 {
		t.Errorf("known again: %+v", c)
	}
	if c := Diff(rows, Desired(nil, opt)); len(c.Delete) != 1 {
		t.Errorf("no task is left: %+v", c)
	}
}
