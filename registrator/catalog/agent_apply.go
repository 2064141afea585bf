package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// Apply writes changes, one request after another, and renews what would run out. A row that the
// agent refuses is tried again later, the rest is written without it. An error means that the agent
// did not answer, or that renewing failed.
func (a *Agent) Apply(ctx context.Context, o Observed, changes service.Changes) (Result, error) {
	p := &agentPass{Agent: a, now: time.Now(), rows: make(map[string]service.Registration, len(o.Rows)), held: o.held}
	if token := a.opt.Token(); token != a.token.text {
		a.token = lastToken{text: token, since: p.now}
	}
	for _, row := range o.Rows {
		p.rows[row.ID] = row
	}
	err := p.write(ctx, changes)
	if err == nil {
		err = p.renew(ctx, o.Rows, changes)
	}
	changes.Put = slices.Concat(changes.Put, p.denied)
	a.refused.report(&p.result, changes, p.now)
	return p.result, err
}

// Leave removes our rows.
func (a *Agent) Leave(ctx context.Context) error {
	o, err := a.Observed(ctx)
	if err != nil {
		return err
	}
	clear(a.refused)
	r, err := a.Apply(ctx, o, service.Diff(o.Rows, service.Plan{}))
	if err == nil && len(r.Refused) > 0 {
		err = fmt.Errorf("deregister %s: %w", r.Refused[0].ID, r.Refused[0].Err)
	}
	return err
}

// agentPass is one Apply on its way.
type agentPass struct {
	*Agent
	now      time.Time
	rows     map[string]service.Registration // as observed, by ID
	held     map[string]heldRow
	result   Result
	failures int                    // rows in a row that the agent could not write
	denied   []service.Registration // that the agent does not let us renew
}

// agentSyncs is how long an agent is given to sync what it was told of a row before the row is
// registered again: it takes a status that it has not synced yet for synced then.
const agentSyncs = 100 * time.Millisecond

// write makes changes. What only turns a status goes first: it may be a container that stops.
func (p *agentPass) write(ctx context.Context, changes service.Changes) error {
	var anew []service.Registration
	for _, row := range changes.Put {
		have, exists := p.rows[row.ID]
		if !exists || p.outdated(row.ID) || !p.onlyStatus(have, row) {
			if wait := p.told[row.ID].at.Add(agentSyncs).Sub(p.now); exists && wait > 0 {
				p.result.Later = append(p.result.Later, row.ID)
				p.result.again(wait)
				continue
			}
			anew = append(anew, row)
			continue
		}
		if err := p.try(ctx, row.ID, row, func() error { return p.tell(ctx, row) }); err != nil {
			return err
		}
	}
	for _, id := range changes.Delete {
		if err := p.try(ctx, id, service.Registration{}, func() error { return p.remove(ctx, id) }); err != nil {
			return err
		}
	}
	for _, row := range anew {
		if err := p.try(ctx, row.ID, row, func() error { return p.register(ctx, row) }); err != nil {
			return err
		}
	}
	return nil
}

// try does one thing to one row. That the row is refused is noted and no error.
func (p *agentPass) try(ctx context.Context, id string, row service.Registration, do func() error) error {
	if !p.refused.due(id, row, p.now) {
		return nil
	}
	err := do()
	var status api.StatusError
	switch {
	case err == nil:
		p.failures = 0
		delete(p.refused, id)
		p.result.Written++
	case !errors.As(err, &status) || ctx.Err() != nil:
		return fmt.Errorf("write to consul agent: %w", err)
	default: // three that are no refusals in a row blame the agent
		if status.Code >= http.StatusInternalServerError {
			p.failures++
		}
		if p.failures == 3 {
			return fmt.Errorf("write to consul agent: %w", err)
		}
		p.refused.add(id, row, errors.New(status.Body))
	}
	return nil
}

// onlyStatus reports whether two rows differ in nothing but statuses and words that are ours to tell.
func (p *agentPass) onlyStatus(have, row service.Registration) bool {
	if have.Status == "" || len(have.Checks) != len(row.Checks) {
		return false
	}
	row.Status, row.Output = have.Status, have.Output
	row.Checks = slices.Clone(row.Checks)
	for i := range row.Checks {
		k, had := &row.Checks[i], have.Checks[i]
		if k.Kind != had.Kind || formatSince(*k) != formatSince(service.Check{DeregisterAfter: k.DeregisterAfter, CriticalSince: had.CriticalSince}) {
			return false
		}
		if !p.Runs(*k) {
			k.Status, k.Output = had.Status, had.Output
		}
	}
	return have.Equal(row)
}

