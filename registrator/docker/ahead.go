package docker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
)

// errLate says that an answer is awaited no longer by those who have other containers to look at.
var errLate = errors.New("docker does not answer")

// pace is how fast the engine answered for a container when it was last asked.
type pace int

const (
	prompt  pace = iota // others can wait for it
	slow                // it made others wait
	hanging             // it did not answer at all
)

// lane is where containers of one pace are read in the background, few at a time: those that answer do
// not queue behind those that never do.
type lane chan struct{}

func newLanes() map[pace]lane {
	lanes := map[pace]lane{}
	for p := prompt; p <= hanging; p++ {
		lanes[p] = make(lane, inspectParallel)
	}
	return lanes
}

// reading is one container being read. It outlives the pass that began it where the engine takes its
// time: its end wakes a later one, which finds what it brought.
type reading struct {
	asked   time.Time
	line    string      // of the listing at that time, where there was one
	givenUp atomic.Bool // nobody waits for it, so that its end is news

	done chan struct{}

	// These are there when done is closed.
	begun stamp // what was done to the container after that, it does not show
	took  time.Duration
	doc   container.InspectResponse
	tags  []string // of the image
	err   error
}

// begin reads a container, when the lane has room; at once where there is none.
func (c *Client) begin(id, line string, lane lane) *reading {
	r := &reading{asked: time.Now(), line: line, done: make(chan struct{})}
	go func() {
		if lane != nil {
			select {
			case lane <- struct{}{}:
				defer func() { <-lane }()
			case <-c.closed.Done():
			}
		}
		ctx, cancel := context.WithTimeout(c.closed, inspectTimeout)
		defer cancel()
		began := time.Now()
		r.begun = c.memory.now()
		r.doc, r.tags, r.err = read(ctx, c.engine.Load(), id)
		r.took = time.Since(began)
		if errors.Is(r.err, context.DeadlineExceeded) {
			r.err = errLate
		}
		close(r.done)
		if r.givenUp.Load() && c.opt.Late != nil {
			c.opt.Late()
		}
	}()
	return r
}

// pace is what a reading that is over says of its container.
func (r *reading) pace() pace {
	switch {
	case errors.Is(r.err, errLate):
		return hanging
	case r.took > inspectPatience:
		return slow
	}
	return prompt
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
	if rest := time.Until(r.asked.Add(patience)); !r.over() && rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-r.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if r.over() {
		return true // and its end is no news
	}
	r.givenUp.Store(true)
	return r.over() // asked again, so that either this or its end sees the other
}

// outdated reports whether more has happened to a container than a reading that is over shows, by events
// or by its line in the listing.
func (c *Client) outdated(id, line string, r *reading) bool {
	return c.memory.changedSince(id, r.begun) || r.line != "" && line != "" && r.line != line
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
		if !started && e == nil || len(readings) == inspectParallel || e != nil && e.pace != prompt {
			continue
		}
		readings[id] = c.begin(id, "", nil)
	}
	return readings
}

// hurry is that of a pass that has waited for one container in vain: it has a moment for each that
// follows, or it would take as many seconds as there are such.
type hurry struct{ atomic.Bool }

// inspect returns what the engine says of an entry's container, which a line of the listing is about.
// One that makes others wait does so once: it is read in the background then, until its answers come
// in time again. An answer that came late and is not the newest any more is thrown away, but not twice in a
// row: of a container to which something happens all the time nothing would be known.
func (c *Client) inspect(ctx context.Context, e *entry, ahead ahead, line string, hurry *hurry) (*reading, error) {
	id := e.container.ID
	if r := e.late; r != nil {
		if !r.over() {
			return nil, errLate
		}
		behind := c.outdated(id, line, r)
		e.late, e.pace = nil, r.pace()
		if !behind || e.overtaken && r.err == nil {
			e.overtaken, e.behind = false, behind
			return r, r.err
		}
		if e.overtaken = true; r.err != nil {
			e.err, e.failed = r.err, true
		}
	}
	patience, lane := c.patience(e, hurry)
	r := ahead[id]
	if r == nil {
		r = c.begin(id, line, lane)
	}
	r.line = line
	if r.wait(ctx, patience) {
		e.pace, e.overtaken, e.behind = r.pace(), false, false
		return r, r.err
	}
	if lane == nil {
		hurry.Store(true)
	}
	e.late, e.pace = r, max(e.pace, slow)
	return nil, errLate
}

// patience is how long a pass waits for one container, and where that is read while it does not.
func (c *Client) patience(e *entry, hurry *hurry) (time.Duration, lane) {
	switch {
	case c.opt.Patient:
		return inspectTimeout, nil
	case e.pace != prompt || hurry.Load():
		return slowPatience, c.lanes[e.pace]
	}
	return inspectPatience, nil
}
