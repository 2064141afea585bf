package health

import "fairway/registrator/service"

// follow makes a check that somebody else runs what the catalog holds of it, and reports whether
// anything is known of it at all. Whoever runs it may take its time before it asks first, and would
// have the service critical until then; so the first verdict is found out here, and handed over.
func (e *entry) follow(held service.Registration) (known bool) {
	if !e.handed {
		e.handed = true
		e.known = e.check.Status != service.Critical // CHECK_INITIAL_STATUS, or what was held when it became known
	}
	if e.fresh {
		e.fresh = false // once: what its runner says from here on counts more
		return true
	}
	if held.Meta[service.Owner] != e.owner {
		return e.known
	}
	for _, k := range held.Checks {
		if k.Kind != e.check.Kind || !k.SameWay(e.check) {
			continue
		}
		e.check.Status, e.check.Output = k.Status, k.Output
		e.known = e.known || k.Output != service.Unchecked
	}
	return e.known
}

// take is the first verdict on a check that somebody else runs.
func (e *entry) take(status service.Status, output string) {
	e.check.Status, e.check.Output = status, output
	e.known, e.fresh = true, true
}
