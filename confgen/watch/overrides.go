package watch

import (
	"context"
	"errors"
	"slices"
	"strings"

	"fairway/confgen/route"

	"github.com/hashicorp/consul/api"
)

// overrides is what operators set live, as far as it may be read.
type overrides struct {
	list []route.Override // sorted
	err  error            // why it cannot be read now
}

var errOverridesHidden = errors.New("ACLs hide every value that was visible before; what was set last stays")

// pollOverrides follows what operators set live. It is one small long poll, and its answers are
// all there is to read.
func (w *Watcher) pollOverrides(ctx context.Context) error {
	return poll(ctx, w, pollOverrides, func(q *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
		return w.opt.Client.KV().List(route.OverridePrefix, q)
	}, (*keeper).overridden)
}

// overridden takes in what operators set. A token that sees nothing any more is no reason to
// forget it.
func (k *keeper) overridden(pairs api.KVPairs) {
	list := make([]route.Override, 0, len(pairs))
	for _, pair := range pairs {
		path := strings.TrimPrefix(pair.Key, route.OverridePrefix)
		if path == "" || strings.HasSuffix(path, "/") {
			continue // a folder, which Consul's own user interface makes
		}
		list = append(list, route.Override{Path: path, Value: string(pair.Value)})
	}
	if len(list) == 0 && len(k.overrides.list) > 0 && k.polls[pollOverrides].filtered {
		k.overridesRefused(errOverridesHidden)
		return
	}
	if k.overrides.err != nil {
		k.log.Info("overrides can be read again")
	}
	slices.SortFunc(list, func(a, b route.Override) int { return strings.Compare(a.Path, b.Path) })
	changed := !slices.Equal(list, k.overrides.list)
	k.overrides = overrides{list: list}
	if changed {
		k.touch()
	}
}

// overridesRefused goes on without overrides that may not be read, or with those that were set
// last: unknown is not empty, and it is no reason to stop routing either.
func (k *keeper) overridesRefused(err error) {
	if k.overrides.err == nil {
		k.log.Warn("overrides cannot be read, keeping what was known", "prefix", route.OverridePrefix, "err", err)
	}
	k.overrides.err = err
	if len(k.overrides.list) == 0 && k.latest == nil && k.store != nil && k.store.restored != nil {
		k.overrides.list = k.store.restored.Snapshot.Overrides
	}
	p := k.polls[pollOverrides]
	p.answered, p.err = true, nil
	k.pollErr = k.firstPollErr()
}
