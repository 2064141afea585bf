//go:build real

package liveness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/consul"
	"fairway/internal/testbed"
)

// clientOf is a client that tries servers in turn, as the program's does.
func clientOf(t *testing.T, servers ...*testbed.ConsulServer) *api.Client {
	t.Helper()
	var cfg consul.Config
	for _, s := range servers {
		cfg.Addresses = append(cfg.Addresses, s.Addr)
	}
	c, err := consul.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leaderFirst sorts three servers so that the leader comes first.
func leaderFirst(t *testing.T, servers []*testbed.ConsulServer) (leader, second, third *testbed.ConsulServer) {
	t.Helper()
	raft, err := servers[0].Client.Operator().RaftGetConfiguration(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		for _, member := range raft.Servers {
			if member.Leader && member.Node == fmt.Sprintf("consul-server-%d", i+1) {
				return s, servers[(i+1)%3], servers[(i+2)%3]
			}
		}
	}
	t.Fatalf("no leader among %+v", raft.Servers)
	return nil, nil, nil
}

// TestLiveness_C103_aLostLeaderIsNoAlarm kills the leader of three servers. Another leads, and in
// more than the time after which a silent node is taken out, no node is.
func TestLiveness_C103_aLostLeaderIsNoAlarm(t *testing.T) {
	t.Parallel()
	servers := testbed.ConsulServers(t, 3)
	for _, n := range []string{"a", "b"} {
		registered(t, servers[0].Client, n)
	}
	leader, second, third := leaderFirst(t, servers)
	start(t, clientOf(t, leader, second, third), "a", time.Second)
	reaper := waitHeld(t, second.Client, reaperKey)
	start(t, clientOf(t, leader, second, third), "b", time.Second)
	waitHeld(t, second.Client, nodePrefix+"b")

	leader.Stop()
	died, looks := time.Now(), 0
	for time.Since(died) < 2*MinTTL+5*time.Second {
		entries, _, err := second.Client.Health().Service("web", "", true, &api.QueryOptions{AllowStale: true})
		if err == nil && len(entries) != 2 {
			t.Fatalf("%s after the leader died %d of 2 instances pass", time.Since(died), len(entries))
		}
		if err == nil {
			looks++
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("ended")
		}
	}
	if looks < 100 {
		t.Errorf("only %d looks succeeded", looks)
	}
	testbed.Eventually(t, 10*time.Second, "the two agree on a reaper", func() error {
		holder, err := keyHeld(second.Client, reaperKey)
		if err == nil && holder != reaper {
			t.Logf("another reaper: %s, was %s", holder, reaper)
		}
		return err
	})
}

// TestReaper_C103_onlyOneActs cuts the reaper off together with the server it talks to. Its node is
// taken out by another reaper; and what it had sent before it knew, against a node that is alive,
// changes nothing when its server is back.
func TestReaper_C103_onlyOneActs(t *testing.T) {
	t.Parallel()
	servers := testbed.ConsulServers(t, 3)
	leader, cutOff, third := leaderFirst(t, servers)
	for _, n := range []string{"a", "b", "c"} {
		registered(t, leader.Client, n)
	}
	a, _ := start(t, clientOf(t, cutOff), "a", 0)
	reaperA := waitHeld(t, leader.Client, reaperKey)
	start(t, clientOf(t, leader, third), "b", 0)
	start(t, clientOf(t, third, leader), "c", 0)
	waitHeld(t, leader.Client, nodePrefix+"b")
	waitHeld(t, leader.Client, nodePrefix+"c")
	key, _, err := leader.Client.KV().Get(nodePrefix+"c", nil)
	if err != nil {
		t.Fatal(err)
	}

	cutOff.Hang()
	died := time.Now()
	testbed.Eventually(t, 5*time.Second, "its server stands still", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := cutOff.Client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx)); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
	value, err := json.Marshal(life{Lost: time.Now().UTC()})
	if err != nil {
		t.Fatal(err)
	}
	sent := background(func() error {
		_, err := a.commit(t.Context(), api.TxnOps{ // as execute does, once it has looked the node up
			holds(reaperA),
			{KV: &api.KVTxnOp{Verb: api.KVCAS, Key: nodePrefix + "c", Value: value, Index: key.ModifyIndex}},
			{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{Node: "c", CheckID: CheckID, Name: "x", Status: api.HealthCritical}}},
		})
		return err
	})
	testbed.Within(t, 3*MinTTL, "another reaper takes the cut-off one out, and nobody else", func() error {
		return passing(leader.Client, "b", "c")
	})
	t.Logf("taken out %s after the cut", time.Since(died).Round(time.Millisecond))
	if holder := waitHeld(t, leader.Client, reaperKey); holder == reaperA {
		t.Error("the one that was cut off still holds the lock")
	}
	<-sent
	cutOff.Resume()
	testbed.Eventually(t, 15*time.Second, "the node that was cut off is back", func() error {
		session, err := keyHeld(leader.Client, nodePrefix+"a")
		if err == nil && session != a.session.get() {
			err = errors.New("with a session that it does not know")
		}
		return err
	})
	for range 40 {
		if err := passing(leader.Client, "b", "c"); err != nil {
			t.Fatalf("after the cut: %v", err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("ended")
		}
	}
}
