//go:build real

package swarm

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

func web(host string) service.SwarmService {
	return service.SwarmService{ID: "s1", Name: "web", Labels: map[string]string{"fairway.host": host}}
}

// TestShare_C111 is the life of a key: made, left alone, changed, removed; and what is not ours.
func TestShare_C111(t *testing.T) {
	t.Parallel()
	kv := testbed.Consul(t).Client
	c := New(kv)
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.KV().Put(&api.KVPair{Key: Prefix + key, Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	keys := func() Keys {
		t.Helper()
		k, err := c.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	share := func(want int, services ...service.SwarmService) {
		t.Helper()
		if n, err := c.Share(t.Context(), keys(), "ours", services); err != nil || n != want {
			t.Errorf("%d keys written, want %d: %v", n, want, err)
		}
	}
	put("theirs", `{"swarm":"another","name":"x"}`)
	put("damaged", `{`)
	api2 := service.SwarmService{ID: "s2", Name: "api", Stopped: true}
	share(2, web("a.test"), api2)
	share(0, web("a.test"), api2)
	share(1, web("b.test"), api2)
	if got := keys().Services(); got["s1"].Labels["fairway.host"] != "b.test" || !got["s2"].Stopped || got["theirs"].Name != "x" || got["damaged"] != nil {
		t.Errorf("read %v", got)
	}
	put("s1", `{`) // a value by hand is put right
	share(1, web("b.test"), api2)
	put("s1", `{"swarm":"ours","name":"web","labels":{"fairway.host":"b.test"},"of tomorrow":7}`) // a newer registrator's is not
	share(0, web("b.test"), api2)
	share(1, web("b.test"))
	if k := keys(); len(k) != 3 || k["s2"].index != 0 {
		t.Errorf("left %v", k)
	}
}

// TestShare_C111_aLateManagerOverwritesNothing: two managers share; one of them got its answer from
// Docker before the service was changed, and writes after the other.
func TestShare_C111_aLateManagerOverwritesNothing(t *testing.T) {
	t.Parallel()
	c := New(testbed.Consul(t).Client)
	late, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, written, want int, err error, host string) {
		t.Helper()
		keys, readErr := c.Read(t.Context())
		if err != nil || readErr != nil || written != want {
			t.Fatalf("%s: %d written, want %d: %v, %v", what, written, want, err, readErr)
		}
		got := ""
		if s := keys.Services()["s1"]; s != nil {
			got = s.Labels["fairway.host"]
		}
		if got != host {
			t.Errorf("%s: %q, want %q", what, got, host)
		}
	}
	n, err := c.Share(t.Context(), late, "ours", []service.SwarmService{web("new.test")})
	check("the first", n, 1, err, "new.test")
	n, err = c.Share(t.Context(), late, "ours", []service.SwarmService{web("old.test")})
	check("one that saw no key", n, 0, err, "new.test")
	late, err = c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err = c.Share(t.Context(), late, "ours", []service.SwarmService{web("newest.test")})
	check("a change", n, 1, err, "newest.test")
	n, err = c.Share(t.Context(), late, "ours", nil)
	check("one that knew of no service", n, 0, err, "newest.test")
	now, err := c.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n, err = c.Share(t.Context(), now, "ours", nil)
	check("removed", n, 1, err, "")
	n, err = c.Share(t.Context(), now, "ours", []service.SwarmService{web("newest.test")})
	check("one that knew it still", n, 0, err, "")
}

// TestWatch_C111_followsAndRests sees every change, and asks no more than blocking queries do.
func TestWatch_C111_followsAndRests(t *testing.T) {
	t.Parallel()
	kv := testbed.Consul(t).Client
	c := New(kv)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var seen []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Watch(ctx, nil, func(k Keys) { // it ends with ctx
			mu.Lock()
			defer mu.Unlock()
			host := "nothing"
			if s := k.Services()["s1"]; s != nil {
				host = s.Labels["fairway.host"]
			}
			seen = append(seen, host)
		})
	}()
	defer func() { cancel(); <-done }()
	is := func(want string) {
		t.Helper()
		testbed.Eventually(t, 5*time.Second, "the watch sees "+want, func() error {
			mu.Lock()
			defer mu.Unlock()
			if len(seen) == 0 || seen[len(seen)-1] != want {
				return fmt.Errorf("seen %q", seen)
			}
			return nil
		})
	}
	is("nothing")
	for _, host := range []string{"a.test", "b.test"} {
		keys, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Share(ctx, keys, "ours", []service.SwarmService{web(host)}); err != nil {
			t.Fatal(err)
		}
		is(host)
	}
	// What nodes write elsewhere under fairway/ wakes nobody here.
	mu.Lock()
	before := len(seen)
	mu.Unlock()
	for i := range 50 {
		if _, err := kv.KV().Put(&api.KVPair{Key: fmt.Sprintf("fairway/nodes/n%d", i), Value: []byte("{}")}, nil); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != before {
		t.Errorf("woken %d times by other keys: %s", len(seen)-before, strings.Join(seen, " "))
	}
}
