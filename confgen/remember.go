package main

import (
	"unsafe"

	"fairway/confgen/route"
)

// lastTable remembers the table of the last snapshot, and what it was made of. Many a pass has
// nothing new to route: servers are to be forgotten, a reload is due, files are compared. Most others
// have one service that is not what it was.
type lastTable struct {
	builder  *route.Incremental
	known    bool
	snapshot route.Snapshot // held, so that no other can come to lie where it does
	store    int            // version of the certificates that the table was built with
	table    route.Table
}

// build returns the table of a snapshot, which is the remembered one where nothing that it follows
// from is another. Snapshots are never changed once they are published, so that the same memory has
// the same content; an equal one elsewhere in memory is built anew.
func (l *lastTable) build(snapshot route.Snapshot, store inventory, set route.Settings) route.Table {
	if l.builder == nil || l.store != store.Version {
		*l = lastTable{builder: route.NewIncremental(store.routing(set)), store: store.Version}
	}
	if !l.known || !sameSlice(l.snapshot.Services, snapshot.Services) || !sameSlice(l.snapshot.Overrides, snapshot.Overrides) {
		l.known, l.snapshot, l.table = true, snapshot, l.builder.Build(snapshot)
	}
	return l.table
}

// sameSlice reports whether two slices are one, or both empty.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || unsafe.SliceData(a) == unsafe.SliceData(b))
}
