//go:build real

package watch

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"fairway/internal/consul"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// BenchmarkWatch_F60_F61 measures a real Consul of 100, 1,000 and 5,000 services with ten
// instances each on 100 nodes: the time to the first complete snapshot, the heap then, and the
// median time from a write to the snapshot that shows it.
//
//	go test -tags real -run '^$' -bench Watch_F60 -benchtime 20x ./confgen/watch
func BenchmarkWatch_F60_F61(b *testing.B) {
	for _, services := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) { benchmarkWatch(b, services) })
	}
}

func benchmarkWatch(b *testing.B, services int) {
	server := testbed.Consul(b)
	fill(b, server.Client, services, 10)
	client, err := consul.New(consul.Config{Addresses: []string{server.Addr}})
	if err != nil {
		b.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	w, err := New(Options{Client: client, Changed: func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()
	<-changed
	first := time.Since(began)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)

	kinds := []string{"registered", "critical", "passing", "deregistered"}
	took := map[string][]time.Duration{}
	b.ResetTimer()
	for i := range b.N {
		name := fmt.Sprintf("svc-%d", i*37%services)
		for _, kind := range kinds {
			settle(b, changed)
			began := time.Now()
			change(b, server.Client, kind, name)
			select {
			case <-changed:
			case <-time.After(30 * time.Second):
				b.Fatalf("%s was not seen", kind)
			}
			took[kind] = append(took[kind], time.Since(began))
		}
	}
	b.ReportMetric(first.Seconds(), "s-to-first")
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "MiB-heap")
	b.ReportMetric(0, "ns/op") // means nothing here: most of it is waiting between changes
	for _, kind := range kinds {
		slices.Sort(took[kind])
		b.ReportMetric(float64(took[kind][len(took[kind])/2].Microseconds())/1000, "ms-"+kind)
	}
}

// settle lets 300 ms pass, so that changes are isolated ones.
func settle(b *testing.B, changed <-chan struct{}) {
	b.Helper()
	timer := time.NewTimer(300 * time.Millisecond)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-changed:
		}
	}
}

func change(b *testing.B, c *api.Client, kind, name string) {
	b.Helper()
	switch kind {
	case "registered":
		register(b, c, "node-7", name, "10.200.0.1", "passing", routed)
	case "deregistered":
		deregister(b, c, "node-7", name)
	default:
		id := "node-7:" + name + ":80"
		setCheck(b, c, api.HealthCheck{Node: "node-7", CheckID: "service:" + id, ServiceID: id, Status: kind})
	}
}

// fill registers services of so many instances each, on 100 nodes.
func fill(b testing.TB, c *api.Client, services, instances int) {
	b.Helper()
	const nodes = 100
	for i := range nodes {
		transact(b, c, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: fmt.Sprintf("node-%d", i), Address: "10.0.0.9"}}})
	}
	var ops api.TxnOps
	for s := range services {
		for k := range instances {
			node, name := fmt.Sprintf("node-%d", (s+k*7)%nodes), fmt.Sprintf("svc-%d", s)
			id := fmt.Sprintf("%s:%s-%d:80", node, name, k)
			ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{
				ID: id, Service: name, Address: fmt.Sprintf("10.%d.%d.%d", k+1, s/250, s%250), Port: 8080, Meta: routed,
			}}}, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
				Node: node, CheckID: "service:" + id, Name: "container", Status: "passing", Output: "running", ServiceID: id,
			}}})
			if len(ops) == 64 {
				transact(b, c, ops...)
				ops = nil
			}
		}
	}
	if len(ops) > 0 {
		transact(b, c, ops...)
	}
}
