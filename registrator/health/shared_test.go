package health

import (
	"testing"
	"testing/synctest"
	"time"

	"fairway/registrator/service"
)

// TestRunner_C108_C113_aSharedVerdictOutlivesItsTask: another task of a Swarm service now speaks for a
// port of the routing mesh. What is asked is the same, so its check does not begin anew.
func TestRunner_C108_C113_aSharedVerdictOutlivesItsTask(t *testing.T) {
	for shared, want := range map[bool]service.Status{true: service.Passing, false: service.Critical} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			of := func(container string) service.Plan {
				r := row("web", func(k *service.Check) { k.Shared = shared })
				r.Meta = map[string]string{service.Owner: container + ":80/tcp"}
				return service.Plan{Registrations: []service.Registration{r}}
			}
			b.Fill(of("old"), nil, time.Now())
			time.Sleep(time.Second)
			plan, _ := b.Fill(of("old"), nil, time.Now())
			if got := plan.Registrations[0].Checks[0].Status; got != service.Passing {
				t.Fatalf("first %s", got)
			}
			plan, _ = b.Fill(of("new"), plan.Registrations, time.Now())
			if got := plan.Registrations[0].Checks[0].Status; got != want {
				t.Errorf("shared %t: %s after another task took over, want %s", shared, got, want)
			}
			// The same after a restart of registrator, when only the catalog remembers.
			again := newBench(t)
			held := of("old").Registrations
			held[0].Checks[0].Status = service.Passing
			plan, _ = again.Fill(of("new"), held, time.Now())
			if got := plan.Registrations[0].Checks[0].Status; got != want {
				t.Errorf("shared %t: %s after a restart, want %s", shared, got, want)
			}
		})
	}
}
