package catalog

import (
	"slices"

	"fairway/registrator/service"
)

// Blind reports whether changes could overwrite a row that somebody else has written since we looked.
// A transaction does not, but rows with tagged addresses cannot be part of one.
func (o Observed) Blind(changes service.Changes) bool {
	return o.Remembered && slices.ContainsFunc(changes.Put, func(row service.Registration) bool {
		return len(row.Addresses) > 0 && !slices.ContainsFunc(o.Rows, func(r service.Registration) bool { return r.ID == row.ID })
	})
}

// After returns what the catalog holds once changes to it were written with a result, as if it
// had been read again, but for what others may have done. It is not known for certain where Consul
// refused something, of an agent, and where others may set the tags of our rows, of which nobody is told.
func (o Observed) After(changes service.Changes, r Result) (after Observed, certain bool) {
	if !o.Lasting || len(r.Refused) > 0 {
		return Observed{}, false
	}
	replaced := make(map[string]bool, len(changes.Put)+len(changes.Delete))
	for _, row := range changes.Put {
		replaced[row.ID] = true
	}
	for _, id := range changes.Delete {
		replaced[id] = true
	}
	rows := make([]service.Registration, 0, len(o.Rows)+len(changes.Put))
	for _, row := range o.Rows {
		if !replaced[row.ID] {
			rows = append(rows, row)
		}
	}
	rows = append(rows, changes.Put...)
	if slices.ContainsFunc(rows, func(row service.Registration) bool { return row.Owned() && row.EnableTagOverride }) {
		return Observed{}, false
	}
	o.Rows, o.NodeChange, o.exists, o.Remembered = rows, "", true, true
	return o, true
}
