//go:build real

package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// TestApply_hintReal follows the keys as confgen does: each write of ours is one answer, also of a
// service that was written before, and the row can be read by then.
func TestApply_hintReal(t *testing.T) {
	t.Parallel()
	server := testbed.Consul(t)
	c := New(server.Client, Options{Node: service.Node{Name: "hostname", IPv4: netip.MustParseAddr("192.168.1.102")}})
	answers := make(chan string, 100)
	ask := func(q *api.QueryOptions) (api.KVPairs, *api.QueryMeta, error) {
		return server.Client.KV().List(consul.HintPrefix, q)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- consul.Watch(ctx, ask, consul.WatchOptions{}, func(keys api.KVPairs, _ *api.QueryMeta) {
			for _, k := range keys {
				h, err := consul.ReadHint(k.Value)
				if err != nil {
					answers <- err.Error()
					return
				}
				answers <- fmt.Sprint(h.Node, " ", h.After(time.Time{}))
			}
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	says := func(want string) {
		t.Helper()
		select {
		case got := <-answers:
			if got != want {
				t.Errorf("hint %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no hint, want %q", want)
		}
	}
	done(t, c, plan("a"))
	says("hostname [a]")
	for _, status := range []service.Status{service.Critical, service.Passing} { // the same hint again and again
		p := plan("a")
		p.Registrations[0].Status = status
		done(t, c, p)
		says("hostname [a]")
		list, _, err := server.Client.Health().Checks("a", nil)
		if err != nil || len(list) != 1 || list[0].Status != string(status) {
			t.Errorf("at the hint %v, %v, want %s", list, err, status)
		}
	}
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("s%02d", i))
	}
	done(t, c, plan(names...)) // a goes; more than one transaction
	rows, _, err := server.Client.Catalog().NodeServiceList("hostname", nil)
	if err != nil || len(rows.Services) != len(names) {
		t.Fatalf("%v, %v", rows, err)
	}
	key, _, err := server.Client.KV().Get(consul.HintKey("hostname"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := consul.ReadHint(key.Value)
	if err != nil || !slices.Contains(h.After(time.Time{}), names[len(names)-1]) {
		t.Errorf("the last hint is %+v, %v", h, err)
	}
}
