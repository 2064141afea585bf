//go:build real

package soak

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// TestChecker shows that the soak's checker agrees with a right catalog and sees every kind of
// falsified row.
func TestChecker(t *testing.T) {
	w := newWorld(t)
	for kind := range kinds {
		name := fmt.Sprintf("c%d", kind)
		w.engine.Run(create(name, kind)...)
		w.engine.Run("start", name)
	}
	w.engine.Run("pause", "c0")
	w.engine.Run("network", "connect", "green", "c4")
	w.engine.Run("network", "connect", "blue", "c6")
	testbed.Eventually(t, 20*time.Second, "the catalog is equal to the engine", w.check)
	for _, n := range w.nodes { // so that nothing is mended
		if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		for _, n := range w.nodes {
			if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}
	}()
	for _, n := range w.nodes {
		for fault, falsify := range falsifications {
			t.Run(n.name+"/"+fault, func(t *testing.T) { w.falsified(t, n.name, falsify) })
		}
	}
}

// falsifications change what a registration holds: a service and its checks.
var falsifications = map[string]func(*api.CatalogRegistration){
	"missing":     nil,
	"extra":       func(r *api.CatalogRegistration) { r.Service.ID, r.Checks = "extra", nil },
	"address":     func(r *api.CatalogRegistration) { r.Service.Address = "192.0.2.66" },
	"port":        func(r *api.CatalogRegistration) { r.Service.Port++ },
	"name":        func(r *api.CatalogRegistration) { r.Service.Service += "x"; setName(r) },
	"tags":        func(r *api.CatalogRegistration) { r.Service.Tags = []string{"b", "a"} },
	"metaChanged": func(r *api.CatalogRegistration) { r.Service.Meta = withMeta(r, "region", "us") },
	"metaExtra":   func(r *api.CatalogRegistration) { r.Service.Meta = withMeta(r, "more", "1") },
	"owner": func(r *api.CatalogRegistration) {
		r.Service.Meta = withMeta(r, "fairway-container", "0123456789ab:8080/tcp")
	},
	"status":        func(r *api.CatalogRegistration) { r.Checks[0].Status = api.HealthCritical },
	"output":        func(r *api.CatalogRegistration) { r.Checks[0].Output = "healthy" },
	"unknownCheck":  func(r *api.CatalogRegistration) { r.Checks[0].CheckID = "x" },
	"nodeNotAlive":  func(r *api.CatalogRegistration) { r.Checks = alive(r.Node, api.HealthCritical) },
	"checkOfNobody": func(r *api.CatalogRegistration) { r.Checks[0].CheckID, r.Checks[0].ServiceID = "x", "" },
}

func setName(r *api.CatalogRegistration) {
	for _, k := range r.Checks {
		k.ServiceName = r.Service.Service
	}
}

func withMeta(r *api.CatalogRegistration, key, value string) map[string]string {
	meta := map[string]string{key: value}
	for k, v := range r.Service.Meta {
		if k != key {
			meta[k] = v
		}
	}
	return meta
}

func alive(node, status string) api.HealthChecks {
	return api.HealthChecks{{Node: node, CheckID: "fairway:alive", Name: "x", Status: status}}
}

// falsified writes one falsified row, sees the checker fail, and puts the right one back.
func (w *world) falsified(t *testing.T, node string, falsify func(*api.CatalogRegistration)) {
	catalog := w.consul.Client.Catalog()
	right, id := w.registration(t, node, ":c1:8080"), node+":c1:8080"
	register := func(r *api.CatalogRegistration) {
		t.Helper()
		if _, err := catalog.Register(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	deregister := func(d api.CatalogDeregistration) {
		t.Helper()
		d.Node = node
		if _, err := catalog.Deregister(&d, nil); err != nil {
			t.Fatal(err)
		}
	}
	if falsify == nil {
		deregister(api.CatalogDeregistration{ServiceID: id})
	} else {
		wrong := w.registration(t, node, ":c1:8080")
		falsify(wrong)
		register(wrong)
	}
	err := w.check()
	if err == nil {
		t.Error("the checker finds nothing")
	} else {
		t.Log(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	deregister(api.CatalogDeregistration{ServiceID: "extra"})
	deregister(api.CatalogDeregistration{ServiceID: id})
	deregister(api.CatalogDeregistration{CheckID: "x"})
	right.Checks = append(right.Checks, alive(node, api.HealthPassing)...)
	register(right)
	if err := w.check(); err != nil {
		t.Fatalf("put right again: %v", err)
	}
}

// registration is a row as it stands, with its checks.
func (w *world) registration(t *testing.T, node, suffix string) *api.CatalogRegistration {
	t.Helper()
	list, _, err := w.consul.Client.Catalog().NodeServiceList(node, nil)
	if err != nil {
		t.Fatal(err)
	}
	checks, _, err := w.consul.Client.Health().Node(node, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &api.CatalogRegistration{Node: node, SkipNodeUpdate: true}
	for _, s := range list.Services {
		if strings.HasSuffix(s.ID, suffix) {
			r.Service = s
		}
	}
	for _, k := range checks {
		if r.Service != nil && k.ServiceID == r.Service.ID {
			r.Checks = append(r.Checks, k)
		}
	}
	if r.Service == nil || len(r.Checks) == 0 {
		t.Fatalf("no row %s with a check on node %s", suffix, node)
	}
	return r
}
