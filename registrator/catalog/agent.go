package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway/internal/consul"
	"fairway/registrator/service"
)

// AgentOptions say who registers with an agent, and for how long what it says holds.
type AgentOptions struct {
	Node     string // name of the agent's own node
	Registry string // our node name, with which IDs begin: several registrators may share an agent under different ones

	// TTL is how long a container's check stays as it was last told while nobody renews it; then the
	// agent makes it critical. It is renewed every half.
	TTL time.Duration

	// Token is what requests are authorized with, now; nil for none. The agent keeps the token that a
	// row was registered with and syncs the row with it, so a new one is handed over.
	Token func() string

	Namespace, Partition string // Consul Enterprise; empty otherwise
}

// Agent reads and writes our rows through this node's own Consul agent, which keeps the catalog
// equal to them, runs those checks that go over the network, and whose death is the node's. It is
// used by one goroutine, save for Watch and Runs.
type Agent struct {
	consul  *api.Client
	opt     AgentOptions
	refused refusals
	told    map[string]told // by service ID
	token   lastToken
}

// lastToken is the token as it was last seen, and since when.
type lastToken struct {
	text  string
	since time.Time // zero for since the start
}

// tokenSettles is how long requests may still carry a token after another one was seen: who sends
// them and who asks here each look at the file once a second.
const tokenSettles = 3 * time.Second

// told is when a row's checks were last renewed, and with which token the row was registered.
type told struct {
	at    time.Time
	token string
	known bool // the token is
}

// NewAgent returns a client that has asked nothing yet.
func NewAgent(client *api.Client, opt AgentOptions) *Agent {
	if opt.Token == nil {
		opt.Token = func() string { return "" }
	}
	return &Agent{consul: client, opt: opt, refused: refusals{}, told: map[string]told{}, token: lastToken{text: opt.Token()}}
}

// heldRow is what an agent's rows have besides what a registration tells.
type heldRow struct {
	notes  string      // of the container's check
	ttl    []heldCheck // the checks that must be renewed
	checks []string    // IDs of all its checks
}

type heldCheck struct{ id, status, output string }

// Runs reports whether the agent itself runs a check. What happens inside a container it cannot
// know; and a service that it deregistered for being critical would never be asked again, so that
// check stays ours, too.
func (a *Agent) Runs(k service.Check) bool {
	switch k.Kind {
	case service.HTTP, service.HTTPS, service.TCP, service.GRPC:
		return k.DeregisterAfter == 0
	case service.Script, service.Cmd:
	}
	return false
}

// Observed reads what the agent holds. An error means that nothing is known.
func (a *Agent) Observed(ctx context.Context) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var services map[string]*api.AgentService
	var checks map[string]*api.AgentCheck
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		services, err = a.consul.Agent().ServicesWithFilterOpts("", (&api.QueryOptions{}).WithContext(groupCtx))
		return err
	})
	group.Go(func() (err error) {
		checks, err = a.consul.Agent().ChecksWithFilterOpts("", (&api.QueryOptions{}).WithContext(groupCtx))
		return err
	})
	if err := group.Wait(); err != nil {
		return Observed{}, fmt.Errorf("read consul agent %s: %w", a.opt.Node, err)
	}
	o := Observed{exists: true, held: make(map[string]heldRow, len(services))}
	for _, s := range services {
		row, held := a.row(s, checks)
		o.Rows = append(o.Rows, row)
		o.held[s.ID] = held
	}
	return o, nil
}