// register writes a row and its checks. An agent keeps the status of a check that it has, and goes
// on running one whose kind is changed; so what is to be different is taken away before. Then the
// agent syncs the service and its new checks in one write: nothing is passing before it is ready.
func (p *agentPass) register(ctx context.Context, row service.Registration) error {
	have := p.rows[row.ID]
	if err := p.clear(ctx, have); err != nil {
		return err
	}
	for _, id := range p.dropped(have, row) {
		if err := p.dropCheck(ctx, id); err != nil && !missing(err) {
			return err
		}
	}
	if err := p.put(ctx, row); err != nil {
		return err
	}
	p.told[row.ID] = told{token: p.token.text, known: p.settled()}
	return p.tell(ctx, row)
}

// dropped are the checks of a row that go before it is registered: those it is not to have any
// more, those made in another way, and those whose status is not what it is to be and cannot be told.
func (p *agentPass) dropped(have, row service.Registration) []string {
	var ids []string
	if have.Status != "" && have.Status != row.Status {
		ids = append(ids, checkPrefix+row.ID)
	}
	for _, old := range have.Checks {
		i := slices.IndexFunc(row.Checks, func(k service.Check) bool { return k.Kind == old.Kind })
		if i < 0 || !row.Checks[i].SameWay(old) || p.Runs(row.Checks[i]) && row.Checks[i].Status != old.Status {
			ids = append(ids, activeID(row.ID, old.Kind))
		}
	}
	return ids
}

// tell says how a row's container is, and what those checks found that we run.
func (p *agentPass) tell(ctx context.Context, row service.Registration) error {
	if err := p.update(ctx, checkPrefix+row.ID, row.Status, row.Output); err != nil {
		return err
	}
	for _, k := range row.Checks {
		if p.Runs(k) {
			continue
		}
		if err := p.update(ctx, activeID(row.ID, k.Kind), k.Status, k.Output); err != nil {
			return err
		}
	}
	t := p.told[row.ID]
	t.at = p.now
	p.told[row.ID] = t
	return nil
}

// outdated reports whether a row must be registered although nothing of it differs: the agent would
// sync it with a token that is not ours any more, or let its checks run out at another time.
func (p *agentPass) outdated(id string) bool {
	t := p.told[id]
	if t.known && t.token == p.token.text || !t.known && p.token.text == "" {
		return p.held[id].notes != p.keeperNotes()
	}
	return true
}

// settled reports whether requests certainly carry the token that was last seen.
func (p *agentPass) settled() bool {
	return p.token.since.IsZero() || p.now.Sub(p.token.since) >= tokenSettles
}

// renew tells the agent again what it knows, before it runs out. That is between it and us: it
// writes nothing to the catalog.
func (p *agentPass) renew(ctx context.Context, rows []service.Registration, changes service.Changes) error {
	full := map[string]service.Registration{}
	for _, row := range slices.Concat(changes.Same, changes.Stale) {
		full[row.ID] = row
	}
	skip := map[string]bool{}
	for _, row := range changes.Put {
		skip[row.ID] = true
	}
	for _, id := range changes.Delete {
		skip[id] = true
	}
	var errs []error
	for _, row := range rows {
		if !row.Owned() || skip[row.ID] {
			continue
		}
		if want, wanted := full[row.ID]; wanted && p.outdated(row.ID) {
			errs = append(errs, p.renewed(want, func() error { return p.register(ctx, want) }))
		} else if p.now.Sub(p.told[row.ID].at) >= p.opt.TTL/2 {
			errs = append(errs, p.renewed(row, func() error { return p.again(ctx, row.ID) }))
		}
	}
	for id := range p.told {
		if _, exists := p.rows[id]; !exists && !skip[id] {
			delete(p.told, id)
		}
	}
	if !p.settled() {
		p.result.again(tokenSettles)
	}
	for _, t := range p.told {
		if left := t.at.Add(p.opt.TTL / 2).Sub(p.now); left > 0 { // else it is refused, or not ours any more
			p.result.again(left)
		}
	}
	return errors.Join(errs...)
}

// renewed renews one row. That the agent refuses it is noted and no error: the others are renewed, and
// it is tried again later.
func (p *agentPass) renewed(row service.Registration, do func() error) error {
	if !p.refused.due(row.ID, row, p.now) {
		p.denied = append(p.denied, row)
		return nil
	}
	err := do()
	var status api.StatusError
	switch {
	case err == nil:
		delete(p.refused, row.ID)
	case missing(err): // the next pass sees it
	case errors.As(err, &status) && status.Code < http.StatusInternalServerError:
		p.refused.add(row.ID, row, errors.New(status.Body))
		p.denied = append(p.denied, row)
	default:
		return fmt.Errorf("renew %s: %w", row.ID, err)
	}
	return nil
}

// again renews the checks of a row as they are.
func (p *agentPass) again(ctx context.Context, id string) error {
	for _, k := range p.held[id].ttl {
		if err := p.update(ctx, k.id, service.Status(k.status), k.output); err != nil {
			return err
		}
	}
	t := p.told[id]
	t.at = p.now
	p.told[id] = t
	return nil
}
