// Package swarm brings what a Swarm service says to the nodes that run its tasks. Docker tells the
// labels, published ports and virtual addresses of a service to managers only; so the registrator
// on a manager writes them to the key fairway/swarm/<service id>, and those on workers read it.
//
// Nobody is elected for that. A manager's engine forwards its questions to the Swarm's leader, so all
// managers know the same; and each writes only over a version of the key that it saw before it
// asked. Whoever was late with an old answer finds the key changed, and looks again.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
	"fairway/registrator/service"
)

// Prefix is that of the keys under which services are shared.
const Prefix = "fairway/swarm/"

// requestTimeout bounds every request that does not block on purpose.
const requestTimeout = 5 * time.Second

// Client reads and writes the keys.
type Client struct{ consul *api.Client }

// New returns a client that has asked nothing yet.
func New(consul *api.Client) *Client { return &Client{consul} }

// Keys is all that is shared at one moment, by service id.
type Keys map[string]key

type key struct {
	index  uint64
	record record
	wrong  error // why the value cannot be read; who shares the service replaces it
}

// Services is what the keys say of the services.
func (k Keys) Services() map[string]*service.SwarmService {
	services := make(map[string]*service.SwarmService, len(k))
	for id, key := range k {
		if key.wrong != nil {
			continue
		}
		if s, err := key.record.service(id); err == nil {
			s.Source = "known from Consul, " + Prefix + id
			services[id] = &s
		}
	}
	return services
}

// Read asks once for all keys.
func (c *Client) Read(ctx context.Context) (Keys, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	keys, _, err := c.list((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	return keys, err
}

// Watch follows the keys until ctx ends and hands them over after every change.
func (c *Client) Watch(ctx context.Context, failed func(error, time.Duration), got func(Keys)) error {
	return consul.Watch(ctx, c.list, consul.WatchOptions{Failed: failed}, func(k Keys, _ *api.QueryMeta) { got(k) })
}

func (c *Client) list(q *api.QueryOptions) (Keys, *api.QueryMeta, error) {
	pairs, meta, err := c.consul.KV().List(Prefix, q)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", Prefix, err)
	}
	if meta.ResultsFilteredByACLs {
		return nil, nil, fmt.Errorf("read %s: the token does not show all keys; it needs key_prefix %q read", Prefix, Prefix)
	}
	keys := make(Keys, len(pairs))
	for _, p := range pairs {
		id := strings.TrimPrefix(p.Key, Prefix)
		if id == "" {
			continue
		}
		k := key{index: p.ModifyIndex}
		k.record, k.wrong = decode(p.Value)
		keys[id] = k
	}
	return keys, meta, nil
}

// Share makes the keys of a Swarm equal to its services, which were asked for after the keys had
// been seen. It writes what differs and removes what is gone, of this Swarm only. One key that cannot
// be written does not keep the others; a key that somebody else has changed meanwhile is left to the
// next call. It returns how many keys were written or removed.
func (c *Client) Share(ctx context.Context, seen Keys, swarm string, services []service.SwarmService) (int, error) {
	written := 0
	var errs []error
	note := func(done bool, err error) {
		if done && err == nil {
			written++
		}
		errs = append(errs, err)
	}
	alive := make(map[string]bool, len(services))
	for _, s := range services {
		alive[s.ID] = true
		want, have := normal(recordOf(swarm, s)), seen[s.ID]
		if have.index > 0 && have.wrong == nil && reflect.DeepEqual(normal(have.record), want) {
			continue
		}
		note(c.put(ctx, s.ID, have.index, want))
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if have := seen[id]; !alive[id] && have.wrong == nil && have.record.Swarm == swarm {
			note(c.remove(ctx, id, have.index))
		}
	}
	return written, errors.Join(errs...)
}

// Normal is a service as all nodes know it once it has been shared: a manager counts no label that
// workers cannot have.
func Normal(s service.SwarmService) service.SwarmService {
	n, err := normal(recordOf("", s)).service(s.ID)
	if err != nil {
		return s // what was just written can be read
	}
	n.Source = "known from the Swarm itself, on this manager"
	return n
}

// normal is a record as it comes back from Consul.
func normal(r record) record {
	back, err := decode(encode(r))
	if err != nil {
		return r // what was just written can be read
	}
	return back
}

func (c *Client) put(ctx context.Context, id string, index uint64, r record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, _, err := c.consul.KV().CAS(&api.KVPair{Key: Prefix + id, Value: encode(r), ModifyIndex: index}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("share service %s: %w", r.Name, err)
	}
	return done, nil
}

func (c *Client) remove(ctx context.Context, id string, index uint64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, _, err := c.consul.KV().DeleteCAS(&api.KVPair{Key: Prefix + id, ModifyIndex: index}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return false, fmt.Errorf("remove the shared service %s: %w", id, err)
	}
	return done, nil
}
