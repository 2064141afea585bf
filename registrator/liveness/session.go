package liveness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
)

// lockDelay is how long Consul keeps a key from being taken after its session ran out. Ours is
// taken by ourselves, and the reaper's writes assert its lock, so none is needed; Consul reads
// zero as its default of 15 seconds.
const lockDelay = time.Millisecond

// life is the value of a node's key.
type life struct {
	Lost time.Time `json:"lost,omitzero"` // when the reaper gave the node up

	// Stopped says that the registrator was ended on purpose, and for how long after its session ran
	// out the node is to be left alone. It is a duration, so that no two clocks are compared.
	Stopped duration `json:"stopped_for,omitzero"`
}

// duration is written as people write it: "10m0s".
type duration time.Duration

// MarshalText writes a duration as time.Duration prints it.
func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration takes.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// lifeIn reads the value of a key. Somebody else's value says nothing.
func lifeIn(p *api.KVPair) life {
	var l life
	if p == nil || json.Unmarshal(p.Value, &l) != nil {
		return life{}
	}
	return l
}

// current is the id of the session that is ours, "" for none, and word of its changes.
type current struct{ *state }

type state struct {
	mu      sync.Mutex
	id      string
	changed chan struct{}
}

func newCurrent() current { return current{&state{changed: make(chan struct{})}} }

func (c current) get() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// watch returns the id and a channel that is closed when it changes.
func (c current) watch() (string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id, c.changed
}

func (c current) set(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == c.id {
		return
	}
	c.id = id
	close(c.changed)
	c.changed = make(chan struct{})
}

// keep renews the session every half TTL, and at once makes sure that it holds the key whenever
// the key changes.
func (c *Client) keep(ctx context.Context) error {
	touched := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(ctx)
	watching := background(func() error { return c.watchKey(ctx, touched) })
	defer func() { cancel(); <-watching }()

	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, c.opt.TTL/4
	look := true
	for {
		err := c.prove(ctx, look)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.opt.Failed(err)
		wait := c.opt.TTL / 2
		if err != nil {
			wait = retry.NextBackOff()
		} else {
			retry.Reset()
		}
		look = err != nil
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-touched:
			look = true
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// background runs a watch that nothing but the end of its context ends, and tells of that end.
func background(watch func() error) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = watch() // the context's error: all others were tried again
	}()
	return done
}

// watchKey tells of every change of our key: it was deleted by hand, or its session was, or the
// registrator that we replaced has only now written that it was stopped.
func (c *Client) watchKey(ctx context.Context, touched chan<- struct{}) error {
	ask := func(q *api.QueryOptions) (*api.KVPair, *api.QueryMeta, error) {
		return c.consul.KV().Get(c.key(), q)
	}
	return consul.Watch(ctx, ask, consul.WatchOptions{}, func(p *api.KVPair, _ *api.QueryMeta) {
		if p != nil && p.Session != "" && p.Session == c.session.get() && lifeIn(p).Stopped == 0 {
			return
		}
		select {
		case touched <- struct{}{}:
		default:
		}
	})
}

// prove renews the session and, when look says so or there was none, makes it hold the key.
func (c *Client) prove(ctx context.Context, look bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if id := c.session.get(); id != "" {
		alive, err := c.renew(ctx, id)
		if err != nil {
			return err
		}
		if alive && !look {
			return nil
		}
		if !alive {
			c.session.set("")
		}
	}
	pair, _, err := c.consul.KV().Get(c.key(), query(ctx))
	if err != nil {
		return fmt.Errorf("read key %s: %w", c.key(), err)
	}
	if pair != nil && pair.Session != "" {
		ours := pair.Session == c.session.get()
		if !ours {
			if ours, err = c.adopt(ctx, pair.Session); err != nil {
				return err
			}
		}
		if ours && lifeIn(pair).Stopped == 0 {
			return nil
		}
	}
	return c.acquire(ctx)
}

func (c *Client) renew(ctx context.Context, id string) (alive bool, err error) {
	entry, _, err := c.consul.Session().Renew(id, write(ctx))
	if err != nil {
		return false, fmt.Errorf("renew session of %s: %w", c.opt.Node, err)
	}
	return entry != nil, nil
}

// adopt takes over the session that holds our key: it is that of this node's registrator before
// a restart. One of another length is ended, so that a changed --session-ttl takes effect.
func (c *Client) adopt(ctx context.Context, id string) (bool, error) {
	entry, _, err := c.consul.Session().Info(id, query(ctx))
	if err != nil {
		return false, fmt.Errorf("look up session of %s: %w", c.opt.Node, err)
	}
	if entry == nil {
		return false, nil
	}
	if ttl, err := time.ParseDuration(entry.TTL); err != nil || ttl != c.opt.TTL || entry.Node != c.opt.Node {
		if _, err := c.consul.Session().Destroy(id, write(ctx)); err != nil {
			return false, fmt.Errorf("end session of %s with another TTL: %w", c.opt.Node, err)
		}
		return false, nil
	}
	alive, err := c.renew(ctx, id)
	if err != nil || !alive {
		return false, err
	}
	c.session.set(id)
	return true, nil
}

// acquire makes our session hold our key; it creates the session when there is none.
func (c *Client) acquire(ctx context.Context) error {
	id := c.session.get()
	if id == "" {
		var err error
		// A catalog-only node has no serfHealth, which Consul would bind a session to unless told
		// otherwise. fairway:alive is not named either: the session could not be created anew
		// while the reaper holds that check critical.
		id, _, err = c.consul.Session().CreateNoChecks(&api.SessionEntry{
			Name: "fairway registrator", Node: c.opt.Node, LockDelay: lockDelay,
			TTL: c.opt.TTL.String(), Behavior: api.SessionBehaviorRelease,
		}, write(ctx))
		if err != nil {
			return fmt.Errorf("create session of %s: %w", c.opt.Node, err)
		}
		c.made = id
	}
	err := c.hold(ctx, id, life{})
	if err == nil || errors.Is(err, errHeld) {
		c.session.set(id)
	}
	return err
}

// errHeld says that somebody else's session holds our key.
var errHeld = errors.New("another session holds it")

// hold writes our key and makes a session hold it.
func (c *Client) hold(ctx context.Context, session string, l life) error {
	value, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("key %s: %w", c.key(), err)
	}
	got, _, err := c.consul.KV().Acquire(&api.KVPair{Key: c.key(), Value: value, Session: session}, write(ctx))
	if err == nil && !got {
		err = errHeld
	}
	if err != nil {
		return fmt.Errorf("hold key %s: %w", c.key(), err)
	}
	return nil
}
