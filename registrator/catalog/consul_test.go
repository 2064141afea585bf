package catalog

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"

	"fairway/registrator/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeConsul speaks as much of Consul's wire protocol as this package does, with faults.
type fakeConsul struct {
	t      *testing.T
	server *httptest.Server
	client *api.Client

	mu       sync.Mutex
	node     *api.Node
	services map[string]*api.AgentService
	checks   map[string]*api.HealthCheck
	keys     map[string]*api.KVPair
	txns     []api.TxnOps // all that were sent

	refuse  map[string]int // service ID, or hintID → how many more times its operations are refused
	fail    map[string]int // service ID → how many more times a transaction with it is answered 500
	down    bool
	hanging chan struct{}
}

func newFakeConsul(t *testing.T) *fakeConsul {
	t.Helper()
	f := &fakeConsul{
		t: t, services: map[string]*api.AgentService{}, checks: map[string]*api.HealthCheck{},
		keys: map[string]*api.KVPair{}, refuse: map[string]int{}, fail: map[string]int{},
	}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	var err error
	f.client, err = api.NewClient(&api.Config{Address: f.server.URL, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if hanging := f.hanging; hanging != nil {
		f.mu.Unlock()
		select {
		case <-hanging:
		case <-r.Context().Done():
		}
		f.mu.Lock()
		return
	}
	w.Header().Set("X-Consul-Index", "1")
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	switch {
	case f.down:
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
	case strings.HasPrefix(path, "catalog/node-services/"):
		list := api.CatalogNodeServiceList{Node: f.node}
		for _, s := range f.services {
			list.Services = append(list.Services, s)
		}
		f.answer(w, list)
	case strings.HasPrefix(path, "health/node/"):
		list := api.HealthChecks{}
		for _, c := range f.checks {
			list = append(list, c)
		}
		f.answer(w, list)
	case strings.HasPrefix(path, "kv/"):
		if p := f.keys[strings.TrimPrefix(path, "kv/")]; p != nil {
			f.answer(w, api.KVPairs{p})
			return
		}
		http.NotFound(w, r)
	case path == "catalog/register":
		f.register(w, r)
	case path == "txn":
		f.txn(w, r)
	default:
		f.t.Errorf("asked for %s", r.URL)
		http.NotFound(w, r)
	}
}

func (f *fakeConsul) answer(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeConsul) register(w http.ResponseWriter, r *http.Request) {
	var request api.CatalogRegistration
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || !request.SkipNodeUpdate {
		f.t.Errorf("%+v: %v", request, err)
	}
	id := request.Service.ID
	if f.refuse[id] > 0 {
		f.refuse[id]--
		http.Error(w, "Permission denied", http.StatusForbidden)
		return
	}
	f.services[id] = request.Service
	for _, k := range request.Checks {
		f.checks[k.CheckID] = k
	}
	f.answer(w, true)
}

func (f *fakeConsul) txn(w http.ResponseWriter, r *http.Request) {
	var ops api.TxnOps
	if err := json.NewDecoder(r.Body).Decode(&ops); err != nil {
		f.t.Error(err)
	}
	f.txns = append(f.txns, ops)
	if len(ops) > 64 {
		f.t.Errorf("a transaction of %d operations", len(ops))
		http.Error(w, "too many operations", http.StatusRequestEntityTooLarge)
		return
	}
	var resp api.TxnResponse
	for i, op := range ops {
		id := serviceOf(op)
		if f.fail[id] > 0 {
			f.fail[id]--
			http.Error(w, "rpc error", http.StatusInternalServerError)
			return
		}
		if f.refuse[id] > 0 {
			resp.Errors = append(resp.Errors, &api.TxnError{OpIndex: i, What: "Permission denied"})
		}
	}
	if len(resp.Errors) > 0 {
		for _, e := range resp.Errors {
			f.refuse[serviceOf(ops[e.OpIndex])]--
		}
		w.WriteHeader(http.StatusConflict)
		f.answer(w, resp)
		return
	}
	for _, op := range ops {
		f.apply(op)
	}
	f.answer(w, resp)
}

func serviceOf(op *api.TxnOp) string {
	switch {
	case op.Service != nil:
		return op.Service.Service.ID
	case op.Check != nil:
		return op.Check.Check.ServiceID
	case op.KV != nil:
		return hintID
	}
	return ""
}

func (f *fakeConsul) apply(op *api.TxnOp) {
	switch {
	case op.KV != nil:
		f.keys[op.KV.Key] = &api.KVPair{Key: op.KV.Key, Value: op.KV.Value}
	case op.Node != nil && op.Node.Verb == api.NodeSet:
		n := op.Node.Node
		f.node = &n
	case op.Node != nil:
		f.node = nil
	case op.Service != nil && op.Service.Verb == api.ServiceSet:
		s := op.Service.Service
		s.TaggedAddresses = nil // as Consul does
		f.services[s.ID] = &s
	case op.Service != nil:
		if op.Service.Service.Service == "" {
			f.t.Error("Consul refuses a deletion without the service's name")
		}
		delete(f.services, op.Service.Service.ID)
		maps.DeleteFunc(f.checks, func(_ string, k *api.HealthCheck) bool { return k.ServiceID == op.Service.Service.ID })
	case op.Check != nil && op.Check.Verb == api.CheckDelete:
		delete(f.checks, op.Check.Check.CheckID)
	case op.Check != nil:
		c := op.Check.Check
		f.checks[c.CheckID] = &c
	}
}

// take returns the transactions since the last time, as numbers of operations.
func (f *fakeConsul) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sizes []string
	for _, ops := range f.txns {
		sizes = append(sizes, fmt.Sprint(len(ops)))
	}
	f.txns = nil
	return strings.Join(sizes, " ")
}

func (f *fakeConsul) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// node is the client of a node called "hostname", in the engine "engine-1".
func (f *fakeConsul) clientOf(change ...func(*Options)) *Client {
	opt := Options{
		Node:    service.Node{Name: "hostname", IPv4: netip.MustParseAddr("192.168.1.102")},
		Meta:    map[string]string{metaDocker: "engine-1", "fairway-version": "v1", "fairway-swarm-node": ""},
		LiveKey: "fairway/nodes/hostname",
	}
	for _, do := range change {
		do(&opt)
	}
	return New(f.client, opt)
}

// row is a passing row of ours.
func row(name string) service.Registration {
	return service.Registration{
		ID: "hostname:" + name + ":80", Name: name, Address: "192.168.1.102", Port: 10000,
		Tags: []string{"b", "a"}, Meta: map[string]string{service.Owner: "0123456789ab:80/tcp", "region": "us"},
		Weight: 3, EnableTagOverride: name == "b", Status: service.Passing, Output: "running",
	}
}

// plan asks for rows.
func plan(names ...string) service.Plan {
	var p service.Plan
	for _, n := range names {
		p.Registrations = append(p.Registrations, row(n))
	}
	return p
}
