//go:build real

package main

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

// swarmImage is pulled by Swarm before it uses what is there: from a registry that refuses at once.
const swarmImage = "127.0.0.1:1/web:1"

// create makes a Swarm service of the web image.
func (w *world) create(name string, args ...string) {
	w.t.Helper()
	w.engine.Run(slices.Concat([]string{"service", "create", "-d", "--name", name, "--no-resolve-image", "--update-monitor", "200ms"}, args, []string{swarmImage, "-drain", "500ms"})...)
}

// instances waits until a service has exactly these instances, "id address:port", all passing.
func (w *world) instances(name string, want ...string) {
	w.t.Helper()
	slices.Sort(want)
	testbed.Eventually(w.t, 3*soon, "instances of "+name, func() error {
		entries, _, err := w.consul.Client.Health().Service(name, "", false, nil)
		if err != nil {
			return err
		}
		var got []string
		for _, e := range entries {
			if status := e.Checks.AggregatedStatus(); status != api.HealthPassing {
				return fmt.Errorf("%s is %s", e.Service.ID, status)
			}
			got = append(got, fmt.Sprintf("%s %s:%d", e.Service.ID, e.Service.Address, e.Service.Port))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

// meta waits until the only instance of a service says so, "" for not at all.
func (w *world) meta(name, key, want string) {
	w.t.Helper()
	testbed.Eventually(w.t, soon, fmt.Sprintf("%s of %s is %q", key, name, want), func() error {
		entries, _, err := w.consul.Client.Catalog().Service(name, "", nil)
		if err != nil {
			return err
		}
		if len(entries) != 1 {
			return fmt.Errorf("%d instances", len(entries))
		}
		if got := entries[0].ServiceMeta[key]; got != want {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

func (w *world) inspectService(name, format string) string {
	w.t.Helper()
	return w.engine.Run("service", "inspect", "-f", format, name)
}

// TestSwarmServices is what a manager's registrator makes of services: labels, the routing mesh,
// virtual addresses, updates. Several nodes are tested on scripts/cluster.
func TestSwarmServices(t *testing.T) {
	w := newWorld(t)
	w.engine.Run("swarm", "init", "--advertise-addr", "172.17.0.1")
	w.engine.Image(swarmImage, `HEALTHCHECK --interval=500ms --retries=20 CMD ["/web", "-healthcheck"]`)
	var stop func() error
	restart := func(change ...func(*Options)) { // it outlives the subtest it is started in
		t.Helper()
		if stop != nil {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}
		stop = w.start(append(change, func(o *Options) { o.IP = "" })...)
	}
	restart()
	w.ready()

	w.sub("C111_labelsOfServiceAndContainer", func(t *testing.T, w *world) {
		w.create("shop", "--publish", "mode=host,target=8080,published=8088",
			"--container-label", "fairway.host=container.test", "--container-label", "fairway.path=/shop",
			"--label", "fairway.host=service.test", "--label", "SERVICE_REGION=eu")
		w.meta("shop", "fairway-host", "service.test")
		w.meta("shop", "fairway-path", "/shop")
		w.meta("shop", "region", "eu")

		// A label changes no task, only its row.
		before := w.engine.Run("ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=shop")
		w.engine.Run("service", "update", "-d", "--label-add", "fairway.host=new.test", "--label-rm", "SERVICE_REGION", "shop")
		w.meta("shop", "fairway-host", "new.test")
		w.meta("shop", "region", "")
		if now := w.engine.Run("ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=shop"); now != before {
			t.Errorf("containers %s, then %s", before, now)
		}
		var said strings.Builder
		opt := w.options()
		opt.IP = ""
		if err := explain(t.Context(), opt, &said, []string{before}, false, false); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"shop: known from the Swarm itself", "fairway-host=new.test", "fairway-path=/shop"} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("explain does not say %q:\n%s", want, &said)
			}
		}
		p, _, err := w.consul.Client.KV().Get(swarm.Prefix+w.inspectService("shop", "{{.ID}}"), nil)
		if err != nil || p == nil || !strings.Contains(string(p.Value), `"fairway.host":"new.test"`) {
			t.Errorf("shared: %+v, %v", p, err)
		}
	})

	w.sub("C94_C111_nothingIsWrittenWhenNothingChanges", func(t *testing.T, w *world) {
		index := func() uint64 {
			keys, _, err := w.consul.Client.KV().List("fairway/", nil)
			if err != nil {
				t.Fatal(err)
			}
			var newest uint64
			for _, p := range keys {
				newest = max(newest, p.ModifyIndex)
			}
			rows, _, err := w.consul.Client.Health().Service("shop", "", false, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				newest = max(newest, r.Service.ModifyIndex)
				for _, c := range r.Checks {
					newest = max(newest, c.ModifyIndex)
				}
			}
			return newest
		}
		w.passing("shop", 1)
		before := index()
		w.engine.Run("service", "update", "-d", "--label-add", "com.docker.stack.image=x", "shop") // Docker's own word
		w.never(2*time.Second, "keys and rows stay", func() error {
			if now := index(); now != before {
				return fmt.Errorf("index %d, was %d", now, before)
			}
			return nil
		})
	})

	// As docs/registrator.md tells to do for Swarms that are no more.
	w.sub("C111_keysThatAreSweptAwayComeBack", func(t *testing.T, w *world) {
		w.passing("shop", 1)
		rows, _, err := w.consul.Client.Catalog().Service("shop", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		key := swarm.Prefix + w.inspectService("shop", "{{.ID}}")
		dead := &api.KVPair{Key: swarm.Prefix + "dead", Value: []byte(`{"swarm":"that is no more","name":"dead"}`)}
		if _, err := w.consul.Client.KV().Put(dead, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := w.consul.Client.KV().DeleteTree(swarm.Prefix, nil); err != nil {
			t.Fatal(err)
		}
		testbed.Eventually(t, soon, "the key of a service that lives comes back alone", func() error {
			pairs, _, err := w.consul.Client.KV().List(swarm.Prefix, nil)
			if err == nil && (len(pairs) != 1 || pairs[0].Key != key) {
				err = fmt.Errorf("%d keys", len(pairs))
			}
			return err
		})
		now, _, err := w.consul.Client.Catalog().Service("shop", "", nil)
		if err != nil || len(rows) != 1 || len(now) != 1 || now[0].ModifyIndex != rows[0].ModifyIndex {
			t.Errorf("rows %+v, then %+v, %v", rows, now, err)
		}
	})

	w.sub("C116_ignoredAndBack", func(t *testing.T, w *world) {
		w.engine.Run("service", "update", "-d", "--label-add", "SERVICE_IGNORE=true", "shop")
		w.instances("shop")
		w.engine.Run("service", "update", "-d", "--label-rm", "SERVICE_IGNORE", "shop")
		w.meta("shop", "fairway-host", "new.test")
		key := swarm.Prefix + w.inspectService("shop", "{{.ID}}")
		w.engine.Run("service", "rm", "shop")
		w.instances("shop")
		testbed.Eventually(t, soon, "the key goes with the service", func() error {
			p, _, err := w.consul.Client.KV().Get(key, nil)
			if err == nil && p != nil {
				err = errors.New("still there")
			}
			return err
		})
	})

	w.sub("C108_ingress", func(t *testing.T, w *world) {
		w.create("mesh", "--publish", "published=8090,target=8080", "--replicas", "2", "--label", "fairway.host=mesh.test")
		w.instances("mesh", testNode+":mesh:8080 172.17.0.1:8090")
		w.meta("mesh", "fairway-host", "mesh.test")
		w.engine.Run("service", "update", "-d", "--publish-rm", "published=8090,target=8080", "--publish-add", "published=8091,target=8080", "mesh")
		w.instances("mesh", testNode+":mesh:8080 172.17.0.1:8091")
		w.settledAll("mesh", 2)
	})

	w.sub("C108_allNodes", func(t *testing.T, w *world) {
		restart(func(o *Options) { o.Service.Ingress = service.ByNode })
		w.instances("mesh", testNode+":mesh:8080 172.17.0.1:8091")
		w.meta("mesh", service.Owner, "swarm-"+w.inspectService("mesh", "{{.ID}}")[:6]+":8080/tcp")
		w.engine.Run("service", "scale", "-d", "mesh=0")
		w.instances("mesh")
		w.engine.Run("service", "scale", "-d", "mesh=1")
		w.instances("mesh", testNode+":mesh:8080 172.17.0.1:8091")
	})

	w.sub("C109_C110_internal", func(t *testing.T, w *world) {
		w.settledAll("mesh", 1)
		for _, network := range []string{"apps", "zoo"} {
			w.engine.Run("network", "create", "-d", "overlay", network)
		}
		w.create("vip", "--network", "apps", "--network", "zoo", "--publish", "published=8092,target=8080")
		w.create("dnsrr", "--network", "apps", "--network", "zoo", "--endpoint-mode", "dnsrr")
		restart(func(o *Options) { o.Service.Internal = true; o.Service.Network = "zoo" })
		// At the task's own address on the chosen network; the mesh of "mesh" leads nowhere there.
		var ids []string
		for _, name := range []string{"vip", "dnsrr"} {
			w.settledAll(name, 1)
			container := w.engine.Run("ps", "-q", "--filter", "label=com.docker.swarm.service.name="+name)
			task := w.engine.Run("inspect", "-f", `{{index .Config.Labels "com.docker.swarm.task.name"}}`, container)
			address := w.engine.Run("inspect", "-f", "{{.NetworkSettings.Networks.zoo.IPAddress}}", container)
			ids = append(ids, testNode+":"+task+":8080 "+address+":8080")
			w.instances(name, ids[len(ids)-1])
		}
		w.instances("mesh")

		// C107: the ID is the task's, whoever registers it.
		restart(func(o *Options) { o.Service.Internal = true; o.Service.Network = "zoo"; o.Service.VIP = true })
		zoo := w.engine.Run("network", "inspect", "-f", "{{.Id}}", "zoo")
		prefix, err := netip.ParsePrefix(w.inspectService("vip", `{{range .Endpoint.VirtualIPs}}{{if eq .NetworkID "`+zoo+`"}}{{.Addr}}{{end}}{{end}}`))
		if err != nil {
			t.Fatal(err)
		}
		w.instances("vip", testNode+":vip:8080 "+prefix.Addr().String()+":8080")
		w.instances("dnsrr", ids[1])
		w.engine.Run("service", "rm", "vip", "dnsrr", "mesh")
		w.is(map[string]string{})
		restart()
	})

	w.sub("C113_rollingUpdates", func(t *testing.T, w *world) {
		w.create("roll", "--publish", "mode=host,target=8080", "--replicas", "3", "--stop-grace-period", "20s",
			"--update-parallelism", "1")
		w.settledAll("roll", 3)
		w.passing("roll", 3)
		w.updated("roll", "stop-first", 2)
		w.updated("roll", "start-first", 3)
	})
}

// settledAll waits until the manager knows that so many tasks run: changing a service before that is
// lost on some engines ("update out of sequence").
func (w *world) settledAll(name string, n int) {
	w.t.Helper()
	testbed.Eventually(w.t, 3*soon, fmt.Sprintf("%d tasks of %s run", n, name), func() error {
		states := w.engine.Run("service", "ps", "-f", "desired-state=running", "--format", "{{.CurrentState}}", name)
		if strings.Count(states, "Running") != n || strings.Count(states, "\n") != n-1 {
			return errors.New(states)
		}
		return nil
	})
}

// passing waits until so many instances pass, and no other is there.
func (w *world) passing(name string, n int) {
	w.t.Helper()
	testbed.Eventually(w.t, 3*soon, fmt.Sprintf("%d instances of %s pass", n, name), func() error {
		all, _, err := w.consul.Client.Health().Service(name, "", false, nil)
		if err != nil {
			return err
		}
		if got := count(all); got != n || len(all) != n {
			return fmt.Errorf("%d of %d", got, len(all))
		}
		return nil
	})
}

func count(entries []*api.ServiceEntry) (passing int) {
	for _, e := range entries {
		if e.Checks.AggregatedStatus() == api.HealthPassing {
			passing++
		}
	}
	return passing
}

// updated replaces every task of a service of three and looks at each state of the catalog meanwhile: never do
// fewer instances pass than Swarm itself keeps running, and in the end all are new.
func (w *world) updated(name, order string, least int) {
	w.t.Helper()
	ids := func() map[string]bool {
		entries, _, err := w.consul.Client.Health().Service(name, "", true, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		set := map[string]bool{}
		for _, e := range entries {
			set[e.Service.ID] = true
		}
		return set
	}
	before := ids()
	w.engine.Run("service", "update", "-d", "--force", "--update-order", order, name)
	var index uint64
	looks, fewest := 0, 3
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: not updated in two minutes: %v", order, slices.Sorted(maps.Keys(ids())))
		}
		entries, meta, err := w.consul.Client.Health().Service(name, "", false, &api.QueryOptions{WaitIndex: index, WaitTime: 500 * time.Millisecond})
		if err != nil {
			w.t.Fatal(err)
		}
		index = meta.LastIndex
		looks++
		n := count(entries)
		if fewest = min(fewest, n); n < least {
			w.t.Errorf("%s: %d instances pass, and Swarm keeps %d", order, n, least)
		}
		state := w.inspectService(name, "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
		old := slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return before[e.Service.ID] })
		if state == "completed" && !old && n == 3 && len(entries) == 3 {
			break
		}
	}
	w.t.Logf("%s: %d looks, at least %d passing", order, looks, fewest)
}
