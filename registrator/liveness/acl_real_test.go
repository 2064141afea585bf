//go:build real

package liveness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"

	"fairway/internal/testbed"
)

// TestReaper_mayNotWriteTheNode elects a registrator whose token allows it only its own node: it
// says so once, and goes on trying.
func TestReaper_mayNotWriteTheNode(t *testing.T) {
	t.Parallel()
	const master = "11111111-2222-3333-4444-555555555555"
	s := testbed.Consul(t, "-hcl", `acl { enabled = true  default_policy = "allow"  tokens { initial_management = "`+master+`" } }`)
	asMaster := &api.WriteOptions{Token: master}
	policy, _, err := s.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "narrow", Rules: `node "a" { policy = "read" }`}, asMaster)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, asMaster)
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64 // transactions
	narrow, err := api.NewClient(&api.Config{Address: s.Addr, Token: token.SecretID, HttpClient: &http.Client{
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/v1/txn" {
				sent.Add(1)
			}
			return http.DefaultTransport.RoundTrip(r)
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	registered(t, s.Client, "a")
	registered(t, s.Client, "b")
	if _, err := s.Client.KV().Put(&api.KVPair{Key: Key("a"), Value: []byte("{}")}, nil); err != nil {
		t.Fatal(err)
	}
	var log lines
	l := New(narrow, Options{Node: "b", TTL: MinTTL, Log: hclog.New(&hclog.LoggerOptions{Output: &log})})
	ctx, cancel := context.WithCancel(t.Context())
	ended := background(func() error { return l.Run(ctx) })
	defer func() { cancel(); <-ended }()

	testbed.Eventually(t, MinTTL+5*time.Second, "the refusal is told", func() error {
		if log.count("cannot act on a silent node") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	before := sent.Load()
	testbed.Eventually(t, MinTTL, "it is tried again", func() error {
		if n := sent.Load() - before; n < 2 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	policy.Rules = strings.Replace(policy.Rules, `"read"`, `"write"`, 1)
	if _, _, err := s.Client.ACL().PolicyUpdate(policy, asMaster); err != nil {
		t.Fatal(err)
	}
	testbed.Within(t, MinTTL, "the silent node is taken out", func() error { return passing(s.Client, "b") })
	if n := log.count("cannot act on a silent node"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// lines keeps a log.
type lines struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}
