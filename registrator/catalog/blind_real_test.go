//go:build real

package catalog

import (
	"net/netip"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// TestApply_whatNobodyLookedAtIsNotOverwritten: by what is remembered an ID is free; it has been
// taken since.
func TestApply_whatNobodyLookedAtIsNotOverwritten(t *testing.T) {
	t.Parallel()
	server := testbed.Consul(t)
	c := New(server.Client, Options{Node: service.Node{Name: "hostname", IPv4: netip.MustParseAddr("192.168.1.102")}})
	o, err := c.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes := service.Diff(o.Rows, plan("a"))
	r, err := c.Apply(t.Context(), o, changes)
	o, certain := o.After(changes, r)
	if err != nil || !certain {
		t.Fatalf("%+v, %v, %t", r, err, certain)
	}
	theirs := &api.AgentService{ID: "hostname:b:80", Service: "theirs", Address: "192.0.2.1", Port: 81}
	if _, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: "hostname", SkipNodeUpdate: true, Service: theirs}, nil); err != nil {
		t.Fatal(err)
	}
	r, err = c.Apply(t.Context(), o, service.Diff(o.Rows, plan("a", "b", "c")))
	if err != nil || r.Written != 1 || len(r.Refused) != 1 || r.Refused[0].ID != theirs.ID {
		t.Errorf("%+v, %v", r, err)
	}
	if o, err = c.Observed(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for _, row := range o.Rows {
		names[row.ID] = row.Name
	}
	if names[theirs.ID] != "theirs" || len(names) != 3 {
		t.Errorf("the catalog holds %v", names)
	}
	if problems := service.Diff(o.Rows, plan("a", "b", "c")).Problems; len(problems) != 1 {
		t.Errorf("a look says %v", problems)
	}
}

func TestObserved_Blind(t *testing.T) {
	both := service.Changes{Put: bothFamilies(plan("a", "b")).Registrations}
	known := bothFamilies(plan("a", "b")).Registrations
	for name, tt := range map[string]struct {
		o       Observed
		changes service.Changes
		blind   bool
	}{
		"looked at":            {Observed{}, both, false},
		"a new one remembered": {Observed{Remembered: true, Rows: known[:1]}, both, true},
		"old ones":             {Observed{Remembered: true, Rows: known}, both, false},
		"in a transaction":     {Observed{Remembered: true}, service.Changes{Put: plan("a", "b").Registrations}, false},
	} {
		if got := tt.o.Blind(tt.changes); got != tt.blind {
			t.Errorf("%s: blind %t", name, got)
		}
	}
}
