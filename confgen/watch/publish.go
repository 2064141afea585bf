package watch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// publishWithin bounds how long services that are still being read hold up those that have been:
// long enough for hundreds that changed together to be shown together, short enough that one whose
// answer does not come holds up nobody for long. An isolated change waits for nothing.
const publishWithin = 500 * time.Millisecond

// settleTime is how long hundreds of services that are followed one by one must be quiet: when
// many change together, each tells it by itself.
const settleTime = 5 * time.Millisecond

// unsettled reports whether more may come of what changed a moment ago.
func (k *keeper) unsettled(now time.Time) bool {
	return k.mode == HTTP2 && k.changed && now.Sub(k.touchedAt) < settleTime
}

// heldUntil returns when a change is shown that is held up now; zero for none.
func (k *keeper) heldUntil(now time.Time) time.Time {
	limit := k.changedAt.Add(k.watcher.opt.publishWithin)
	switch settled := k.touchedAt.Add(settleTime); {
	case !k.changed:
		return time.Time{}
	case k.unsettled(now) && (k.latest == nil || settled.Before(limit)):
		return settled
	case k.latest == nil || !limit.After(now):
		return time.Time{}
	}
	return limit
}

// publish makes a View of what is known when that is complete, believed and new.
func (k *keeper) publish(now time.Time) {
	if !k.ready() || k.missing > 0 {
		return
	}
	if k.losses.due(now) {
		k.touch()
	}
	busy := len(k.queue)+k.reading+k.silent > 0 || k.unsettled(now)
	if busy && (k.latest == nil || !k.changed || now.Sub(k.changedAt) < k.watcher.opt.publishWithin) {
		return
	}
	k.freshAt = now
	if !k.changed {
		k.confirm(k.latest.Snapshot, now)
		return
	}
	known, since := k.known()
	next := k.snapshot()
	if !k.guard.believes(known, next, k.hidden(), now) {
		k.restore("the catalog is empty")
		return
	}
	k.changed = false
	next = k.losses.look(known, next, len(next.Services) == 0, since, now)
	if k.latest != nil && sameSnapshot(k.latest.Snapshot, next) {
		k.confirm(next, now)
		return
	}
	k.show(View{Snapshot: next, Time: now})
}

// hidden reports whether the catalog keeps services from us. A token without any rights sees a
// catalog without even the service "consul", which every datacenter has; Consul tells only other
// tokens that rows were left out.
func (k *keeper) hidden() bool { return k.polls[pollServices].filtered || k.inCatalog == 0 }

// snapshot returns the routed services, sorted.
func (k *keeper) snapshot() route.Snapshot {
	out := route.Snapshot{Services: []route.Service{}, Overrides: k.overrides.list}
	for _, s := range k.services {
		if len(s.instances) > 0 {
			out.Services = append(out.Services, route.Service{Name: s.name, Instances: s.instances})
		}
	}
	slices.SortFunc(out.Services, func(a, b route.Service) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// known returns what the guards compare with: what is shown, else what the file remembers, and
// how long ago it was true, as far as this process did not see it itself.
func (k *keeper) known() (known route.Snapshot, age time.Duration) {
	switch {
	case k.latest != nil && !k.latest.Restored:
		return k.latest.Snapshot, 0
	case k.latest != nil:
		return k.latest.Snapshot, time.Since(k.latest.Time)
	case k.store != nil && k.store.restored != nil:
		return k.store.restored.Snapshot, time.Since(k.store.restored.Time)
	}
	return route.Snapshot{}, 0
}

// show publishes v under the next version.
func (k *keeper) show(v View) {
	if k.latest != nil {
		v.Version = k.latest.Version
	}
	v.Version++
	k.latest = &v
	k.watcher.latest.Store(&v)
	if k.store != nil && !v.Restored {
		k.store.restored = nil
		k.store.confirm(v.Time)
		k.store.wake.Now()
	}
	k.watcher.opt.Changed()
}

// confirm notes that what is shown, which may have come from the file, is what Consul says. What
// came from the file is let go: the same is in memory as it was read.
func (k *keeper) confirm(same route.Snapshot, now time.Time) {
	if k.store != nil {
		k.store.confirm(now)
	}
	if !k.latest.Restored {
		return
	}
	v := *k.latest
	v.Restored, v.Time, v.Snapshot = false, now, same
	k.latest, k.store.restored = &v, nil
	k.watcher.latest.Store(&v)
	k.store.wake.Now() // nothing is restored without a store
	k.watcher.opt.Changed()
}

// restore shows what the file remembers, when nothing has been shown yet.
func (k *keeper) restore(reason string) {
	if k.latest != nil || k.store == nil || k.store.restored == nil {
		return
	}
	v := *k.store.restored
	k.log.Warn("using the saved snapshot", "reason", reason, "file", k.store.path, "age", time.Since(v.Time).Round(time.Second).String())
	k.show(v)
}

// guard disbelieves a catalog that has become empty.
type guard struct {
	grace time.Duration
	log   hclog.Logger
	since time.Time // when the catalog became empty; zero when it is not
	held  string    // why; "" when nothing is held

	approved bool // an operator says that it is true
}

// believes reports whether next may replace known. Losing the last routed instance is believed
// after grace, and not at all while ACLs hide rows: a token that was revoked is no reason to
// send everyone away.
func (g *guard) believes(known, next route.Snapshot, hidden bool, now time.Time) bool {
	if len(next.Services) > 0 || (len(known.Services) == 0 && !hidden) {
		g.release("the catalog has routed services again")
		return true
	}
	if g.since.IsZero() {
		g.since = now
		g.held = "the catalog has lost every routed service"
		if hidden {
			g.held = "ACLs hide services and no routed one is left"
		}
		g.log.Warn("not believed, keeping the last good state", "reason", g.held, "grace", g.grace.String())
	}
	if !g.approved && (hidden || now.Before(g.since.Add(g.grace))) {
		return false
	}
	why := "after the grace time"
	if g.approved {
		why = "approved"
	}
	g.log.Warn("believed", "reason", g.held, "because", why)
	g.since, g.held, g.approved = time.Time{}, "", false
	return true
}

func (g *guard) release(why string) {
	if g.held != "" {
		g.log.Info("last good state no longer held", "reason", why)
	}
	g.since, g.held, g.approved = time.Time{}, "", false
}

// until returns when a held answer is believed; zero when none is held or only an answer can
// change that.
func (g *guard) until() time.Time {
	if g.since.IsZero() || time.Now().After(g.since.Add(g.grace)) {
		return time.Time{}
	}
	return g.since.Add(g.grace)
}

// sameSnapshot reports whether two sorted snapshots mean the same.
func sameSnapshot(a, b route.Snapshot) bool {
	return slices.Equal(a.Overrides, b.Overrides) && slices.EqualFunc(a.Services, b.Services, func(x, y route.Service) bool {
		return x.Name == y.Name && same(x.Instances, y.Instances)
	})
}

// same reports whether two sorted lists of instances mean the same.
func same(a, b []route.Instance) bool {
	if len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] {
		return true // not read again
	}
	return slices.EqualFunc(a, b, sameInstance)
}

func sameInstance(a, b route.Instance) bool {
	return a.Node == b.Node && a.ID == b.ID && a.Address == b.Address && a.Port == b.Port &&
		a.Weight == b.Weight && a.Status == b.Status && a.Created == b.Created && a.Held == b.Held && a.Owner == b.Owner &&
		slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}
