package main

import (
	"reflect"
	"slices"
	"testing"

	"fairway/confgen/certs"
	"fairway/confgen/route"
)

// A pass without anything new does not build its table again, and one with something new does,
// whatever it is.
func TestLastTable_F61_isBuiltAnewForWhatIsNewOnly(t *testing.T) {
	var last lastTable
	set := route.Settings{Prefix: "fairway"}
	store := inventory{secrets: &secrets{}}
	build := func(s route.Snapshot) route.Table {
		t.Helper()
		got := last.build(s, store, set)
		if want := route.Build(s, store.routing(set)); !reflect.DeepEqual(got, want) {
			t.Errorf("not the table of the snapshot:\n%+v\nwant\n%+v", got, want)
		}
		return got
	}
	snapshot := catalogOf("web", "api@2")
	first := build(snapshot)
	same := func(table route.Table) bool { return &table.Backends[0] == &first.Backends[0] }
	if !same(build(snapshot)) {
		t.Error("built anew for the same snapshot")
	}

	other := snapshot
	other.Services = slices.Clone(snapshot.Services)
	other.Services[0].Instances = slices.Clone(other.Services[0].Instances)
	other.Services[0].Instances[0].Port = 9999
	if same(build(other)) {
		t.Error("not built anew for another port")
	}
	first = build(snapshot)
	shorter := snapshot
	shorter.Services = snapshot.Services[:1]
	if same(build(shorter)) {
		t.Error("not built anew for a service less")
	}
	first = build(snapshot)
	live := snapshot
	live.Overrides = []route.Override{{Path: "web/weight", Value: "7"}}
	if same(build(live)) {
		t.Error("not built anew for what an operator set live")
	}
	first = build(snapshot)
	store.Contents = certs.Contents{Version: 1}
	if same(build(snapshot)) {
		t.Error("not built anew for other certificates")
	}
}

func TestLastTable_F3_anEmptyCatalogHasATableToo(t *testing.T) {
	var last lastTable
	set := route.Settings{Entrypoints: []route.Entrypoint{{Name: "web", Address: ":80"}}}
	for range 2 {
		table := last.build(route.Snapshot{}, inventory{secrets: &secrets{}}, set)
		if len(table.Entrypoints) != 1 {
			t.Errorf("%d entrypoints", len(table.Entrypoints))
		}
	}
}
