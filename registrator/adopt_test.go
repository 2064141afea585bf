package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/testbed"
	"fairway/registrator/catalog"
	"fairway/registrator/service"
)

// TestAdopter_C97_anAgentThatHangsDelaysOnePass: what our containers do must be written without delay,
// whatever has become of the agent that holds the rows to adopt.
func TestAdopter_C97_anAgentThatHangsDelaysOnePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32 // two requests at a time
		client, err := api.NewClient(&api.Config{HttpClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})}})
		if err != nil {
			t.Fatal(err)
		}
		log := &testbed.Log{}
		a := &adopter{hosts: []string{"n"}, old: client, log: hclog.New(&hclog.LoggerOptions{Output: log}), told: map[string]service.Adoption{}}
		pass := func() time.Duration {
			began := time.Now()
			a.finish(t.Context(), a.judge(t.Context(), &catalog.Observed{}, service.Plan{}, nil))
			return time.Since(began)
		}
		if pass() == 0 {
			t.Fatal("nothing hangs")
		}
		for range 10 {
			if took := pass(); took > 0 {
				t.Errorf("a later pass took %s", took)
			}
		}
		if n := log.Count("cannot adopt"); n != 1 {
			t.Errorf("told %d times:\n%s", n, log)
		}
		before := asked.Load()
		time.Sleep(adoptRest)
		if pass(); asked.Load() == before {
			t.Error("it is never asked again")
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestAdopter_aRefusalIsToldOnce, and the other rows are removed all the same.
func TestAdopter_aRefusalIsToldOnce(t *testing.T) {
	var removed atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/services"):
			fmt.Fprint(w, `{"n:web:80":{"ID":"n:web:80","Service":"web"},"n:api:80":{"ID":"n:api:80","Service":"api"}}`)
		case strings.HasSuffix(r.URL.Path, "/checks"):
			fmt.Fprint(w, `{}`)
		case strings.HasSuffix(r.URL.Path, "n:web:80"):
			http.Error(w, "Permission denied", http.StatusForbidden)
		default:
			removed.Add(1)
		}
	}))
	defer server.Close()
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	log := &testbed.Log{}
	a := &adopter{hosts: []string{"n"}, old: client, log: hclog.New(&hclog.LoggerOptions{Output: log}), told: map[string]service.Adoption{}}
	for range 3 {
		a.finish(t.Context(), a.judge(t.Context(), &catalog.Observed{}, service.Plan{}, nil))
	}
	if n := log.Count("Permission denied"); n != 1 || removed.Load() != 3 {
		t.Errorf("told %d times, the other row removed %d times:\n%s", n, removed.Load(), log)
	}
}
