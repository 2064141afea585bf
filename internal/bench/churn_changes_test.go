//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// app is an instance: a server of its own, on an address that no other one ever had.
type app struct {
	service string
	number  int
	host    string
	port    int
	weight  int
	status  string
	server  *http.Server
	ended   chan struct{} // closed when it has been taken out and has ended
}

// id is its name in the catalog, as registrator makes them.
func (a *app) id() string { return fmt.Sprintf("churn-node:%s-%d:80", a.service, a.number) }

// key is its name in a view, and state what it should be there.
func (a *app) key() string { return fmt.Sprintf("%s %s:%d", a.service, a.host, a.port) }

func (a *app) state() string {
	if a.status != api.HealthPassing {
		return outOfTraffic
	}
	return "ready " + strconv.Itoa(a.weight)
}

// newApp starts an instance that the catalog does not know yet.
func (c *churn) newApp(s *churnService) *app {
	c.t.Helper()
	c.apps++
	a := &app{
		service: s.name, number: c.apps, weight: 100, status: api.HealthPassing,
		host: fmt.Sprintf("127.1.%d.%d", c.apps/250, 1+c.apps%250),
	}
	l, err := (&net.ListenConfig{}).Listen(c.t.Context(), "tcp", a.host+":0")
	if err != nil {
		c.t.Fatal(err)
	}
	a.port = l.Addr().(*net.TCPAddr).Port
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.server.Serve(l) // ends with Close or Shutdown
	}()
	c.t.Cleanup(func() {
		_ = a.server.Close()
		<-done
	})
	s.apps = append(s.apps, a)
	return a
}

// ServeHTTP answers at once, later, or for a while.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Served-By", a.service)
	switch r.URL.Path {
	case "/slow":
		rest(r.Context(), 200*time.Millisecond+rand.N(1300*time.Millisecond))
	case "/download":
		chunk := make([]byte, 32<<10)
		w.Header().Set("Content-Length", strconv.Itoa(15*len(chunk)))
		for range 15 {
			rest(r.Context(), 80*time.Millisecond)
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		return
	}
	fmt.Fprintln(w, a.id())
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// leave has an instance that was just taken out end as a well-behaved one does: it takes requests for
// a while, then finishes what it has.
func (a *app) leave(t testing.TB) {
	a.ended = make(chan struct{})
	ctx := t.Context()
	go func() {
		defer close(a.ended)
		rest(ctx, churnDrain)
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := a.server.Shutdown(limited); err != nil && ctx.Err() == nil {
			t.Errorf("%s still had requests %s after it was taken out: %v", a.id(), churnDrain, err)
		}
	}()
}

// change makes one change. What it is to lead to is told to the watcher before it is written.
func (c *churn) change(structure bool) {
	c.t.Helper()
	if structure {
		c.restructure()
		return
	}
	for i, a := range c.leaving {
		select {
		case <-a.ended:
			c.leaving = slices.Delete(c.leaving, i, i+1)
			c.transact(&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDelete, Node: "churn-node", Service: api.AgentService{ID: a.id(), Service: a.service}}})
			return
		default:
		}
	}
	s := c.services[c.random.IntN(len(c.services))]
	passing, failing := s.by(api.HealthPassing), s.by(api.HealthCritical)
	switch dice := c.random.IntN(10); {
	case dice < 3 && len(s.apps) < churnMost, len(passing) <= churnFewest && len(failing) == 0:
		c.write(s, c.newApp(s))
	case dice < 6 && len(passing) > churnFewest:
		a := c.pick(passing)
		a.status = api.HealthCritical
		c.write(s, a)
		a.leave(c.t)
		s.apps = slices.DeleteFunc(s.apps, func(o *app) bool { return o == a })
		c.leaving = append(c.leaving, a)
	case dice < 8:
		a := c.pick(passing)
		a.weight = (a.weight+c.random.IntN(255))%256 + 1 // never the one that it has
		c.write(s, a)
	case len(failing) > 0:
		a := c.pick(failing)
		a.status = api.HealthPassing
		c.write(s, a)
	default:
		a := c.pick(passing)
		if len(passing) > churnFewest {
			a.status = api.HealthCritical
		} else {
			a.weight = (a.weight+c.random.IntN(255))%256 + 1
		}
		c.write(s, a)
	}
}

