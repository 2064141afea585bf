package route_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/confgen/route/routetest"

	"github.com/google/go-cmp/cmp"
)

// world is a catalog that changes at random, in few enough words that services often meet: they want
// the same hosts, share containers, groups and names of backends, ask each other for leave, and are
// overridden.
type world struct {
	*rand.Rand
	snapshot route.Snapshot
	created  uint64
}

var worldLabels = []func(w *world, meta map[string]string){
	func(w *world, meta map[string]string) { meta["fairway-host"] = w.host() },
	func(w *world, meta map[string]string) { meta["fairway-host"] = w.host() + ", " + w.host() },
	func(w *world, meta map[string]string) { meta["fairway-path"] = w.pick("/", "/api", "=/x", "~^/v[0-9]") },
	func(w *world, meta map[string]string) { meta["fairway-api-host"] = w.host() },
	func(w *world, meta map[string]string) { meta["fairway-port"] = w.pick("80", "443", "x") },
	func(w *world, meta map[string]string) { meta["fairway-api-port"] = w.pick("80", "443") },
	func(w *world, meta map[string]string) { meta["fairway-group"] = w.pick("blue", "green") },
	func(w *world, meta map[string]string) { meta["fairway-share"] = w.pick("10", "90") },
	func(w *world, meta map[string]string) { meta["fairway-forward-auth"] = "http://" + w.name() + "/ask" },
	func(w *world, meta map[string]string) { meta["fairway-mirror"] = w.name() },
	func(w *world, meta map[string]string) { meta["fairway-redirect-from"] = w.host() },
	func(w *world, meta map[string]string) { meta["fairway-tls"] = w.pick("on", "redirect", "only", "off") },
	func(w *world, meta map[string]string) { meta["fairway-client-ca"] = w.pick("one", "two") },
	func(w *world, meta map[string]string) { meta["fairway-priority"] = w.pick("1", "5") },
	func(w *world, meta map[string]string) { meta["fairway-methods"] = w.pick("GET", "POST") },
	func(w *world, meta map[string]string) { meta["fairway-balance"] = w.pick("leastconn", "nonsense") },
	func(w *world, meta map[string]string) { meta["fairway-tcp"] = w.pick("5432", "5433") },
	func(w *world, meta map[string]string) { meta["fairway-instance"] = w.pick("edge-1", "edge-2", "*") },
	func(_ *world, meta map[string]string) { meta["fairway-hots"] = "a.test" },
}

func (w *world) pick(words ...string) string { return words[w.IntN(len(words))] }
func (w *world) host() string                { return w.pick("a.test", "b.test", "*.test", "~^v[0-9]+\\.", "c.test") }

// name is one of a service, of which some make the same name of a backend.
func (w *world) name() string {
	return w.pick("a", "A", "a/b", "b", "b.from", "b.api", "c", "blue", "a-c40bf6cc")
}

func (w *world) meta() map[string]string {
	meta := map[string]string{"fairway-host": w.host()}
	for range w.IntN(4) {
		worldLabels[w.IntN(len(worldLabels))](w, meta)
	}
	return meta
}

func (w *world) instance(i int, meta map[string]string) route.Instance {
	w.created++
	in := route.Instance{
		Node: w.pick("n1", "n2"), ID: fmt.Sprintf("i%d", i), Address: fmt.Sprintf("10.0.0.%d", w.IntN(5)), Port: w.IntN(3),
		Status:  route.Status(w.pick("passing", "passing", "warning", "critical", "maintenance")),
		Created: w.created, Held: w.IntN(10) == 0, Meta: map[string]string{},
	}
	maps.Copy(in.Meta, meta)
	if w.IntN(2) == 0 {
		in.Owner = w.pick("c0ffee", "decade", "facade") + ":" + w.pick("80", "443") + "/" + w.pick("tcp", "tcp", "udp")
	}
	return in
}

