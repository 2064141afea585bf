package watch

import (
	"context"
	"time"

	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
)

const pollHints = "kv/" + consul.HintPrefix

// hints are what registrators say of their last changes.
type hints struct {
	seen map[string]uint64    // index by key; nil before the first answer
	last map[string]time.Time // the time of each node's last hint
	err  error                // why they cannot be read now
}

// pollHints follows what registrators say. Nothing waits for it: a service that no hint names, or
// whose hint was overwritten, is found by the other polls and the sweep.
func (w *Watcher) pollHints(ctx context.Context) error {
	query := func(q *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
		pairs, meta, err := w.opt.Client.KV().List(consul.HintPrefix, q)
		if err == nil {
			err = trusted(meta)
		}
		return pairs, meta, err
	}
	opt := consul.WatchOptions{Failed: func(err error, _ time.Duration) {
		w.tell(ctx, func(k *keeper) { k.hintsFailed(err) })
	}}
	return consul.Watch(ctx, query, opt, func(pairs api.KVPairs, _ *api.QueryMeta) {
		w.tell(ctx, func(k *keeper) { k.hinted(pairs) })
	})
}

// hinted has the services read that hints name which are new.
func (k *keeper) hinted(pairs api.KVPairs) {
	first := k.hints.seen == nil
	seen := make(map[string]uint64, len(pairs))
	last := k.hints.last
	if first {
		last = map[string]time.Time{}
	}
	for _, pair := range pairs {
		seen[pair.Key] = pair.ModifyIndex
		if k.hints.seen[pair.Key] == pair.ModifyIndex {
			continue
		}
		hint, err := consul.ReadHint(pair.Value)
		if err != nil {
			k.log.Debug("no hint", "key", pair.Key, "err", err)
			continue
		}
		names := hint.After(last[hint.Node])
		last[hint.Node] = hint.Time
		if first {
			continue
		}
		k.counts.Hints++
		for _, name := range names {
			if s := k.services[name]; s != nil && !s.shows(pair.ModifyIndex) {
				k.want(name)
			}
		}
	}
	if k.hints.err != nil {
		k.log.Info("hints of registrators can be read again")
	}
	k.hints = hints{seen: seen, last: last}
}

func (k *keeper) hintsFailed(err error) {
	if k.hints.err == nil && refused(err) {
		k.log.Warn("hints of registrators cannot be read, changes are found a little later", "prefix", consul.HintPrefix, "err", err)
	}
	k.hints.err = err
}

// telling reports whether registrators can be expected to name what they change.
func (h *hints) telling() bool { return h.err == nil && len(h.seen) > 0 }
