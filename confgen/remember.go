package main

import (
	"unsafe"

	"fairway/confgen/route"
)

// lastTable remembers the table of the last snapshot. Many a pass has nothing new to route: servers
// are to be forgotten, a reload is due, files are compared. With 50,000 instances the table is half
// of what such a pass costs, and the next change may have come meanwhile and wait for its end.
type lastTable struct {
	known    bool
	snapshot route.Snapshot // held, so that no other can come to lie where it does
	store    int            // version of the certificates that the table was built with
	table    route.Table
}

// build returns the table of a snapshot, which is the remembered one where nothing that it follows
// from is another. Snapshots are never changed once they are published, so that the same memory has
// the same content; an equal one elsewhere in memory is built anew.
func (l *lastTable) build(snapshot route.Snapshot, store inventory, set route.Settings) route.Table {
	if l.known && l.store == store.Version && sameSlice(l.snapshot.Services, snapshot.Services) && sameSlice(l.snapshot.Overrides, snapshot.Overrides) {
		return l.table
	}
	*l = lastTable{} // two snapshots of 50,000 instances are not to be held while a third comes
	table := route.Build(snapshot, store.routing(set))
	*l = lastTable{known: true, snapshot: snapshot, store: store.Version, table: table}
	return table
}

// sameSlice reports whether two slices are one, or both empty.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || unsafe.SliceData(a) == unsafe.SliceData(b))
}
