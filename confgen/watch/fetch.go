package watch

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"fairway/confgen/route"
	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
)

// readTimeout bounds one answer. It is long because a slow answer at the start is waited for.
const readTimeout = 30 * time.Second

// job is one question: what a service looks like or, in a sweep, what changed on a node.
type job struct {
	service *service // only the keeper looks into it, but for its name
	shown   uint64   // the index of what is known of the service
	node    string
	since   uint64 // nothing up to this index is news about the node
}

// answer is what Consul said about a service.
type answer struct {
	instances []route.Instance // nil when none carries a routing key
	others    bool             // there are instances, none of which carries a routing key
	filtered  bool             // ACLs have hidden rows
	index     uint64           // of the newest change of the service that it shows
	err       error
}

// entry is one row of health/service/X, as far as it is needed.
type entry struct {
	Node    struct{ Node, Address string }
	Service struct {
		Kind, ID, Address string
		Port              int
		Tags              []string
		Meta              map[string]string
		Weights           struct{ Passing, Warning int }
		CreateIndex       uint64
	}
	Checks []struct{ CheckID, Status, ServiceID string }
}

// read asks Consul what jobs say until ctx ends.
func (w *Watcher) read(ctx context.Context, jobs <-chan job) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case j := <-jobs:
			k := w.ask(ctx, j)
			w.tell(ctx, k)
		}
	}
}

// ask asks one question and returns what the keeper is to do with the answer.
func (w *Watcher) ask(ctx context.Context, j job) func(*keeper) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if j.node != "" {
		a := w.askNode(ctx, j)
		return func(k *keeper) { k.probed(j, a) }
	}
	a, _ := w.askService((&api.QueryOptions{}).WithContext(ctx), j.service.name)
	if a.err == nil && a.index < j.shown { // of a leader that has not applied its log yet, or true
		a, _ = w.askService((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx), j.service.name)
	}
	return func(k *keeper) { k.answered(j, a) }
}

// askService asks what a service looks like.
func (w *Watcher) askService(q *api.QueryOptions, name string) (answer, *api.QueryMeta) {
	var entries []entry
	meta, err := fetch(w.opt.Client, "/v1/health/service/"+name, q, &entries)
	if err == nil {
		err = trusted(meta)
	}
	if err != nil {
		return answer{err: err}, meta
	}
	a := answer{filtered: meta.ResultsFilteredByACLs, index: meta.LastIndex}
	routed := false
	a.instances = make([]route.Instance, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Service.Kind != "" {
			continue // a mesh proxy carries a copy of its service's meta and must not be routed to
		}
		in := e.instance()
		if n := len(a.instances); n > 0 && maps.Equal(in.Meta, a.instances[n-1].Meta) {
			in.Meta = a.instances[n-1].Meta
		}
		a.instances = append(a.instances, in)
		routed = routed || e.routed(w.opt.Prefix)
	}
	if !routed {
		a.others = len(a.instances) > 0
		a.instances = nil
	}
	slices.SortFunc(a.instances, func(x, y route.Instance) int {
		return cmp.Or(strings.Compare(x.Node, y.Node), strings.Compare(x.ID, y.ID))
	})
	return a, meta
}

// shared returns s as one text with all others that are equal: of 50,000 instances' nodes, tags and
// metadata there are few different ones.
func shared(s string) string { return unique.Make(s).Value() }

func (e *entry) instance() route.Instance {
	for i, tag := range e.Service.Tags {
		e.Service.Tags[i] = shared(tag)
	}
	owner := e.Service.Meta[route.Owner]
	delete(e.Service.Meta, route.Owner)
	var meta map[string]string
	if len(e.Service.Meta) > 0 {
		meta = make(map[string]string, len(e.Service.Meta))
	}
	for key, value := range e.Service.Meta {
		meta[shared(key)] = shared(value)
	}
	in := route.Instance{
		Node: shared(e.Node.Node), ID: e.Service.ID,
		Address: cmp.Or(e.Service.Address, e.Node.Address), Port: e.Service.Port,
		Tags: e.Service.Tags, Meta: meta,
		Status: e.status(), Weight: e.Service.Weights.Passing,
		Created: e.Service.CreateIndex, Owner: owner,
	}
	if in.Status == route.Warning {
		in.Weight = e.Service.Weights.Warning
	}
	return in
}

// status is the worst of the instance's and its node's checks; maintenance mode, which Consul
// keeps as a critical check of a fixed name, goes before everything.
func (e *entry) status() route.Status {
	worst := route.Passing
	for _, c := range e.Checks {
		switch {
		case c.Status == api.HealthPassing:
		case c.CheckID == api.NodeMaint, c.CheckID == api.ServiceMaintPrefix+e.Service.ID:
			return route.Maintenance
		case c.Status == api.HealthWarning && worst == route.Passing:
			worst = route.Warning
		case c.Status != api.HealthWarning:
			worst = route.Critical
		}
	}
	return worst
}

// routed reports whether the instance carries a routing key, in its meta or in a tag.
// Registrator's owner mark, which instance has taken out, is none.
func (e *entry) routed(prefix string) bool {
	for key := range e.Service.Meta {
		if strings.HasPrefix(key, prefix+"-") {
			return true
		}
	}
	return slices.ContainsFunc(e.Service.Tags, func(tag string) bool { return strings.HasPrefix(tag, prefix+".") })
}

// texts are buffers for answers, which are of no use once they are decoded.
var texts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// fetch is Raw().Query without its garbage, which at 5,000 services is a quarter of all there is.
func fetch[T any](client *api.Client, path string, q *api.QueryOptions, out *T) (*api.QueryMeta, error) {
	text := texts.Get().(*bytes.Buffer) //nolint:forcetypeassert // Nothing else is in there.
	defer texts.Put(text)
	text.Reset()
	ctx, captured := consul.Capture(q.Context(), text)
	meta, err := client.Raw().Query(path, out, q.WithContext(ctx))
	data, ok := captured.Text()
	if err != nil || !ok { // a client of another kind has decoded the answer itself
		return meta, err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", path, err)
	}
	return meta, nil
}

// refused reports whether Consul understood the question and will not answer it: asking again at
// once is pointless, waiting with everything else for it too.
func refused(err error) bool {
	var s api.StatusError
	return errors.As(err, &s) && s.Code >= 400 && s.Code < 500 && s.Code != http.StatusTooManyRequests
}
