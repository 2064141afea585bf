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

// errLate says that an answer is awaited no longer by those who have other containers to look at.
var errLate = errors.New("docker does not answer")

// reading is one container being read. It outlives the pass that began it where the engine takes its
// time: a later one finds what it brought.
type reading struct {
	asked time.Time
	line  string // of the listing at that time, where there was one

	done chan struct{}

	// These are there when done is closed.
	begun stamp // what was done to the container after that, it does not show
	took  time.Duration
	doc   container.InspectResponse
	tags  []string // of the image
	err   error
}

// begin reads a container; in the background it waits until few others are being read there.
func (c *Client) begin(id, line string, background bool) *reading {
	r := &reading{asked: time.Now(), line: line, done: make(chan struct{})}
	engine := c.engine.Load()
	go func() {
		defer close(r.done)
		if background {
			select {
			case c.slots <- struct{}{}:
				defer func() { <-c.slots }()
			case <-c.closed.Done():
			}
		}
		ctx, cancel := context.WithTimeout(c.closed, inspectTimeout)
		defer cancel()
		began := time.Now()
		r.begun = c.memory.now()
		r.doc, r.tags, r.err = read(ctx, engine, id)
		r.took = time.Since(began)
		if errors.Is(r.err, context.DeadlineExceeded) {
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

// wait returns whether a reading is over. It waits until that has patience after it was asked for.
func (r *reading) wait(ctx context.Context, patience time.Duration) bool {
	rest := time.Until(r.asked.Add(patience))
	if r.over() || rest <= 0 {
		return r.over()
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.over()
}

// outdated reports whether more has happened to a container than a reading that is over shows.
func (c *Client) outdated(id string, r *reading) bool {
	return !errdefs.IsNotFound(r.err) && c.memory.changedSince(id, r.begun)
}

// ahead is what is read while the listing is still on its way: containers that events named will
// most likely have to be inspected, and their answers take as long as the listing does.
type ahead map[string]*reading

// readAhead begins to read the containers that changed (and whether they started), a few at a
// time. Only such as run are asked for: the engine answers for one that is just being started when
// that is done, and no sooner.
func (c *Client) readAhead(hot map[string]bool) ahead {
	readings := ahead{}
	for id, started := range hot {
		e := c.known[id]
		if !started && e == nil || len(readings) == inspectParallel || e != nil && e.slow {
			continue
		}
		readings[id] = c.begin(id, "", false)
	}
	return readings
}

// inspect returns what the engine says of an entry's container, which a line of the listing is about.
// One that makes others wait does so once: it is read in the background then, until its answers come
// in time again.
func (c *Client) inspect(ctx context.Context, e *entry, ahead ahead, line string) (*reading, error) {
	id, r, patience := e.container.ID, e.late, c.patience()
	if r == nil || r.over() && c.outdated(id, r) {
		if r = ahead[id]; r == nil {
			r = c.begin(id, line, e.slow)
		}
		r.line = line
	}
	if e.slow {
		patience = slowPatience
	}
	e.late = nil
	if !r.wait(ctx, patience) {
		e.late, e.slow = r, true
		return nil, fmt.Errorf("inspect container %s: %w", e.container.Name, errLate)
	}
	e.slow = r.took > inspectPatience
	if r.err != nil {
		return nil, fmt.Errorf("inspect container %s: %w", e.container.Name, r.err)
	}
	return r, nil
}

// patience is how long a pass waits for one container.
func (c *Client) patience() time.Duration {
	if c.opt.Patient {
		return inspectTimeout
	}
	return inspectPatience
}
