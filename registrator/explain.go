package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

// explain prints what is decided about one container, or all of them, and why, and where it is
// registered. It reads Docker, and asks Consul only who it is, and where Docker does not tell what a
// Swarm service says, that.
func explain(ctx context.Context, opt Options, out io.Writer, args []string, all, dialect bool) error {
	if all == (len(args) > 0) || len(args) > 1 {
		return daemon.Usagef("explain: want one CONTAINER, by name or id, or --all")
	}
	opt.Docker.Exited, opt.Docker.Patient = true, true
	engine, err := docker.New(opt.Docker)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	defer engine.Close()
	node, err := engine.Node(ctx)
	if err != nil {
		return err
	}
	options, err := locate(ctx, opt, node)
	if err != nil {
		return err
	}
	listing, err := engine.Containers(ctx)
	if err != nil {
		return err
	}
	var which string
	if !all {
		which = args[0]
	}
	client, err := consul.New(opt.Consul)
	if err != nil {
		return daemon.Usagef("%w", err)
	}
	containers, unread := askSwarm(ctx, engine, swarm.New(client), listing.Containers, options)
	plan := service.Desired(containers, options)
	if dialect {
		plan = translated(plan, listing.Failed)
	}
	if err := printDecisions(out, plan, which); err != nil {
		return err
	}
	if !dialect {
		if _, err := fmt.Fprintln(out, explainMode(ctx, opt, options.Node)); err != nil {
			return err
		}
	}
	if unread != nil {
		return fmt.Errorf("what Swarm services say is not known: %w", unread)
	}
	return nil
}

// translated leaves of a plan what labels of other front ends become. That is a container's and
// not a port's, so it is told once. Of a container that could not be read nothing is claimed.
func translated(plan service.Plan, unread map[string]error) service.Plan {
	at := map[string]int{}
	decisions := plan.Decisions
	plan.Decisions = nil
	for _, d := range decisions {
		i, known := at[d.ID]
		if !known {
			i = len(plan.Decisions)
			at[d.ID] = i
			plan.Decisions = append(plan.Decisions, service.Decision{Container: d.Container, ID: d.ID})
		}
		for _, n := range d.Notes {
			if n.About == service.AboutRouting {
				plan.Decisions[i].Notes = append(plan.Decisions[i].Notes, n)
			}
		}
	}
	for i := range plan.Decisions {
		d := &plan.Decisions[i]
		text := "nothing is read that was written for another front end"
		if err := unread[d.Container]; err != nil {
			text = "not known: " + err.Error()
		}
		if len(d.Notes) == 0 {
			d.Notes = []service.Note{{About: service.AboutRouting, Text: text}}
		}
	}
	return plan
}

// printDecisions prints the decisions and problems of the container called which, by name or the
// beginning of its id; of every container when which is empty.
func printDecisions(out io.Writer, plan service.Plan, which string) error {
	p := &printer{out: out}
	names := map[string]bool{}
	for _, d := range plan.Decisions {
		if which == "" || d.Container == which || strings.HasPrefix(d.ID, which) {
			names[d.Container] = true
			p.line("%s", d.String())
		}
	}
	for _, problem := range plan.Problems {
		if names[problem.Container] {
			p.line("problem: container %s, %s: %s\n", problem.Container, problem.Label, problem.Reason)
		}
	}
	if which != "" && len(names) == 0 {
		return fmt.Errorf("explain %s: no such container on this node", which)
	}
	return p.err
}

// printChanges prints what a pass would write.
func printChanges(out io.Writer, mode choice, node string, o catalog.Observed, changes service.Changes, plan service.Plan, adopt judgement) error {
	p := &printer{out: out}
	p.line("%s\n", mode)
	if o.NodeChange != "" {
		p.line("%s (%s)\n", o.NodeChange, node)
	}
	for _, a := range adopt.here {
		p.line("adopt: %s %s: %s\n", a.Verdict, a.ID, a.Reason)
	}
	for _, a := range adopt.there {
		p.line("adopt at the other agent: %s %s: %s\n", a.Verdict, a.ID, a.Reason)
	}
	before := map[string]bool{}
	for _, row := range o.Rows {
		before[row.ID] = true
	}
	for _, id := range changes.Delete {
		p.line("deregister %s\n", id)
	}
	for _, row := range changes.Put {
		verb := "register"
		if before[row.ID] {
			verb = "change"
		}
		status, output := row.Health()
		p.line("%s %s: %s at %s, %s (%s)\n", verb, row.ID, row.Name, hostPortOf(row), status, output)
	}
	for _, problem := range append(plan.Problems, changes.Problems...) {
		p.line("problem: container %s, %s: %s\n", problem.Container, problem.Label, problem.Reason)
	}
	if changes.Empty() && o.NodeChange == "" && len(adopt.there) == 0 {
		p.line("nothing to change\n")
	}
	return p.err
}

// printer remembers the first failure to print.
type printer struct {
	out io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	_, err := fmt.Fprintf(p.out, format, args...)
	p.err = errors.Join(p.err, err)
}
