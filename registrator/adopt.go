package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"
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
	old   *api.Client // the agent that holds their rows; nil where that is the one we register with
	log   hclog.Logger

	told map[string]service.Adoption // by ID
	err  string                      // of the last reading of the other agent
}

// newAdopter returns nil unless --adopt asks for one.
func newAdopter(opt Options, mode choice, options service.Options, engine docker.Node, log hclog.Logger) (*adopter, error) {
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
	a.old = client
	return a, nil
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

// judgement is what one pass found to adopt.
type judgement struct {
	here, there []service.Adoption // where our rows stand, and at the other agent
}

// judge finds what there is to adopt and claims what stands among our rows. A nil adopter finds nothing.
func (a *adopter) judge(ctx context.Context, o *catalog.Observed, plan service.Plan, containers []service.Container) judgement {
	var j judgement
	if a == nil {
		return j
	}
	j.here = service.Adopt(o.Rows, plan, containers, a.hosts, o.Rows, true)
	if a.old != nil {
		left, err := catalog.Left(ctx, a.old)
		a.trouble(err)
		j.there = service.Adopt(left, plan, containers, a.hosts, o.Rows, false)
	}
	o.Rows = service.Claim(o.Rows, j.here)
	return j
}

// finish removes what is not needed any more at the other agent, and tells of what is new.
func (a *adopter) finish(ctx context.Context, j judgement) {
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
	for _, one := range j.there {
		if one.Verdict != service.Remove {
			continue
		}
		if err := catalog.Deregister(ctx, a.old, one.ID); err != nil {
			a.trouble(err)
		}
	}
}

// trouble is told once; the next pass tries again.
func (a *adopter) trouble(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != a.err {
		a.log.Warn("cannot adopt the rows of gliderlabs/registrator, trying again with every pass", "err", err)
	}
	a.err = text
}
