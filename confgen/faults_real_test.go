//go:build real

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// SIGHUP reads templates again that look unchanged; broken ones leave the good ones in use.
func TestRun_F42_SIGHUPWithABrokenTemplate(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	file := filepath.Join(t.TempDir(), "extra.tmpl")
	long := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, long, long); err != nil { // of the same length and time: only a signal tells
			t.Fatal(err)
		}
	}
	write("good one")
	c := r.confgen("--template", file)
	r.haproxy()
	c.ready()
	before := r.files()
	write("{{if}}..")
	if s := c.status(); s.Template != "" {
		t.Fatalf("known before the signal: %s", s.Template)
	}
	for range 3 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, 5*time.Second, "the error is shown", func() error {
			if s := c.status(); !strings.Contains(s.Template, "extra.tmpl:1") {
				return errors.New(s.Template)
			}
			return nil
		})
	}
	if !maps.Equal(before, r.files()) {
		t.Error("files were touched")
	}
	r.register("other", r.web("other"), "passing", host("other.test"))
	r.answers("other.test", "other")
	c.ready()
	write("good two")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	testbed.Eventually(t, 5*time.Second, "mended", func() error {
		data, err := os.ReadFile(filepath.Join(r.dir, "extra"))
		if string(data) != "good two" {
			return fmt.Errorf("%q, %w", data, err)
		}
		return nil
	})
}

// Asked to end while a check hangs, confgen ends soon (the rig allows 5 s), leaves the old files
// and no process, and the next one goes on.
func TestRun_F43_endedInTheMiddleOfAPass(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	pidFile := filepath.Join(t.TempDir(), "pid")
	checker := filepath.Join(t.TempDir(), "check")
	script := fmt.Sprintf("#!/bin/sh\nif [ -e %[1]s.hang ]; then echo $$ >%[1]s.tmp; mv %[1]s.tmp %[1]s; sleep 600 & wait; fi\n", pidFile)
	if err := os.WriteFile(checker, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c := r.confgen("--check-command", checker+" {{file}}", "--check-timeout", "5m")
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	before := r.files()
	if err := os.WriteFile(pidFile+".hang", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.register("other", r.web("other"), "passing", host("other.test"))
	var pid int
	testbed.Eventually(t, 10*time.Second, "the check hangs", func() error {
		data, err := os.ReadFile(pidFile)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		return err
	})
	c.stop()
	if !maps.Equal(before, r.files()) {
		t.Error("files were touched")
	}
	testbed.Eventually(t, 5*time.Second, "no process is left", func() error {
		if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("group %d: %w", pid, err)
		}
		return nil
	})
	r.answers("cluster.test", "a")
	r.confgen().ready()
	r.answers("other.test", "other")
}

// A token that is replaced in its file is used without a restart.
func TestRun_F16_tokenIsRotated(t *testing.T) {
	const admin = "00000000-0000-0000-0000-000000000001"
	r := newRig(t, "haproxy", "-hcl", `acl { enabled = true, default_policy = "allow", token_ttl = "1s", policy_ttl = "1s", tokens { initial_management = "`+admin+`" } }`)
	tokens := r.consul.Client.ACL()
	write := &api.WriteOptions{Token: admin}
	create := func() (token *api.ACLToken) {
		t.Helper()
		testbed.Eventually(t, 10*time.Second, "a token", func() (err error) {
			token, _, err = tokens.TokenCreate(&api.ACLToken{Description: "confgen"}, write)
			return err
		})
		return token
	}
	first, second := create(), create()
	file := filepath.Join(t.TempDir(), "token")
	give := func(token *api.ACLToken) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token.SecretID+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	give(first)
	r.register("web", r.web("a"), "passing", host("cluster.test"))
	c := r.confgen("--consul-token-file", file)
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	if _, err := tokens.TokenDelete(first.AccessorID, write); err != nil {
		t.Fatal(err)
	}
	b := r.web("b")
	testbed.Eventually(t, 20*time.Second, "the lost token is shown", func() error {
		r.register("web", b, "passing", host("cluster.test")) // ends the blocking queries
		code, body := get(t, "http://"+c.addr+"/readyz", "")
		r.deregister(b)
		if code != 503 || !strings.Contains(body, "ACL not found") {
			return fmt.Errorf("%d %q", code, body)
		}
		return nil
	})
	if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "cluster.test"); code != 200 {
		t.Errorf("the last state is not kept: %d %s", code, body)
	}
	give(second)
	c.ready()
	r.register("web", r.web("c"), "passing", host("cluster.test"))
	r.answers("cluster.test", "a", "c")
	for _, token := range []*api.ACLToken{first, second} {
		if strings.Contains(r.log.String(), token.SecretID) {
			t.Error("a token was logged")
		}
	}
}

// A storm of changes of both kinds costs no more reloads than the interval allows, and its last
// state wins.
func TestRun_F38_aStormOfChanges(t *testing.T) {
	const storm, every, interval = 6 * time.Second, 10 * time.Millisecond, time.Second
	r := newRig(t, "haproxy")
	a, b, guest := r.web("a"), r.web("b"), r.web("guest")
	r.register("web", a, "passing", host("cluster.test"))
	c := r.confgen("--reload-interval", interval.String(), "--old-workers", "100")
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	reloads := c.metric("fairway_confgen_reloads_total")
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	rounds, changes := 0, 0
	for time.Since(began) < storm {
		<-tick.C
		rounds++
		r.register("web", b, []string{"passing", "critical"}[rounds%2], host("cluster.test"))
		r.register("guest", guest, "passing", host(fmt.Sprintf("guest-%d.test", rounds%7)))
		if rounds%5 == 0 {
			r.deregister(guest)
		}
		changes += 2 + r.shuffle(rounds)
	}
	r.register("web", b, "passing", host("cluster.test"))
	r.register("guest", guest, "passing", host("last.test"))
	took := time.Since(began)
	r.answers("last.test", "guest")
	r.answers("cluster.test", "a", "b")
	if rate := float64(changes) / took.Seconds(); rate < 100 {
		t.Errorf("only %.0f changes a second", rate)
	}
	n := c.metric("fairway_confgen_reloads_total") - reloads
	if most := float64(time.Since(began)/interval) + 2; n < 1 || n > most {
		t.Errorf("%g reloads for %d changes in %s, want 1 to %g", n, changes, took, most)
	}
	testbed.Eventually(t, 10*time.Second, "the newest state is live", func() error {
		if s := c.status(); s.Apply.Error != "" || s.Apply.Deferred != "" || s.Apply.Applied != s.Snapshot.Version {
			return fmt.Errorf("%+v", s.Apply)
		}
		return nil
	})
	t.Logf("%d changes in %s: %g reloads", changes, took, n)
}

// shuffle changes the servers of many services in one transaction and returns how many.
func (r *rig) shuffle(round int) int {
	r.t.Helper()
	var ops api.TxnOps
	for i := range 50 {
		name := fmt.Sprintf("shuffled-%d", i)
		ops = append(ops, &api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "n1", Service: api.AgentService{
			ID: name, Service: name, Address: "127.0.0.1", Port: 20000 + (round+i)%40, Meta: host(name + ".test"),
		}}})
	}
	if ok, answer, _, err := r.consul.Client.Txn().Txn(ops, nil); err != nil || !ok {
		r.t.Fatalf("transaction: %v, %+v", err, answer)
	}
	return len(ops)
}
