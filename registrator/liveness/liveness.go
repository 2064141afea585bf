// Package liveness proves that this node lives, and takes part in finding out which others do
// not.
//
// Nothing in Consul marks a catalog-only node dead, so every node holds the key
// fairway/nodes/<node> with a session that runs out unless it is renewed. One registrator,
// elected by the lock fairway/reaper, watches these keys. A key whose session has run out makes
// its node's check fairway:alive critical, and with it every service of that node in one write;
// a node that stays away for much longer is removed.
//
// Every write of the reaper is one transaction that also asserts that the lock is still held and
// that the node's key has not changed. So two reapers that cannot see each other never both act,
// and a node that comes back at the last moment is left alone.
package liveness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
)

// The places of the contract with the catalog.
const (
	CheckID = "fairway:alive"

	nodePrefix = "fairway/nodes/"
	reaperKey  = "fairway/reaper"
)

// MinTTL is the shortest session Consul allows unless its session_ttl_min says otherwise.
const MinTTL = 10 * time.Second

// Options say whose life is proved and how long silence may last.
type Options struct {
	Node string // Consul node name; it must be in the catalog before Run

	// TTL of the session. Consul gives up on it after twice this time without renewal; the key
	// is renewed every half.
	TTL time.Duration

	// ReapAfter is how long after its session ran out a node is removed altogether; zero for
	// never.
	ReapAfter time.Duration

	Namespace, Partition string // Consul Enterprise; empty otherwise

	Log    hclog.Logger
	Failed func(error) // told nil when Consul has just answered, else why it did not; may be nil
}

// Client keeps one node's session.
type Client struct {
	consul *api.Client
	opt    Options
	log    hclog.Logger

	session current
	made    string // the session created last, also one that was never seen to hold the key
}

// New returns a client that has done nothing yet.
func New(consul *api.Client, opt Options) *Client {
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	if opt.Failed == nil {
		opt.Failed = func(error) {}
	}
	return &Client{consul: consul, opt: opt, log: opt.Log, session: newCurrent()}
}

// Run keeps the session alive and stands for election until ctx ends. It leaves the session to
// run out by itself, so that a registrator that is back in time takes it over and nobody ever
// noticed.
func (c *Client) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.keep(ctx) })
	group.Go(func() error { return c.stand(ctx) })
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Stopped notes in the node's key that its registrator was ended on purpose and that the node is to
// be left alone for a grace time after the session has run out: an upgrade is no death. The next
// registrator of the node takes the note back. Call it after Run has returned, and only where the
// node itself lives on.
func (c *Client) Stopped(ctx context.Context, grace time.Duration) error {
	if grace <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	id, err := c.ours(ctx)
	if id == "" || err != nil {
		return err
	}
	return c.hold(ctx, id, life{Stopped: duration(grace)})
}

// Leave gives the node's key and session up: nobody shall miss this node. Call it after Run has
// returned.
func (c *Client) Leave(ctx context.Context) error {
	id, err := c.ours(ctx)
	if id == "" || err != nil {
		return err
	}
	ops := api.TxnOps{
		{KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: c.key(), Session: id}},
		{KV: &api.KVTxnOp{Verb: api.KVDelete, Key: c.key()}},
	}
	if _, err := c.commit(ctx, ops); err != nil {
		return fmt.Errorf("give up key %s: %w", c.key(), err)
	}
	if _, err := c.consul.Session().Destroy(id, write(ctx)); err != nil {
		return fmt.Errorf("destroy session: %w", err)
	}
	c.session.set("")
	return nil
}

// ours is the session of this node; empty when there is none. Run may have been ended while it took
// the key, and then only Consul knows whether it did.
func (c *Client) ours(ctx context.Context) (string, error) {
	if id := c.session.get(); id != "" {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	pair, _, err := c.consul.KV().Get(c.key(), query(ctx))
	if err != nil {
		return "", fmt.Errorf("read key %s: %w", c.key(), err)
	}
	if pair != nil && pair.Session != "" {
		return pair.Session, nil
	}
	return c.made, nil
}

func (c *Client) key() string { return Key(c.opt.Node) }

// Key is the key a node holds while it lives.
func Key(node string) string { return nodePrefix + node }

// commit runs a transaction. A false answer says that one of its assertions on keys did not hold
// and nothing was written, which is no error; a refusal of anything else is.
func (c *Client) commit(ctx context.Context, ops api.TxnOps) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for _, op := range ops {
		if op.KV != nil {
			op.KV.Namespace, op.KV.Partition = c.opt.Namespace, c.opt.Partition
		}
	}
	ok, resp, _, err := c.consul.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("consul transaction: %w", err)
	}
	for _, e := range resp.Errors {
		if e.OpIndex >= len(ops) || ops[e.OpIndex].KV == nil {
			return false, fmt.Errorf("consul transaction: %s", e.What)
		}
		c.log.Debug("transaction does not hold any more", "key", ops[e.OpIndex].KV.Key, "reason", e.What)
	}
	return ok, nil
}

// requestTimeout bounds every request that does not block on purpose.
const requestTimeout = 5 * time.Second

func write(ctx context.Context) *api.WriteOptions {
	return (&api.WriteOptions{}).WithContext(ctx)
}

func query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}
