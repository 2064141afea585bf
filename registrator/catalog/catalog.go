// Package catalog is this node's part of Consul's catalog: what it holds, and how it is changed.
//
// There is one Consul node for each Docker node, with a check fairway:alive that the liveness
// package's reaper turns critical when the node falls silent. Every service of ours carries the
// owner mark and has one check, service:<ID>, which is written together with it: nothing is ever
// passing before it is ready. What does not carry the mark is somebody else's and never touched.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"fairway/internal/consul"
	"fairway/registrator/service"
)

// The words of the contract that stand in the catalog.
const (
	AliveID     = "fairway:alive"
	aliveName   = "Fairway registrator lives"
	aliveOutput = "registrator runs"

	checkPrefix = "service:"
	checkName   = "container"
	checkType   = "docker"

	metaSource = "external-source"
	metaDocker = "fairway-docker-id"
	source     = "fairway"

	serfHealth = "serfHealth"
)

// requestTimeout bounds every request that does not block on purpose (C97).
const requestTimeout = 5 * time.Second

// ErrAgent says that a Consul agent runs under our node's name. Its anti-entropy would delete
// whatever we register (C105).
var ErrAgent = errors.New("a Consul agent owns this node name")

// ErrForeign says that somebody else wrote our node into the catalog and uses it. It is not taken
// over: its address would change, and all that stands there would fall under the reaper.
var ErrForeign = errors.New("somebody else registered this node name")

// NotOurs reports whether an error says that our node name belongs to a Consul agent or to somebody
// else's registrations.
func NotOurs(err error) bool { return errors.Is(err, ErrAgent) || errors.Is(err, ErrForeign) }

// ErrTaken says that another Docker engine, which is alive, registers under our node's name.
var ErrTaken = errors.New("another Docker engine registers under this node name")

// Options say which node is ours.
type Options struct {
	Node service.Node

	// Meta is put on the Consul node, besides external-source: version, Docker and Swarm ids. A
	// key with an empty value is left out.
	Meta map[string]string

	// LiveKey is the key whose session proves that this node's registrator lives; it decides
	// whether another engine of our name is a rival or a predecessor.
	LiveKey string

	Namespace, Partition string // Consul Enterprise; empty otherwise

	// Adopts says which rows without the owner mark are to be taken over, by ID: they make no node
	// somebody else's. Nil for none.
	Adopts func(id string) bool

	Log hclog.Logger
}

// Client reads and writes our node's rows. It is used by one goroutine, save for Watch.
type Client struct {
	consul  *api.Client
	opt     Options
	refused refusals
	hints   hints
}

// New returns a client that has asked nothing yet.
func New(client *api.Client, opt Options) *Client {
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	meta := map[string]string{metaSource: source}
	for k, v := range opt.Meta {
		if v != "" {
			meta[k] = v
		}
	}
	opt.Meta = meta
	return &Client{consul: client, opt: opt, refused: refusals{}}
}

// Observed is what the catalog holds under our node's name at one moment.
type Observed struct {
	Rows []service.Registration // everyone's; ours carry the owner mark

	// NodeChange is what must be written to the node itself, in words; empty for nothing.
	NodeChange string

	Remembered bool // it was not read, but is what After said
	Lasting    bool // what After says of it is what a read would say, but for what others do

	node          *api.Node // as it must be
	exists        bool
	foreignChecks bool // the node has checks of its own that are not ours

	held map[string]heldRow // what registrations do not tell of rows, by ID; in catalog mode of those to adopt
}

// Observed reads our node. An error means that nothing is known; it wraps ErrAgent, ErrForeign or
// ErrTaken when the node is not ours to write.
func (c *Client) Observed(ctx context.Context) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var (
		list   *api.CatalogNodeServiceList
		checks api.HealthChecks
		name   = c.opt.Node.Name
	)
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		list, _, err = c.consul.Catalog().NodeServiceList(name, consistent(groupCtx))
		return err
	})
	group.Go(func() (err error) {
		checks, _, err = c.consul.Health().Node(name, consistent(groupCtx))
		return err
	})
	if err := group.Wait(); err != nil {
		return Observed{}, fmt.Errorf("read node %s: %w", name, err)
	}
	if list == nil {
		list = &api.CatalogNodeServiceList{}
	}
	o := Observed{exists: list.Node != nil, Rows: rows(list.Services, checks)}
	o.held = c.adoptable(o.Rows, checks)
	o.Lasting = true
	o.foreignChecks = slices.ContainsFunc(checks, func(k *api.HealthCheck) bool {
		return k.ServiceID == "" && k.CheckID != AliveID
	})
	if err := c.mayWrite(ctx, list.Node, o, checks); err != nil {
		return Observed{}, err
	}
	o.node, o.NodeChange = c.wantNode(list.Node, checks)
	return o, nil
}

// consistent has a read show no past: that of a Consul server that starts again, or has just become the
// leader, and has its log still to apply.
func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

