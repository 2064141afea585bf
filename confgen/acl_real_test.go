//go:build real

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	follow "fairway/internal/consul"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// TestACL_frontEnd runs confgen with exactly the policy of examples/acl against a Consul that denies
// by default, and shows what is missing without each of its rules.
func TestACL_frontEnd(t *testing.T) {
	t.Parallel()
	consul := testbed.ConsulACL(t)
	rules := testbed.Policy(t, "front-end.hcl")
	ask := &rig{t: t, consul: consul}
	ask.register("shop", ask.web("shop.1"), "passing", host("shop.test"))
	if _, err := consul.Client.KV().Put(&api.KVPair{Key: "fairway/override/shop/weight", Value: []byte("7")}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := consul.Client.KV().Put(&api.KVPair{Key: follow.HintKey("n1"), Value: []byte(`{}`)}, nil); err != nil {
		t.Fatal(err)
	}
	// sees renders once with a token and reports what of the world is in the files.
	sees := func(t *testing.T, rules string) (sees map[string]bool, out string) {
		dir, err := os.MkdirTemp("", "fw")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		r := &rig{t: t, consul: consul, kind: "haproxy", dir: dir, port: testbed.Port(t), log: &testbed.Log{}}
		token := consul.TokenFor(t, rules)
		code, out := r.once("--once", "--timeout", "2s", "--reload", "command:true", "--consul-token", token)
		files, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		text := string(files)
		hints, _, err := consul.Client.KV().List(follow.HintPrefix, &api.QueryOptions{Token: token})
		if err != nil && !strings.Contains(err.Error(), "Permission denied") {
			t.Fatal(err)
		}
		return map[string]bool{
			"instances": strings.Contains(text, "shop"),
			"overrides": strings.Contains(text, "weight 7"),
			"hints":     len(hints) > 0,
		}, fmt.Sprintf("exit code %d: %s\n%s", code, out, r.log)
	}
	if got, out := sees(t, testbed.Without(t, rules, "")); !got["instances"] || !got["overrides"] || !got["hints"] {
		t.Fatalf("with the whole policy: %v: %s", got, out)
	}
	missing := map[string]string{
		`service_prefix ""`: "instances", `node_prefix ""`: "instances", `key_prefix "fairway/override/"`: "overrides",
		`key_prefix "fairway/changed/"`: "hints",
	}
	for _, rule := range rules {
		what := missing[rule.Name]
		if what == "" {
			t.Errorf("nothing proves that %s is needed", rule.Name)
			continue
		}
		if got, out := sees(t, testbed.Without(t, rules, rule.Name)); got[what] {
			t.Errorf("without %s it still sees %s: %s", rule.Name, what, out)
		}
	}
}

// TestACL_operator runs confgen set with exactly the policy of examples/acl, and without each rule.
func TestACL_operator(t *testing.T) {
	t.Parallel()
	consul := testbed.ConsulACL(t)
	rules := testbed.Policy(t, "operator.hcl")
	r := &rig{t: t, consul: consul}
	r.register("shop", r.web("shop.1"), "passing", host("shop.test"))
	set := func(token string, args ...string) (int, string) {
		return command(t, append([]string{args[0], "--consul-addr", consul.Addr, "--consul-token", token}, args[1:]...)...)
	}
	all := consul.TokenFor(t, testbed.Without(t, rules, ""))
	for _, args := range [][]string{{"set", "shop", "weight", "7"}, {"overrides"}, {"unset", "shop", "weight"}} {
		if code, out := set(all, args...); code != 0 || strings.Contains(out, all) {
			t.Errorf("%q: %d: %s", args, code, out)
		}
	}
	for _, rule := range rules {
		token := consul.TokenFor(t, testbed.Without(t, rules, rule.Name))
		testbed.Eventually(t, 5*time.Second, "without "+rule.Name+" it is refused", func() error {
			if code, out := set(token, "set", "shop", "weight", "9"); code == 0 {
				return errors.New(out)
			}
			return nil
		})
	}
	if p, _, err := consul.Client.KV().Get("fairway/override/shop/weight", nil); err != nil || p != nil {
		t.Errorf("refused, and set all the same: %v, %v", p, err)
	}
}
