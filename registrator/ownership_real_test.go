//go:build real

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// TestOwnership_aRowThatNobodyToldOf: somebody registers a service on our node, without a check, of
// which Consul tells nobody who watches the node's health, under the ID of a container that starts
// only then. It stays his. The rows here have tagged addresses, so what a glance remembers is not acted
// upon; where it is, the transaction asserts that there is no such row (catalog, blind_real_test.go).
func TestOwnership_aRowThatNobodyToldOf(t *testing.T) {
	w := newWorld(t)
	w.run("first", "web")
	w.run("late", "web")
	w.engine.Run("stop", "late") // what there is to a container that is created is seen by then
	w.start()
	w.row(id("first"), passing)
	w.ready()
	w.quiet()
	theirs := api.AgentService{ID: id("late"), Service: "theirs", Address: "192.0.2.1", Port: 81}
	if _, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{Node: testNode, SkipNodeUpdate: true, Service: &theirs}, nil); err != nil {
		t.Fatal(err)
	}
	w.engine.Run("start", "late")
	w.run("last", "web")
	w.row(id("last"), passing)
	testbed.Eventually(t, soon, "it is reported", func() error {
		if !strings.Contains(w.log.String(), "the ID "+theirs.ID+" belongs to a row") {
			return errors.New("no word of it in the log")
		}
		return nil
	})
	time.Sleep(time.Second) // a few passes more
	list, _, err := w.consul.Client.Catalog().NodeServiceList(testNode, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Services {
		if s.ID == theirs.ID && s.Service == theirs.Service && s.Port == theirs.Port {
			return
		}
	}
	t.Errorf("the row is not his any more: %+v", list.Services)
}
