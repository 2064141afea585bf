package proxy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Workers that are replaced hand on what their clients still ask, where a configuration provides for
// it, as the default one does: a backend "_…-next" with the server "next", which is the worker that
// comes after. It is used when that server has a weight of more than one: whether there will be such
// a worker, HAProxy cannot tell, and a stop for good is not to turn away anybody sooner than it must.
const successor = "next"

// announceWithin is how long a reload waits for that at most: a worker that hangs is to be replaced.
const announceWithin = 500 * time.Millisecond

// announce tells the running worker that it is about to be replaced, or that it is not after all. It
// is no reason not to reload when that fails: requests are then answered by the old worker, as far
// as its servers still run.
func (d *haproxyDriver) announce(ctx context.Context, t tree, replaced bool) {
	if d.StatsSocket == "" || d.mute != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, announceWithin)
	defer cancel()
	weight := 1
	if replaced {
		weight = 2
	}
	for _, b := range d.config(t).Backends {
		if !strings.HasPrefix(b.Name, "_") || !strings.HasSuffix(b.Name, "-"+successor) || !slices.Contains(b.Fixed, successor) {
			continue
		}
		if err := d.weigh(ctx, b.Name, weight); err != nil {
			d.log.Debug("worker does not know who comes after it", "backend", b.Name, "err", err) // It is new.
		}
	}
}

func (d *haproxyDriver) weigh(ctx context.Context, backend string, weight int) error {
	conn, err := d.stats.Worker(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // Nothing is lost with it.
	_, err = conn.Do(ctx, fmt.Sprintf("set server %s/%s weight %d", backend, successor, weight))
	return err
}