// row is a service of the agent as a registration.
func (a *Agent) row(s *api.AgentService, checks map[string]*api.AgentCheck) (service.Registration, heldRow) {
	r := service.Registration{
		ID: s.ID, Name: s.Service, Address: s.Address, Port: s.Port, Tags: s.Tags, Meta: s.Meta,
		Addresses: tagged(given(s)), Weight: s.Weights.Passing, EnableTagOverride: s.EnableTagOverride,
	}
	var h heldRow
	for id, check := range checks {
		if check.ServiceID != s.ID {
			continue
		}
		h.checks = append(h.checks, id)
		if check.Type == "ttl" && (id == checkPrefix+s.ID || strings.HasPrefix(id, activePrefix+s.ID+":")) {
			h.ttl = append(h.ttl, heldCheck{id, check.Status, check.Output})
		}
	}
	if check := checks[checkPrefix+s.ID]; check != nil && check.ServiceID == s.ID {
		r.Status, r.Output, h.notes = service.Status(check.Status), check.Output, check.Notes
		if keeper := keeperIn(check.Notes); keeper != "" && keeper != a.opt.Registry && !expired(check) {
			r.Meta = maps.Clone(r.Meta) // another registrator lives that keeps this row
			delete(r.Meta, service.Owner)
		}
	}
	if !r.Owned() {
		r.Status = worst(h.checks, checks)
		return r, h
	}
	for _, kind := range service.Kinds {
		check := checks[activeID(s.ID, kind)]
		if check == nil || check.ServiceID != s.ID {
			continue
		}
		print, since := readNotes(check.Notes)
		r.Checks = append(r.Checks, service.Check{
			Kind: kind, Print: print, Status: service.Status(check.Status), Output: check.Output, CriticalSince: since,
		})
	}
	return r, h
}

// worst is how a row of somebody else is, by all its checks.
func worst(ids []string, checks map[string]*api.AgentCheck) service.Status {
	status := service.Passing
	for _, id := range ids {
		switch now := service.Status(checks[id].Status); {
		case now == service.Critical || status == service.Critical:
			status = service.Critical
		case now == service.Warning:
			status = service.Warning
		}
	}
	return status
}

// given are the tagged addresses that somebody gave to a service: an agent adds its own
// (lan_ipv4, wan_ipv4), which say what the address says.
func given(s *api.AgentService) map[string]api.ServiceAddress {
	addresses := maps.Clone(s.TaggedAddresses)
	maps.DeleteFunc(addresses, func(name string, _ api.ServiceAddress) bool { return strings.HasPrefix(name, "wan") })
	if len(addresses) == 1 {
		maps.DeleteFunc(addresses, func(_ string, at api.ServiceAddress) bool { return at.Address == s.Address && at.Port == s.Port })
	}
	return addresses
}

// Watch calls wake for every change of the agent's node that the catalog sees, until ctx ends.
func (a *Agent) Watch(ctx context.Context, failed func(error, time.Duration), wake func()) error {
	ask := func(q *api.QueryOptions) (api.HealthChecks, *api.QueryMeta, error) {
		return a.consul.Health().Node(a.opt.Node, q)
	}
	return consul.Watch(ctx, ask, consul.WatchOptions{Failed: failed}, func(api.HealthChecks, *api.QueryMeta) { wake() })
}

// Self is who answers at the Consul address.
type Self struct {
	Node    string // name of the agent's own node
	Address string // that other agents reach it at
	Server  bool
}

// ErrHidden says that the token may not ask an agent who it is.
var ErrHidden = errors.New("the token may not ask an agent who it is (agent:read)")

// Who asks who answers at the Consul address; every server and every client agent can tell. The
// error wraps ErrHidden when the token may not know.
func Who(ctx context.Context, client *api.Client) (Self, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// The client's own Self takes no context.
	var doc struct {
		Config struct {
			NodeName string
			Server   bool
		}
		Member struct{ Addr string }
	}
	_, err := client.Raw().Query("/v1/agent/self", &doc, (&api.QueryOptions{}).WithContext(ctx))
	var status api.StatusError
	switch {
	case errors.As(err, &status) && status.Code == http.StatusForbidden:
		return Self{}, fmt.Errorf("ask consul who answers: %w", ErrHidden)
	case err != nil:
		return Self{}, fmt.Errorf("ask consul who answers: %w", err)
	case doc.Config.NodeName == "":
		return Self{}, errors.New("ask consul who answers: it names no node")
	}
	return Self{Node: doc.Config.NodeName, Address: doc.Member.Addr, Server: doc.Config.Server}, nil
}
