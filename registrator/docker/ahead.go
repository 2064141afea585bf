package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// Answers are awaited no longer by those who have other containers to look at.
var (
	errLate = errors.New("docker does not answer")
	errBusy = fmt.Errorf("%w", errLate) // with so many that it was not even asked about another
)

// reading is one container being read. It outlives the pass that began it where the engine takes its
// time: the next one finds what it brought.
type reading struct {
	begun stamp // what is done to the container after that, it does not show
	done  chan struct{}

	doc  container.InspectResponse // these are there when done is closed
	tags []string                  // of the image
	err  error
}

// begin reads a container.
func (c *Client) begin(ctx context.Context, id string, begun stamp) *reading {
	r := &reading{begun: begun, done: make(chan struct{})}
	engine := c.engine.Load()
	c.reading.Add(1)
	go func() {
		defer close(r.done)
		defer c.reading.Add(-1)
		limited, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		r.doc, r.tags, r.err = read(limited, engine, id)
		if errors.Is(r.err, context.DeadlineExceeded) && ctx.Err() == nil {
			r.err = errLate
		}
	}()
	return r
}

// read asks the engine for a container and, where an image may be named by its bare id, for its tags.
func read(ctx context.Context, engine *client.Client, id string) (doc container.InspectResponse, tags []string, err error) {
	if doc, err = engine.ContainerInspect(ctx, id); err != nil {
		return doc, nil, err
	}
	if doc.ContainerJSONBase == nil || doc.State == nil || doc.Config == nil || doc.HostConfig == nil || doc.NetworkSettings == nil {
		return doc, nil, errors.New("the document is incomplete")
	}
	if !maybeID(doc.Config.Image) {
		return doc, nil, nil
	}
	image, err := engine.ImageInspect(ctx, doc.Image)
	switch {
	case errdefs.IsNotFound(err): // the image was removed by force under its container: it has no tag
		return doc, nil, nil
	case err != nil:
		return doc, nil, fmt.Errorf("its image: %w", err)
	}
	return doc, image.RepoTags, nil
}

// over reports whether a reading is over.
func (r *reading) over() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// wait returns whether a reading is over after patience at the latest.
func (r *reading) wait(ctx context.Context, patience time.Duration) bool {
	if r.over() || patience == 0 {
		return r.over()
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.over()
}

// ahead is what is read while the listing is still on its way: containers that events named will
// most likely have to be inspected, and their answers take as long as the listing does.
type ahead map[string]*reading

// readAhead begins to read the containers that changed (and whether they started), a few at a
// time. Only such as run are asked for: the engine answers for one that is just being started when
// that is done, and no sooner.
func (c *Client) readAhead(ctx context.Context, hot map[string]bool, begun stamp) ahead {
	readings := ahead{}
	for id, started := range hot {
		e := c.known[id]
		if !started && e == nil || len(readings) == inspectParallel || e != nil && e.late != nil {
			continue
		}
		readings[id] = c.begin(ctx, id, begun)
	}
	return readings
}

// inspect returns what the engine says of an entry's container. One that makes others wait does so
// once: it is read in the background then, a few at a time, until its answers come in time again.
func (c *Client) inspect(ctx context.Context, e *entry, ahead ahead, now stamp) (*reading, error) {
	id, r, patience := e.container.ID, e.late, c.patience()
	if e.slow {
		patience = 0
	}
	e.late = nil
	if r == nil || r.over() && r.err == nil && !c.memory.fresh(id, r.begun) {
		r = ahead[id]
		if r == nil && e.slow && c.reading.Load() >= inspectParallel {
			return nil, fmt.Errorf("inspect container %s: %w", e.container.Name, errBusy)
		}
		if r == nil {
			r = c.begin(ctx, id, now)
		}
	}
	if !r.wait(ctx, patience) {
		e.late, e.slow = r, true
		return nil, fmt.Errorf("inspect container %s: %w", e.container.Name, errLate)
	}
	if r.err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", e.container.Name, r.err)
	}
	e.slow = false
	return r, nil
}

// patience is how long a pass waits for one container.
func (c *Client) patience() time.Duration {
	if c.opt.Patient {
		return inspectTimeout
	}
	return inspectPatience
}
