//go:build real

package watch

import (
	"testing"
	"time"

	"fairway/internal/consul"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// Where Consul's answers do not name what changed, a hint in the same transaction does: no node is
// searched for it.
func TestWatch_aHintSparesTheSearch(t *testing.T) {
	server := testbed.Consul(t)
	c := server.Client
	hint := func() *api.TxnOp {
		h := consul.NewHint("n1", time.Now())
		h.Add("web", time.Now())
		value, err := h.Value()
		if err != nil {
			t.Fatal(err)
		}
		return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: consul.HintKey("n1"), Value: value}}
	}
	register(t, c, "n1", "web", "10.1.0.1", "passing", routed)
	register(t, c, "n2", "web", "10.1.0.2", "passing", routed)
	transact(t, c, hint())
	f := follow(t, Options{mode: Aggregate, narrowAbove: 1}, server.Addr)
	f.sees("start", instances("web", "10.1.0.1:8080 passing", "10.1.0.2:8080 passing"))
	quiet(t, f)
	before := f.Status(t.Context()).Counts
	transact(t, c, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "n1", Service: api.AgentService{
		ID: "n1:web:80", Service: "web", Address: "10.1.0.9", Port: 8080, Meta: routed,
	}}}, hint())
	f.sees("a definition alone", instances("web", "10.1.0.9:8080 passing", "10.1.0.2:8080 passing"))
	now := f.Status(t.Context()).Counts
	if now.Hints != before.Hints+1 || now.Probes != before.Probes || now.Reads != before.Reads+1 {
		t.Errorf("one hint, one read and no node asked are enough: before %+v, after %+v", before, now)
	}
}
