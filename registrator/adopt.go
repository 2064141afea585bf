package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/go-hclog"

	"fairway/internal/consul"
	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/service"
)

// adopter takes over what gliderlabs/registrator left for this host: rows that stand where ours do
// are written anew in place, and others are removed as soon as ours are seen to do their work.
type adopter struct {
	hosts []string
	old   *oldAgent // that holds their rows; nil where that is the one we register with
	log   hclog.Logger

	told map[string]service.Adoption // by ID
}

// newAdopter returns nil unless --adopt asks for one. It calls changed when there is something new
// to adopt.
func newAdopter(opt Options, mode choice, options service.Options, engine docker.Node, changed func(), log hclog.Logger) (*adopter, error) {
	if !opt.Adopt {
		return nil, nil
	}
	a := &adopter{hosts: hostsOf(options, engine), log: log, told: map[string]service.Adoption{}}
	cfg := opt.Consul
	switch {
	case opt.AdoptAgent != "":
		cfg.Addresses = []string{opt.AdoptAgent}
	case mode.mode == modeAgent:
		return a, nil
	}
	client, err := consul.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--adopt-agent: %w", err)
	}
	a.old = newOldAgent(client, a.hosts, changed, log)
	return a, nil
}

// run asks the other agent beside the passes until ctx ends.
func (a *adopter) run(ctx context.Context) error {
	if a == nil || a.old == nil {
		return nil
	}
	return a.old.run(ctx)
}

// ask waits for the other agent, once: it reads what is there and removes what is not needed.
func (a *adopter) ask(ctx context.Context) {
	if a == nil || a.old == nil {
		return
	}
	if err := a.old.look(ctx); err != nil {
		a.old.away(err)
	}
}

// hostsOf are the names under which this host's rows may stand.
func hostsOf(options service.Options, engine docker.Node) []string {
	return slices.Compact([]string{engine.Name, options.Node.Name})
}

// adopts says which rows on our own node may be taken over; nil without --adopt.
func adopts(opt Options, options service.Options, engine docker.Node) func(id string) bool {
	if !opt.Adopt {
		return nil
	}
	return func(id string) bool {
		_, _, ok := service.Legacy(id, hostsOf(options, engine))
		return ok
	}
}

// judgement is what one pass found to adopt: where our rows stand, and at the other agent.
type judgement struct{ here, there []service.Adoption }

// judge finds what there is to adopt and claims what stands among our rows. A nil adopter finds nothing.
func (a *adopter) judge(o *catalog.Observed, plan service.Plan, containers []service.Container) judgement {
	var j judgement
	if a == nil {
		return j
	}
	j.here = service.Adopt(o.Rows, plan, containers, a.hosts, o.Rows, true)
	if a.old != nil {
		j.there = service.Adopt(a.old.rows(), plan, containers, a.hosts, o.Rows, false)
	}
	o.Rows = service.Claim(o.Rows, j.here)
	return j
}

// finish releases what is not needed any more at the other agent, and tells of what is new.
func (a *adopter) finish(j judgement) {
	if a == nil {
		return
	}
	told := make(map[string]service.Adoption, len(j.here)+len(j.there))
	for _, one := range slices.Concat(j.here, j.there) {
		told[one.ID] = one
		if a.told[one.ID] != one {
			a.log.Info("row of gliderlabs/registrator", "id", one.ID, "verdict", string(one.Verdict), "reason", one.Reason)
		}
	}
	a.told = told
	if a.old == nil {
		return
	}
	var done []string
	for _, one := range j.there {
		if one.Verdict == service.Remove {
			done = append(done, one.ID)
		}
	}
	a.old.release(done)
}
