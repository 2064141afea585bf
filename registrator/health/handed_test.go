package health

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"fairway/registrator/service"
)

// handedRow is a row with a TCP check of its own port, as a plan asks for it.
func handedRow(target string, status service.Status) service.Registration {
	return service.Registration{
		ID: "n:web:80", Status: service.Passing, Meta: map[string]string{service.Owner: "0123456789ab:80/tcp"},
		Checks: []service.Check{{
			Kind: service.TCP, Target: target, Interval: time.Minute, Timeout: time.Second, Status: status, Output: service.Unchecked,
		}},
	}
}

// held is what an agent holds of a row.
func held(row service.Registration, status service.Status) []service.Registration {
	row.Checks = []service.Check{{Kind: service.TCP, Print: row.Checks[0].Fingerprint(), Status: status, Output: "by the agent"}}
	return []service.Registration{row}
}

func handing() *Runner {
	return New(Options{Changed: func() {}, Handed: func(service.Check) bool { return true }})
}

func planOf(row service.Registration) service.Plan {
	return service.Plan{Registrations: []service.Registration{row}}
}

// A new row waits for its first verdict, which is found out here; from then on the agent's counts.
func TestHanded_firstVerdictIsFoundOutHere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	changed := make(chan struct{}, 10)
	r := handing()
	r.opt.Changed = func() { changed <- struct{}{} }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	row := handedRow(listener.Addr().String(), service.Critical)
	if plan, _ := r.Fill(planOf(row), nil, time.Now()); len(plan.Registrations) != 0 {
		t.Fatalf("registered without a verdict: %+v", plan.Registrations)
	}
	<-changed
	plan, _ := r.Fill(planOf(row), nil, time.Now())
	if len(plan.Registrations) != 1 || plan.Registrations[0].Checks[0].Status != service.Passing {
		t.Fatalf("with a verdict: %+v", plan.Registrations)
	}
	for _, status := range []service.Status{service.Critical, service.Passing, service.Warning} {
		plan, _ = r.Fill(planOf(row), held(row, status), time.Now())
		if got := plan.Registrations[0].Checks[0].Status; got != status {
			t.Errorf("the agent says %s, the plan %s", status, got)
		}
		if changes := service.Diff(held(row, status), plan); !changes.Empty() {
			t.Errorf("a verdict of the agent is written: %+v", changes.Put)
		}
	}
	plan, _ = r.Fill(planOf(row), nil, time.Now()) // the agent lost its data
	if len(plan.Registrations) != 1 || plan.Registrations[0].Checks[0].Status != service.Warning {
		t.Errorf("forgotten with the agent: %+v", plan.Registrations)
	}
}

func TestHanded_whatIsRegisteredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		row := handedRow("192.0.2.1:1", service.Critical)
		suspended := handedRow("192.0.2.1:1", service.Critical)
		suspended.Checks[0].Suspended = true
		old := row
		old.Meta = map[string]string{service.Owner: "ffffffffffff:80/tcp"}
		for name, test := range map[string]struct {
			row      service.Registration
			observed []service.Registration
			want     service.Status
		}{
			"initialStatus":           {handedRow("192.0.2.1:1", service.Warning), nil, service.Warning},
			"suspended":               {suspended, nil, service.Critical},
			"afterARestart":           {row, held(row, service.Passing), service.Passing},
			"ofAnotherContainer":      {row, held(old, service.Passing), service.Critical}, // the row is there: it must not go
			"madeInAnotherWay":        {row, held(handedRow("192.0.2.1:2", service.Critical), service.Passing), service.Critical},
			"afterARestartAndFailing": {row, held(row, service.Critical), service.Critical},
		} {
			plan, _ := handing().Fill(planOf(test.row), test.observed, time.Now())
			if len(plan.Registrations) != 1 || plan.Registrations[0].Checks[0].Status != test.want {
				t.Errorf("%s: %+v, want %s", name, plan.Registrations, test.want)
			}
		}
	})
}
