package catalog

import (
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
)

const (
	// hintFor is how long a service that was written is named in the hints that follow: a key holds
	// one value, and whoever reads it late finds the last.
	hintFor = 2 * time.Second

	// hintNames and hintBytes bound what one hint names: all that one transaction writes, and more.
	hintNames = 64
	hintBytes = 8 << 10

	hintRetry = 10 * time.Minute // from one refused hint to the next try
	hintPause = time.Second      // without hints, after an error that may be due to one

	// hintID stands for the hint among the units of a transaction. No service has it for an ID.
	hintID = "\x00hint"

	hintRule = `key_prefix "` + consul.HintPrefix + `" { policy = "write" }`
)

// written is a service whose rows we wrote.
type written struct {
	name string
	at   time.Time
}

// remember puts the services that are written now before those that were a moment ago: newest
// first, each once, and no more than a hint may name.
func remember(recent []written, services []string, now time.Time) []written {
	all := make([]written, 0, len(services)+len(recent))
	for _, name := range services {
		all = append(all, written{name, now})
	}
	for _, w := range recent {
		if now.Sub(w.at) < hintFor {
			all = append(all, w)
		}
	}
	named, size := map[string]bool{}, 0
	kept := all[:0]
	for _, w := range all {
		if named[w.name] || len(kept) == hintNames || size+len(w.name) > hintBytes {
			continue
		}
		named[w.name] = true
		kept, size = append(kept, w), size+len(w.name)
	}
	return kept
}

// hints are what we say of our writes to whoever follows the catalog. They are worth some
// milliseconds to him and nothing to us: none ever costs a row.
type hints struct {
	recent  []written // newest first
	until   time.Time // none is written before
	refused bool      // and people know
}

// hint is what a transaction of these rows says besides; nothing where no row is written, where
// there is no room for it, and while Consul takes none.
func (c *Client) hint(rows []unit, now time.Time) []unit {
	services, ops, size := named(rows)
	if len(services) == 0 || ops >= maxOps || size > maxBytes || rows[0].alone() || now.Before(c.hints.until) {
		return nil
	}
	h := consul.NewHint(c.opt.Node.Name, now)
	for _, w := range remember(c.hints.recent, services, now) {
		h.Add(w.name, w.at)
	}
	value, err := h.Value()
	if err != nil {
		c.refuseHint(err, now)
		return nil
	}
	return []unit{{id: hintID, ops: api.TxnOps{{KV: &api.KVTxnOp{
		Verb: api.KVSet, Key: consul.HintKey(c.opt.Node.Name), Value: value, Namespace: c.opt.Namespace, Partition: c.opt.Partition,
	}}}}}
}

// named are the services of rows, and how many operations and bytes the rows are.
func named(rows []unit) (services []string, ops, size int) {
	for _, u := range rows {
		services = append(services, u.services...)
		ops, size = ops+len(u.ops), size+u.bytes
	}
	return services, ops, size
}

// refuseHint leaves hints out for a long while and says so once.
func (c *Client) refuseHint(why error, now time.Time) {
	c.hints.until = now.Add(hintRetry)
	if c.hints.refused {
		return
	}
	c.hints.refused = true
	c.opt.Log.Warn("consul refuses to be told which services change: all rows are written, and confgen sees them some milliseconds later",
		"key", consul.HintKey(c.opt.Node.Name), "reason", why.Error(), "missing_rule", hintRule, "retry_in", hintRetry)
}

// took notes that Consul has taken rows, and a hint of them or none.
func (c *Client) took(rows, hint []unit, r *Result) {
	for _, u := range rows {
		delete(c.refused, u.id)
	}
	r.Written += len(rows)
	services, _, _ := named(rows)
	c.hints.recent = remember(c.hints.recent, services, time.Now())
	if len(hint) > 0 && c.hints.refused {
		c.hints.refused = false
		c.opt.Log.Info("consul is told again which services change", "key", consul.HintKey(c.opt.Node.Name))
	}
}
