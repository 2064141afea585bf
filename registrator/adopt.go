package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	err  error                       // of the last pass at the other agent
	rest time.Time                   // until then the other agent is not asked: it did not answer
}

// adoptRest is how long an agent that did not answer is left alone: each time may cost as long as a
// request may take, and what stops meanwhile has to be written without delay.
const adoptRest = time.Minute

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
	err         error              // why the other agent's are not known
}

// judge finds what there is to adopt and claims what stands among our rows. A nil adopter finds nothing.
func (a *adopter) judge(ctx context.Context, o *catalog.Observed, plan service.Plan, containers []service.Container) judgement {
	var j judgement
	if a == nil {
		return j
	}
	j.here = service.Adopt(o.Rows, plan, containers, a.hosts, o.Rows, true)
	if a.old != nil {
		var left []service.Registration
		if left, j.err = a.left(ctx); j.err == nil {
			j.there = service.Adopt(left, plan, containers, a.hosts, o.Rows, false)
		}
	}
	o.Rows = service.Claim(o.Rows, j.here)
	return j
}

// left reads the other agent, unless it did not answer a short while ago.
func (a *adopter) left(ctx context.Context) ([]service.Registration, error) {
	if time.Now().Before(a.rest) {
		return nil, a.err
	}
	left, err := catalog.Left(ctx, a.old)
	if err != nil {
		a.rest = time.Now().Add(adoptRest)
	}
	return left, err
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
	err := j.err
	for _, one := range j.there {
		if one.Verdict != service.Remove {
			continue
		}
		failed := catalog.Deregister(ctx, a.old, one.ID)
		if failed == nil {
			continue
		}
		err = failed
		if _, refused := errors.AsType[api.StatusError](failed); !refused { // the others would wait for the same
			a.rest = time.Now().Add(adoptRest)
			break
		}
	}
	a.trouble(err)
}

// trouble is told once; later passes try again.
func (a *adopter) trouble(err error) {
	if err != nil && (a.err == nil || err.Error() != a.err.Error()) {
		a.log.Warn("cannot adopt the rows of gliderlabs/registrator, trying again and again", "err", err)
	}
	a.err = err
}
