//go:build real

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// Two services claim one host. The first serves it and the other is reported; when the first is
// gone, the other takes over by itself and keeps it when the first comes back, since it is the one
// that was registered first then. No request fails.
func TestConflict_twoServicesOneHost(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, kind)
			owner, rival := r.web("owner"), r.web("rival")
			labels := map[string]string{"fairway-host": "c.test,rival.test"}
			r.register("owner", owner, "passing", host("c.test"))
			r.register("rival", rival, "passing", labels)
			c := r.program()
			serves := func(name string) {
				t.Helper()
				t.Logf("%s serves %s after the change", name, r.takesEffect(t, "c.test", split{name: 100}).Round(time.Millisecond))
			}
			serves("owner")
			c.contested("rival", "owner")
			r.answers("rival.test", "rival") // what nobody contests
			clients := r.load(t, "c.test", "/")

			r.register("owner", owner, "critical", host("c.test"))
			serves("owner")
			r.deregister(owner)
			serves("rival")
			c.contested("", "")

			r.register("owner", owner, "passing", host("c.test"))
			c.contested("owner", "rival")
			serves("rival")
			r.register("rival", rival, "critical", labels)
			serves("rival") // an instance that only fails keeps what it has
			r.deregister(rival)
			serves("owner")
			c.contested("", "")
			unharmed(t, clients)
		})
	}
}

// contested waits until it is told, everywhere, that one service claims what another has, "" for
// none.
func (c *confgen) contested(service, holder string) {
	c.r.t.Helper()
	belongs := "c.test / on web belongs to service " + holder + ", which was registered first"
	testbed.Eventually(c.r.t, patience, "the conflict is told", func() error {
		problems := c.status().Problems
		if service == "" && len(problems) == 0 {
			return nil
		}
		if len(problems) != 1 || problems[0].Service != service || problems[0].Key != "fairway.host" || !strings.HasPrefix(problems[0].Reason, belongs) {
			return fmt.Errorf("%+v", problems)
		}
		return nil
	})
	want := map[bool]float64{true: 1}[service != ""]
	if n := c.metric("fairway_confgen_problems"); n != want {
		c.r.t.Errorf("fairway_confgen_problems is %g, want %g", n, want)
	}
	_, page := get(c.r.t, "http://"+c.addr+"/", "")
	if told := strings.Contains(page, "belongs to service "+holder); told != (service != "") {
		c.r.t.Errorf("the page tells of a conflict: %v\n%s", told, page)
	}
	if line := "routing label cannot be used: service=" + service; service != "" && !strings.Contains(c.r.log.String(), line) {
		c.r.t.Errorf("no %q in the log", line)
	}
	if service == "" && !strings.Contains(c.r.log.String(), "problem solved: service=rival") {
		c.r.t.Error("the log does not say that the conflict is over")
	}
}
