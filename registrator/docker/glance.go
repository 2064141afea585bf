package docker

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"fairway/registrator/service"
)

const (
	// glanceFor is how long glances may follow each other without a listing.
	glanceFor = time.Second
	// GlanceThen is how long after a glance the listing is due that makes up for it.
	GlanceThen = 50 * time.Millisecond
)

// Sight is what a glance was good for.
type Sight int

// The kinds of glances.
const (
	Unclear Sight = iota // events may not have told all, or one of the containers could not be read: Containers must be called
	Still                // events told of nothing, or of a container that is only about to start
	Clear                // the Listing is complete as far as events go
)

// Glance tells what runs from what was listed last and from the containers that events have named
// since, and asks the engine for these alone: a start is acted upon sooner by what a listing takes.
// It is less than Containers, which also finds what no event told, so Listing.Again asks for a
// look soon, and a glance is Unclear when there was no listing for too long. Nothing is known from one
// that is not Clear.
func (c *Client) Glance(ctx context.Context) (Listing, Sight) {
	now := time.Now()
	if !c.glances.IsZero() && now.Sub(c.glances) > glanceFor {
		return Listing{}, Unclear
	}
	read, hot, sure := c.memory.glance(c.listed)
	if !sure {
		return Listing{}, Unclear
	}
	for id := range hot {
		if e := c.known[id]; e != nil && e.pace != prompt {
			return Listing{}, Unclear // it is not waited for
		}
	}
	ahead := c.readAhead(hot)
	if len(ahead) == 0 {
		return Listing{}, Still
	}
	if c.glances.IsZero() {
		c.glances = now
	}
	var hurry hurry
	sure = true
	for id := range ahead { // all are being read: that one is unclear is no reason to lose the others
		sure = c.glanceAt(ctx, id, ahead, read, &hurry) && sure
	}
	if !sure {
		return Listing{}, Unclear
	}
	l := c.listing(time.Now())
	l.lookAgain(GlanceThen)
	return l, Clear
}

// glanceAt brings one container up to date, as a listing and its inspect would. It returns false
// where that takes more than the inspect. One that cannot be read stays as it was last known.
func (c *Client) glanceAt(ctx context.Context, id string, ahead ahead, read stamp, hurry *hurry) bool {
	known := c.known[id]
	e := &entry{container: service.Container{ID: id, Name: id, State: service.Unknown}}
	if known != nil {
		*e = *known
	}
	r, err := c.inspect(ctx, e, ahead, "", hurry)
	switch {
	case errdefs.IsNotFound(err):
		delete(c.known, id)
		return true
	case err != nil:
		e.fail(err, read)
		if known != nil || e.late != nil {
			c.known[id] = e // what is still under way is found there
		}
		return known != nil
	case !c.knowsNetworks(r.doc):
		return false
	}
	c.take(e, r) // what the listing says of it is not known, so that the next one has it read again
	if e.listed {
		c.known[id] = e
	} else {
		delete(c.known, id)
	}
	return true
}

// knowsNetworks reports whether it is known which of a Swarm task's networks are the routing mesh.
func (c *Client) knowsNetworks(doc container.InspectResponse) bool {
	if doc.Config.Labels[taskID] == "" {
		return true
	}
	for _, n := range doc.NetworkSettings.Networks {
		if n == nil {
			continue
		}
		if _, seen := c.ingress[n.NetworkID]; !seen {
			return false
		}
	}
	return true
}
