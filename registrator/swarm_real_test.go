//go:build real

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"fairway/internal/testbed"
)

// TestSwarm has a Swarm of one node; several nodes are tested on scripts/cluster.
func TestSwarm(t *testing.T) {
	w := newWorld(t)
	w.engine.Run("swarm", "init", "--advertise-addr", "172.17.0.1")
	// Swarm pulls before it uses what is there: from a registry that refuses at once.
	const image = "127.0.0.1:1/web:1"
	w.engine.Image(image)
	w.start(func(o *Options) { o.IP = "" })
	w.ready()

	// tasks waits until so many rows pass and returns them.
	tasks := func(w *world, want int) (ids []string) {
		w.t.Helper()
		testbed.Eventually(w.t, 3*soon, fmt.Sprintf("%d tasks pass", want), func() error {
			rows, err := w.rows()
			if err != nil {
				return err
			}
			ids = nil
			for id, text := range rows {
				if text == passing {
					ids = append(ids, id)
				}
			}
			if len(ids) != want || len(rows) != want {
				return fmt.Errorf("rows %v", rows)
			}
			return nil
		})
		return ids
	}

	// settled waits until the manager knows that the task runs, too: scaling before that is lost on
	// some engines ("update out of sequence").
	settled := func(w *world, service string) {
		w.t.Helper()
		testbed.Eventually(w.t, soon, "the manager knows", func() error {
			state := w.engine.Run("service", "ps", "-f", "desired-state=running", "--format", "{{.CurrentState}}", service)
			if !strings.HasPrefix(state, "Running") {
				return errors.New(state)
			}
			return nil
		})
	}

	w.sub("C107_hostModePort", func(t *testing.T, w *world) {
		w.engine.Run("service", "create", "-d", "--name", "stack_web", "--publish", "mode=host,target=8080,published=8088",
			"--container-label", "fairway.host=cluster.test", "--no-resolve-image", image, "-drain", "100ms")
		s := w.service(tasks(w, 1)[0])
		if s.Service != "stack_web" || s.Address != "172.17.0.1" || s.Port != 8088 || s.Meta["fairway-host"] != "cluster.test" {
			t.Errorf("registered %s at %s:%d, %v", s.Service, s.Address, s.Port, s.Meta)
		}
		if !strings.HasPrefix(s.ID, testNode+":stack_web.1.") || !strings.HasSuffix(s.ID, ":8080") {
			t.Errorf("ID %s", s.ID)
		}
		node, _, err := w.consul.Client.Catalog().Node(testNode, nil)
		if err != nil {
			t.Fatal(err)
		}
		if id := w.engine.Run("info", "-f", "{{.Swarm.NodeID}}"); node.Node.Meta["fairway-swarm-node"] != id || node.Node.Address != "172.17.0.1" {
			t.Errorf("node %s %v, want Swarm node %s", node.Node.Address, node.Node.Meta, id)
		}
	})

	w.sub("C112_scaledToZero", func(t *testing.T, w *world) {
		settled(w, "stack_web")
		w.engine.Run("service", "scale", "-d", "stack_web=0")
		w.is(map[string]string{})
		w.engine.Run("service", "scale", "-d", "stack_web=1")
		tasks(w, 1)
		w.engine.Run("service", "rm", "stack_web")
		w.is(map[string]string{})
	})

	w.sub("stopSignalIsSeenOnScaleDown", func(t *testing.T, w *world) {
		w.engine.Run("service", "create", "-d", "--name", "slow", "--publish", "mode=host,target=8080,published=8089",
			"--no-resolve-image", image, "-drain", "3s")
		id := tasks(w, 1)[0]
		settled(w, "slow")
		w.engine.Run("service", "scale", "-d", "slow=0")
		testbed.Eventually(t, soon, "the task is stopping", func() error {
			rows, err := w.rows()
			if err == nil && rows[id] != "critical: stopping" {
				err = errors.New(rows[id])
			}
			return err
		})
		w.is(map[string]string{})
	})
}
