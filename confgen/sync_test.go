package main

import (
	"context"
	"errors"
	"testing"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
	"fairway/confgen/watch"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// busy is a proxy with a reload on its way, a catalog, and files that may not be printed.
type busy struct {
	target
	attended int
	applied  proxy.Result
	broken   error
	shown    error
}

func (b *busy) Latest() (watch.View, bool)                { return watch.View{Version: 1}, true }
func (b *busy) Render(render.View) ([]render.File, error) { return nil, b.broken }
func (b *busy) edition() int                              { return 1 }
func (b *busy) CanCheck() bool                            { return false }
func (b *busy) Show(err error)                            { b.shown = err }
func (b *busy) Attend(context.Context) (proxy.Result, error) {
	b.attended++
	return proxy.Result{Action: proxy.Reload, Reloads: 1, Deferred: "more"}, nil
}

func (b *busy) Apply(context.Context, []render.File) (proxy.Result, error) { return b.applied, nil }

func (b *busy) ApplyPinned(context.Context) (proxy.Result, error) {
	return proxy.Result{}, proxy.ErrNoGeneration
}

func newBusy() (*busy, *syncer) {
	b, log := &busy{}, hclog.NewNullLogger()
	return b, &syncer{
		catalog: b, files: b, target: b, proxy: b, secrets: &secrets{}, quarantine: newQuarantine(log),
		report: newReport("", log, prometheus.NewRegistry(), nil, &source{}, nil),
	}
}

// A reload that is on its way comes to its end although a template is broken, or waits for Consul.
func TestPass_F41_attendsToAReload(t *testing.T) {
	for _, broken := range []error{errors.New("broken"), errPending} {
		b, s := newBusy()
		b.broken = broken
		err := s.pass(t.Context())
		if b.attended != 1 || (err == nil) != errors.Is(broken, errPending) {
			t.Errorf("%v: attended to %d times, %v", broken, b.attended, err)
		}
		if s.report.state.Last == nil || s.report.state.Last.Reloads != 1 || s.report.state.Applied != 0 {
			t.Errorf("%v: told is %+v, expected the reload, and not that the newest is live", broken, s.report.state)
		}
	}
}

// What the proxy runs at the start may be anything: it is not ready before something was applied.
// Later it is ready while a reload waits.
func TestPass_F67_notReadyBeforeTheFirstApply(t *testing.T) {
	b, s := newBusy()
	for _, step := range []struct {
		deferred string
		ready    bool
	}{{"being checked", false}, {"", true}, {"being checked", true}} {
		b.applied = proxy.Result{Deferred: step.deferred}
		if err := s.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if (b.shown == nil) != step.ready {
			t.Errorf("%+v: shown is %v", step, b.shown)
		}
	}
}
