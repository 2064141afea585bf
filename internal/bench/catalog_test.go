//go:build bench

package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
)

// nodes is how many nodes the instances of a catalog are spread over.
const nodes = 100

// catalog is a Consul catalog of services that one process answers for, whatever the address
// under 127.0.0.0/8: 50,000 servers cost no more than one.
type catalog struct {
	b         testing.TB
	client    *api.Client
	port      int
	services  int
	instances int
}

// newCatalog fills a Consul server.
func newCatalog(b testing.TB, client *api.Client, services, instances int) *catalog {
	b.Helper()
	c := &catalog{b: b, client: client, services: services, instances: instances, port: answerEverywhere(b)}
	began := time.Now()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(8)
	for n := range nodes {
		group.Go(func() error {
			return c.transact(ctx, api.TxnOps{{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: nodeName(n), Address: "127.0.0.1"}}}})
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	group, ctx = errgroup.WithContext(b.Context())
	group.SetLimit(8)
	var ops api.TxnOps
	send := func() {
		full := ops
		ops = nil
		group.Go(func() error { return c.transact(ctx, full) })
	}
	for s := range services {
		for i := range instances {
			// Consul takes 64 operations at once.
			if ops = append(ops, c.row(s, i)...); len(ops) == 64 {
				send()
			}
		}
	}
	if len(ops) > 0 {
		send()
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.Logf("catalog of %d × %d filled in %s", services, instances, time.Since(began).Round(time.Millisecond))
	return c
}

func nodeName(n int) string { return fmt.Sprintf("node-%d", n) }

func serviceName(s int) string { return fmt.Sprintf("svc-%d", s) }

// hostOf is what service s is asked for by.
func hostOf(s int) string { return serviceName(s) + ".test" }

// address is that of the i-th instance of service s.
func address(s, i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+i, s/250, 1+s%250) }

// row is an instance as registrator writes it: the service and its check, together.
func (c *catalog) row(s, i int) api.TxnOps {
	node := nodeName((s + i*7) % nodes)
	id := fmt.Sprintf("%s:%s-%d:80", node, serviceName(s), i)
	return api.TxnOps{
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{
			ID: id, Service: serviceName(s), Address: address(s, i), Port: c.port,
			Tags: []string{"v1"},
			Meta: map[string]string{
				// HAProxy counts an open file for every check, before it has made one.
				"fairway-host": hostOf(s), "fairway-check": "off", "version": "1.2.3",
				"fairway-container": fmt.Sprintf("%06x%06x:80/tcp", s, i),
			},
		}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: node, CheckID: "service:" + id, Name: "container", Status: api.HealthPassing, Output: "running", ServiceID: id,
		}}},
	}
}

// add registers the i-th instance of service s.
func (c *catalog) add(s, i int) {
	c.b.Helper()
	ops := c.row(s, i)
	if err := c.transact(c.b.Context(), append(ops, hint(c.b, ops[0].Service)...)); err != nil {
		c.b.Fatal(err)
	}
}

// drop deregisters it.
func (c *catalog) drop(s, i int) {
	c.b.Helper()
	service := c.row(s, i)[0].Service
	service.Verb = api.ServiceDelete
	if err := c.transact(c.b.Context(), append(api.TxnOps{{Service: service}}, hint(c.b, service)...)); err != nil {
		c.b.Fatal(err)
	}
}

// hint is what registrator says of a change in the same transaction; HINTS=no leaves it out, as if
// somebody else had registered the instance.
func hint(b testing.TB, changed *api.ServiceTxnOp) api.TxnOps {
	b.Helper()
	if os.Getenv("HINTS") == "no" {
		return nil
	}
	now := time.Now()
	h := consul.NewHint(changed.Node, now)
	h.Add(changed.Service.Service, now)
	value, err := h.Value()
	if err != nil {
		b.Fatal(err)
	}
	return api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVSet, Key: consul.HintKey(changed.Node), Value: value}}}
}

func (c *catalog) transact(ctx context.Context, ops api.TxnOps) error {
	ok, answer, _, err := c.client.Txn().Txn(ops, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("transaction refused: %v", answer.Errors[0])
	}
	return nil
}

// answerEverywhere answers on one port of every loopback address, with that address.
func answerEverywhere(b testing.TB) (port int) {
	b.Helper()
	l, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp4", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		ip, _, _ := net.SplitHostPort(local.String())
		w.Header().Set("X-Served-By", ip)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	b.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).Port
}