func (s *churnService) by(status string) (list []*app) {
	for _, a := range s.apps {
		if a.status == status {
			list = append(list, a)
		}
	}
	return list
}

func (c *churn) pick(list []*app) *app { return list[c.random.IntN(len(list))] }

// restructure makes a change that servers alone cannot express: in turn a service with an option
// of its own, another timeout of a service under load, and a service less.
func (c *churn) restructure() {
	c.t.Helper()
	c.kinds++
	switch {
	case c.kinds%3 == 1:
		s := &churnService{name: fmt.Sprintf("guest-%d", c.kinds), labels: map[string]string{"fairway-balance": "leastconn"}}
		a := c.newApp(s)
		c.guests = append(c.guests, s)
		c.watch.expect(a.key(), a.key(), a.state(), true)
		c.transact(c.row(s, a)...)
	case c.kinds%3 == 2:
		s := c.services[c.random.IntN(len(c.services))]
		s.timeout = fmt.Sprintf("%dms", 60000+c.kinds)
		var ops api.TxnOps
		for _, a := range s.apps {
			ops = append(ops, c.row(s, a)[0])
		}
		c.watch.expect("timeout of "+s.name, timeoutKey(s.timeout), "set", true)
		c.transact(ops...)
		// The guest is to go next time. One that has stopped passing is let go, and does not
		// vanish: confgen holds on to a service that does. As the last resort it serves on.
		guest := c.guests[0]
		guest.apps[0].status = api.HealthCritical
		c.transact(c.row(guest, guest.apps[0])[1])
	default:
		a := c.guests[0].apps[0]
		c.guests = c.guests[1:]
		c.watch.expect(a.key(), a.key(), outOfTraffic, true)
		c.transact(&api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDelete, Node: "churn-node", Service: api.AgentService{ID: a.id(), Service: a.service}}})
	}
}

// write puts an instance into the catalog as it is now.
func (c *churn) write(s *churnService, a *app) {
	c.t.Helper()
	if c.watch != nil {
		c.watch.expect(a.key(), a.key(), a.state(), false)
	}
	c.transact(c.row(s, a)...)
}

// row is an instance as registrator writes it: the service and its check, together.
func (c *churn) row(s *churnService, a *app) api.TxnOps {
	meta := map[string]string{"fairway-host": s.name + ".test", "fairway-weight": strconv.Itoa(a.weight)}
	if s.timeout != "" {
		meta["fairway-timeout-server"] = s.timeout
	}
	maps.Copy(meta, s.labels)
	return api.TxnOps{
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "churn-node", Service: api.AgentService{
			ID: a.id(), Service: s.name, Address: a.host, Port: a.port, Meta: meta,
		}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: "churn-node", CheckID: "service:" + a.id(), Name: "container", Status: a.status, ServiceID: a.id(),
		}}},
	}
}

func (c *churn) transact(ops ...*api.TxnOp) {
	c.t.Helper()
	node := &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "churn-node", Address: "127.0.0.1"}}}
	if c.watch == nil { // the first one
		ops = append([]*api.TxnOp{node}, ops...)
	}
	if i := slices.IndexFunc(ops, func(op *api.TxnOp) bool { return op.Service != nil }); i >= 0 {
		ops = append(ops, hint(c.t, ops[i].Service)...)
	}
	ok, answer, _, err := c.l.consul.Client.Txn().Txn(ops, nil)
	if err == nil && !ok {
		err = errors.New(answer.Errors[0].What)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}
