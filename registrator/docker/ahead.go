package docker

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// ahead is what is read while the listing is still on its way: containers that events named will
// most likely have to be inspected, and their answers take as long as the listing does.
type ahead map[string]*reading

// reading is one inspect under way.
type reading struct {
	done chan struct{}
	doc  container.InspectResponse
	err  error
}

// readAhead begins to inspect the containers that changed (and whether they started), a few at a
// time. Only such as run are asked for: the engine answers for one that is just being started when
// that is done, and no sooner.
func (c *Client) readAhead(ctx context.Context, hot map[string]bool) ahead {
	readings := ahead{}
	engine := c.engine.Load()
	for id, started := range hot {
		if !started && c.known[id] == nil || len(readings) == inspectParallel {
			continue
		}
		r := &reading{done: make(chan struct{})}
		readings[id] = r
		go func() {
			defer close(r.done)
			ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
			defer cancel()
			r.doc, r.err = engine.ContainerInspect(ctx, id)
		}()
	}
	return readings
}

// inspect returns what was read ahead, or asks now.
func (a ahead) inspect(ctx context.Context, engine *client.Client, id string) (container.InspectResponse, error) {
	r := a[id]
	if r == nil {
		return engine.ContainerInspect(ctx, id)
	}
	<-r.done // bounded by its own timeout
	return r.doc, r.err
}

// wait returns when nothing is under way any more.
func (a ahead) wait() {
	for _, r := range a {
		<-r.done
	}
}