// change makes one service another, or takes it away, or has an operator change something. What is
// published is left as it was.
func (w *world) change() {
	w.snapshot.Services = slices.Clone(w.snapshot.Services)
	name := w.name()
	at := slices.IndexFunc(w.snapshot.Services, func(s route.Service) bool { return s.Name == name })
	switch {
	case w.IntN(6) == 0:
		w.snapshot.Overrides = nil
		for range w.IntN(3) {
			w.snapshot.Overrides = append(w.snapshot.Overrides, route.Override{
				Path: w.name() + "/" + w.pick("", "", "i0/") + w.pick("weight", "host", "maintenance", "group", "mirror"), Value: w.pick("5", "a.test", "true", "blue", "b"),
			})
		}
	case at >= 0 && w.IntN(4) == 0:
		at = w.IntN(len(w.snapshot.Services))
		w.snapshot.Services = slices.Delete(w.snapshot.Services, at, at+1)
	default:
		fresh := route.Service{Name: name}
		meta := w.meta()
		for i := range w.IntN(4) {
			if w.IntN(4) == 0 {
				meta = w.meta()
			}
			fresh.Instances = append(fresh.Instances, w.instance(i, meta))
		}
		if at >= 0 && w.IntN(10) > 0 {
			w.snapshot.Services[at] = fresh
		} else {
			w.snapshot.Services = append(w.snapshot.Services, fresh) // twice under one name, now and then
		}
	}
}

func (w *world) settings() route.Settings {
	set := route.Settings{
		Entrypoints: []route.Entrypoint{{Name: "web", Port: 80}, {Name: "websecure", Port: 443, TLS: true}},
		TCPPorts:    []route.PortRange{{From: 5432, To: 5432}},
	}
	if w.IntN(2) == 0 {
		set.Certificates = &route.Certificates{
			List:        []route.Certificate{{Name: "a", Hosts: []string{"a.test"}, NotAfter: time.Unix(1, 0)}},
			Authorities: []string{"one", "two"},
		}
	}
	return set
}

// Whatever changed since the last table, the next one is what a Build that remembers nothing makes.
func TestIncremental_F61_isWhatBuildMakes(t *testing.T) {
	worlds := 100
	if testing.Short() {
		worlds = 20
	}
	var reused int
	for seed := range worlds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			w := &world{Rand: rand.New(rand.NewPCG(uint64(seed), 1))}
			set := w.settings()
			m := route.NewIncremental(set)
			for step := range 40 {
				w.change()
				got, want := m.Build(w.snapshot), route.Build(w.snapshot, set)
				if d := cmp.Diff(want, got, cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
					t.Fatalf("after change %d (-from nothing +incremental):\n%s", step, d)
				}
			}
			reused += m.Reused()
			if m.Build(route.Snapshot{}); m.Remembered() > 0 {
				t.Errorf("%d things are remembered of an empty catalog", m.Remembered())
			}
		})
	}
	if reused < worlds {
		t.Errorf("only %d services were reused, so that little is proved", reused)
	}
}

// A table that somebody still reads does not change under them.
func TestIncremental_leavesEarlierTablesAlone(t *testing.T) {
	for seed := range 40 {
		w := &world{Rand: rand.New(rand.NewPCG(uint64(seed), 2))}
		set := w.settings()
		m := route.NewIncremental(set)
		var tables, wanted []route.Table
		for range 20 {
			w.change()
			tables, wanted = append(tables, m.Build(w.snapshot)), append(wanted, route.Build(w.snapshot, set))
		}
		for i := range tables {
			if d := cmp.Diff(wanted[i], tables[i], cmp.Exporter(func(reflect.Type) bool { return true })); d != "" {
				t.Fatalf("seed %d: table %d has changed (-was +is):\n%s", seed, i, d)
			}
		}
	}
}

// One change among thousands costs its own service.
func TestIncremental_worksOutOneService(t *testing.T) {
	s := routetest.Large(100, 3)
	m := route.NewIncremental(route.Settings{})
	m.Build(s)
	before := m.Reused()
	s.Services = slices.Clone(s.Services)
	s.Services[7].Instances = slices.Clone(s.Services[7].Instances)
	s.Services[7].Instances[0].Port++
	m.Build(s)
	if n := m.Reused() - before; n != 99 {
		t.Errorf("%d of 99 services were reused", n)
	}
}
