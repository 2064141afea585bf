package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/reconcile"
	"fairway/registrator/catalog"
	"fairway/registrator/service"
)

// oldAgent is the agent that holds the rows to adopt, where that is not the one we register with. It
// is asked beside the passes: however long its answers take, what stops meanwhile is written
// without delay.
type oldAgent struct {
	client  *api.Client
	hosts   []string
	changed func() // told when there is something new to judge
	wake    reconcile.Wake
	log     hclog.Logger

	silent  bool              // it does not answer, which has been told
	refused map[string]string // by ID, what was told of a row that it does not let go

	mu    sync.Mutex
	left  []service.Registration // as it said last; sorted
	known bool                   // that is what it says now
	done  []string               // rows that nobody needs any more, says the last pass
}

func newOldAgent(client *api.Client, hosts []string, changed func(), log hclog.Logger) *oldAgent {
	return &oldAgent{client: client, hosts: hosts, changed: changed, wake: reconcile.NewWake(), log: log, refused: map[string]string{}}
}

// run asks after every pass until ctx ends, and again and again while there is no answer.
func (o *oldAgent) run(ctx context.Context) error {
	return reconcile.Loop(ctx, o.wake, reconcile.Options{
		Interval: 100 * time.Millisecond, Burst: 4, RetryMin: time.Second, RetryMax: time.Minute,
		Failed: func(err error, _ time.Duration) { o.away(err) },
	}, o.look)
}

// away is told once, whichever of the requests fails first from now on.
func (o *oldAgent) away(err error) {
	if !o.silent {
		o.log.Warn("cannot adopt the rows of gliderlabs/registrator, trying again and again", "err", err)
	}
	o.silent = true
}

// back is told when it answers again.
func (o *oldAgent) back() {
	if o.silent {
		o.log.Info("the rows of gliderlabs/registrator can be adopted again")
	}
	o.silent = false
}

// rows are those that it held when it last answered; none before.
func (o *oldAgent) rows() []service.Registration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left
}

// release says which rows nobody needs any more, in the place of what was said before.
func (o *oldAgent) release(ids []string) {
	o.mu.Lock()
	o.done = ids
	o.mu.Unlock()
	o.wake.Now()
}

// next takes one of the released rows.
func (o *oldAgent) next() (id string, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.done) == 0 {
		return "", false
	}
	id, o.done = o.done[0], o.done[1:]
	return id, true
}

// look reads what is there and removes what is released. A row whose removal is refused stays until
// a pass releases it again. An error means that the agent does not answer; what was
// released till then is judged anew when it does.
func (o *oldAgent) look(ctx context.Context) error {
	left, err := o.clear(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		o.known, o.done = false, nil
		return err
	}
	o.back()
	news := !o.known || !slices.EqualFunc(o.left, left, func(a, b service.Registration) bool { return a.ID == b.ID && a.Status == b.Status })
	o.left, o.known = left, true
	if news {
		o.changed()
	}
	return nil
}

// clear removes the released rows and returns those that are left.
func (o *oldAgent) clear(ctx context.Context) ([]service.Registration, error) {
	left, err := catalog.Left(ctx, o.client)
	if err != nil {
		return nil, err
	}
	left = slices.DeleteFunc(left, func(r service.Registration) bool {
		_, _, ours := service.Legacy(r.ID, o.hosts)
		return !ours || r.Owned()
	})
	slices.SortFunc(left, func(a, b service.Registration) int { return strings.Compare(a.ID, b.ID) })
	for id, ok := o.next(); ok; id, ok = o.next() {
		err := catalog.Deregister(ctx, o.client, id)
		if _, refused := errors.AsType[api.StatusError](err); refused {
			o.stays(id, err)
			continue
		}
		if err != nil {
			return nil, err // the others would wait for the same
		}
		delete(o.refused, id)
		left = slices.DeleteFunc(left, func(r service.Registration) bool { return r.ID == id })
	}
	return left, nil
}

// stays tells once of a row that the agent does not let go.
func (o *oldAgent) stays(id string, err error) {
	if o.refused[id] == err.Error() {
		return
	}
	o.refused[id] = err.Error()
	o.log.Warn("cannot remove a row of gliderlabs/registrator, trying again with every pass", "id", id, "err", err)
}