// inUse reports whether the node has services or checks of others.
func (o Observed) inUse() bool {
	return o.foreignChecks || slices.ContainsFunc(o.Rows, func(r service.Registration) bool {
		_, adoptable := o.held[r.ID]
		return !r.Owned() && !adoptable
	})
}

// mayWrite refuses a node name that is somebody else's.
func (c *Client) mayWrite(ctx context.Context, node *api.Node, o Observed, checks api.HealthChecks) error {
	for _, check := range checks {
		if check.CheckID == serfHealth {
			return fmt.Errorf("node %s: %w, and its anti-entropy would delete our rows: "+
				"register through that agent with --mode agent and its address, or choose another name with --node-name", c.opt.Node.Name, ErrAgent)
		}
	}
	if node != nil && node.Meta[metaSource] != source && o.inUse() {
		return fmt.Errorf("node %s: %w (address %s), and has services or checks of its own: choose another name with --node-name, "+
			"remove what is registered there, or give that node the metadata %s=%s if registrator may have it",
			c.opt.Node.Name, ErrForeign, node.Address, metaSource, source)
	}
	if node == nil || node.Meta[metaDocker] == "" || c.opt.Meta[metaDocker] == "" ||
		node.Meta[metaDocker] == c.opt.Meta[metaDocker] || c.opt.LiveKey == "" {
		return nil
	}
	key, _, err := c.consul.KV().Get(c.opt.LiveKey, consistent(ctx))
	if err != nil {
		return fmt.Errorf("read key %s: %w", c.opt.LiveKey, err)
	}
	if key != nil && key.Session != "" {
		return fmt.Errorf("node %s: %w (%s), and is alive: give one of the two another --node-name",
			c.opt.Node.Name, ErrTaken, node.Meta[metaDocker])
	}
	return nil
}

// wantNode returns the node as it must be, and in words what differs from how it is.
func (c *Client) wantNode(have *api.Node, checks api.HealthChecks) (*api.Node, string) {
	address := c.opt.Node.IPv4
	if !address.IsValid() {
		address = c.opt.Node.IPv6
	}
	want := &api.Node{
		Node: c.opt.Node.Name, Address: address.String(), Partition: c.opt.Partition, Meta: maps.Clone(c.opt.Meta),
	}
	if have == nil {
		return want, "register node"
	}
	want.ID, want.TaggedAddresses = have.ID, have.TaggedAddresses
	for k, v := range have.Meta { // what others put there stays
		if _, ours := want.Meta[k]; !ours {
			want.Meta[k] = v
		}
	}
	switch {
	case have.Address != want.Address:
		return want, fmt.Sprintf("change address of node from %s to %s", have.Address, want.Address)
	case !maps.Equal(have.Meta, want.Meta):
		return want, "change metadata of node"
	case !alive(checks):
		return want, "node is alive"
	}
	return want, ""
}

func alive(checks api.HealthChecks) bool {
	for _, check := range checks {
		if check.CheckID == AliveID && check.ServiceID == "" {
			return check.Status == api.HealthPassing
		}
	}
	return false
}

// rows reads services and their container checks as registrations. A service without that check
// has an empty status.
func rows(services []*api.AgentService, checks api.HealthChecks) []service.Registration {
	byID := make(map[string]*api.HealthCheck, len(checks))
	for _, check := range checks {
		byID[check.CheckID] = check
	}
	list := make([]service.Registration, 0, len(services))
	for _, s := range services {
		r := service.Registration{
			ID: s.ID, Name: s.Service, Address: s.Address, Port: s.Port,
			Tags: s.Tags, Meta: s.Meta, Addresses: tagged(s.TaggedAddresses),
			Weight: s.Weights.Passing, EnableTagOverride: s.EnableTagOverride,
		}
		if check := byID[checkPrefix+s.ID]; check != nil && check.ServiceID == s.ID {
			r.Status, r.Output = service.Status(check.Status), check.Output
		}
		r.Checks = activeChecks(s.ID, byID)
		list = append(list, r)
	}
	return list
}

// tagged reads tagged addresses; one that is no IP address, which is never ours, differs from
// every one of ours by being zero.
func tagged(addresses map[string]api.ServiceAddress) map[string]service.Tagged {
	if len(addresses) == 0 {
		return nil
	}
	m := make(map[string]service.Tagged, len(addresses))
	for name, a := range addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err != nil {
			ip = netip.Addr{}
		}
		m[name] = service.Tagged{IP: ip, Port: a.Port}
	}
	return m
}

// Watch calls wake for every change of our node's checks that Consul sees, until ctx ends: a row
// that somebody deleted takes its check along, and the reaper writes fairway:alive.
func (c *Client) Watch(ctx context.Context, failed func(error, time.Duration), wake func()) error {
	ask := func(q *api.QueryOptions) (api.HealthChecks, *api.QueryMeta, error) {
		return c.consul.Health().Node(c.opt.Node.Name, q)
	}
	return consul.Watch(ctx, ask, consul.WatchOptions{Failed: failed}, func(api.HealthChecks, *api.QueryMeta) { wake() })
}
