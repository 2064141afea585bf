package watch

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// Mode says what ends the holding of a loss.
type Mode string

// The modes of a Policy.
const (
	Accept  Mode = "accept"  // its grace time, or an operator
	Approve Mode = "approve" // an operator alone
)

// Policy says which loss of instances is not believed at once, and for how long.
//
// What counts are registrations that vanish while their instance gets requests. An instance that
// was critical or in maintenance before, as registrator makes every one that is being stopped, was
// let go in an orderly way. A check that turns critical is no loss either: it takes its instance
// out at once, whatever else fails.
type Policy struct {
	Share int           // percent of the instances that must be lost at once; 0 for 100: all of them
	Grace time.Duration // how long the loss must last; 0 believes it at once
	Mode  Mode          // "" for Accept
}

// Losses is the guard against losses. The zero value believes everything at once.
type Losses struct {
	Policy
	Services map[string]Policy // of services that have one of their own
	// Total is the percentage of all instances whose loss at once holds the loss of every
	// service; 0 for never: that nothing is left is what Options.Grace is for.
	Total int
}

// Validate says what is wrong with the settings.
func (l Losses) Validate() error {
	check := func(p Policy) error {
		switch {
		case p.Share < 0 || p.Share > 100:
			return fmt.Errorf("share %d: want 1 to 100 percent", p.Share)
		case p.Grace < 0:
			return fmt.Errorf("grace %s: want a duration that is not negative", p.Grace)
		case p.Mode != "" && p.Mode != Accept && p.Mode != Approve:
			return fmt.Errorf("mode %q: want accept or approve", p.Mode)
		}
		return nil
	}
	if l.Total < 0 || l.Total > 100 {
		return fmt.Errorf("total %d: want 0 to 100 percent", l.Total)
	}
	if err := check(l.Policy); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(l.Services)) {
		if err := check(l.Services[name]); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
	}
	return nil
}

func (l Losses) of(service string) Policy {
	p, own := l.Services[service]
	if !own {
		p = l.Policy
	}
	p.Share = cmp.Or(p.Share, 100)
	p.Mode = cmp.Or(p.Mode, Accept)
	return p
}

// Held is a loss that is not believed yet.
type Held struct {
	Service string    `json:"service"`
	Lost    []string  `json:"lost"` // instance IDs that are still served
	Left    int       `json:"left"` // instances in the catalog
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"` // when it is believed; zero when only an operator can say so
}

// lossGuard keeps what vanished at once in the snapshot, marked as held.
type lossGuard struct {
	policy Losses
	log    hclog.Logger
	had    map[string]peak
	held   map[string]*hold

	// unrouted reports whether the catalog still has instances of a service, without routing
	// labels: somebody took those off, which is no loss.
	unrouted func(service string) bool
}

// peak is how many instances a service had lately: deregistering ten takes ten changes.
type peak struct {
	n  int
	at time.Time
}

type hold struct {
	Held
	had      int
	approved bool
}

func newLossGuard(policy Losses, log hclog.Logger) lossGuard {
	return lossGuard{policy: policy, log: log, had: map[string]peak{}, held: map[string]*hold{}, unrouted: func(string) bool { return false }}
}

// look returns raw, which the catalog says now, with what it lost against known and should not
// have. wiped means that an emptied catalog has been believed, and every loss with it that time
// alone would have let pass. age is how long ago known was what the catalog said: what was lost
// in a longer time was not lost at once.
func (g *lossGuard) look(known, raw route.Snapshot, wiped bool, age time.Duration, now time.Time) route.Snapshot {
	left := make(map[string][]route.Instance, len(raw.Services))
	for _, s := range raw.Services {
		left[s.Name] = s.Instances
	}
	mass := g.mass(known, left)
	next := raw
	copied := false
	for _, s := range known.Services {
		gone, orderly := g.vanished(s, left[s.Name])
		if !g.keeps(s.Name, gone, orderly, len(left[s.Name]), mass, wiped, age, now) {
			continue
		}
		if !copied {
			next.Services, copied = slices.Clone(raw.Services), true
		}
		next.Services = with(next.Services, s.Name, gone)
	}
	for name := range g.held {
		if !slices.ContainsFunc(known.Services, func(s route.Service) bool { return s.Name == name }) {
			delete(g.held, name)
		}
	}
	g.remember(raw, now)
	if !copied {
		return raw
	}
	return g.settle(next, raw)
}

// mass reports whether so much of the whole catalog vanished that no loss in it is believed.
func (g *lossGuard) mass(known route.Snapshot, left map[string][]route.Instance) bool {
	if g.policy.Total == 0 {
		return false
	}
	lost, all := 0, 0
	for _, s := range known.Services {
		gone, _ := g.vanished(s, left[s.Name])
		lost += len(gone)
		all += len(gone) + len(left[s.Name])
	}
	return lost > 0 && 100*lost >= g.policy.Total*all
}

// keeps decides on one service: gone are the instances that vanished from traffic, orderly is how
// many were let go before.
func (g *lossGuard) keeps(name string, gone []route.Instance, orderly, left int, mass, wiped bool, age time.Duration, now time.Time) bool {
	p := g.policy.of(name)
	h := g.held[name]
	if len(gone) == 0 {
		if h != nil {
			g.log.Info("service is complete again", "service", name)
			delete(g.held, name)
		}
		g.lower(name, orderly)
		return false
	}
	if h == nil {
		g.lower(name, orderly)
		had := len(gone) + left
		if lately := g.had[name]; now.Sub(lately.at) <= p.Grace {
			had = max(had, lately.n)
		}
		if p.Grace == 0 || age > p.Grace || wiped && p.Mode == Accept || !mass && 100*(had-left) < p.Share*had {
			return false
		}
		h = &hold{Held: Held{Service: name, Since: now}, had: had}
		if p.Mode == Accept {
			h.Until = now.Add(p.Grace)
		}
		g.held[name] = h
		g.log.Warn("service lost its instances at once, not believed yet: they stay in use", "service", name,
			"lost", len(gone), "left", left, "until", until(h.Until))
	}
	h.Left, h.Lost = left, make([]string, 0, len(gone))
	for _, in := range gone {
		h.Lost = append(h.Lost, in.ID)
	}
	why := ""
	switch {
	case h.approved:
		why = "approved"
	case wiped && p.Mode == Accept:
		why = "the whole catalog stayed empty"
	case p.Mode == Accept && !now.Before(h.Until):
		why = "it lasted for the grace time"
	case 2*left >= h.had && 100*(h.had-left) < p.Share*h.had && !mass:
		why = "enough others have come"
	default:
		return true
	}
	g.log.Warn("loss believed, the instances are gone", "service", name, "lost", len(gone), "left", left, "reason", why)
	delete(g.held, name)
	g.had[name] = peak{left, now}
	return false
}

func until(t time.Time) string {
	if t.IsZero() {
		return "approved"
	}
	return t.Format(time.RFC3339)
}

// lower takes what was let go in an orderly way off what a service had.
func (g *lossGuard) lower(name string, orderly int) {
	if p, ok := g.had[name]; ok && orderly > 0 {
		p.n = max(p.n-orderly, 0)
		g.had[name] = p
	}
}

// remember notes how many instances services have. Without a share below 100 it is not asked for.
func (g *lossGuard) remember(raw route.Snapshot, now time.Time) {
	for _, s := range raw.Services {
		policy := g.policy.of(s.Name)
		p := g.had[s.Name]
		if policy.Share < 100 && (len(s.Instances) >= p.n || now.Sub(p.at) > policy.Grace) && g.held[s.Name] == nil {
			g.had[s.Name] = peak{len(s.Instances), now}
		}
	}
	for name, p := range g.had {
		if now.Sub(p.at) > g.policy.of(name).Grace && g.held[name] == nil {
			delete(g.had, name)
		}
	}
}

// settle drops held instances whose address somebody else has by now: requests must never reach
// a service that was not asked for.
func (g *lossGuard) settle(next, raw route.Snapshot) route.Snapshot {
	taken := map[string]bool{}
	for _, s := range raw.Services {
		for _, in := range s.Instances {
			taken[endpoint(in)] = true
		}
	}
	for i, s := range next.Services {
		if !slices.ContainsFunc(s.Instances, func(in route.Instance) bool { return in.Held && taken[endpoint(in)] }) {
			continue
		}
		next.Services[i].Instances = slices.DeleteFunc(slices.Clone(s.Instances), func(in route.Instance) bool {
			return in.Held && taken[endpoint(in)]
		})
	}
	next.Services = slices.DeleteFunc(next.Services, func(s route.Service) bool { return len(s.Instances) == 0 })
	return next
}

func endpoint(in route.Instance) string { return net.JoinHostPort(in.Address, strconv.Itoa(in.Port)) }

func (g *lossGuard) vanished(s route.Service, left []route.Instance) (gone []route.Instance, orderly int) {
	if len(left) == 0 && g.unrouted(s.Name) {
		return nil, len(s.Instances)
	}
	return vanished(s.Instances, left)
}

// vanished returns the instances that are gone and got requests until then, and how many others
// are gone. One that is back under another ID has not gone.
func vanished(known, left []route.Instance) (gone []route.Instance, orderly int) {
	if len(known) > 0 && len(left) > 0 && &known[0] == &left[0] {
		return nil, 0 // not read again
	}
	there := make(map[string]bool, 2*len(left))
	for _, in := range left {
		there[in.Node+"\x00"+in.ID] = true
		there[endpoint(in)] = true
	}
	for _, in := range known {
		switch {
		case there[in.Node+"\x00"+in.ID], there[endpoint(in)]:
		case in.Status == route.Passing, in.Status == route.Warning, in.Held:
			gone = append(gone, in)
		default:
			orderly++
		}
	}
	return gone, orderly
}

// with returns sorted services with held instances added to one of them.
func with(services []route.Service, name string, gone []route.Instance) []route.Service {
	at, found := slices.BinarySearchFunc(services, name, func(s route.Service, name string) int { return strings.Compare(s.Name, name) })
	s := route.Service{Name: name}
	if found {
		s.Instances = slices.Clone(services[at].Instances)
	}
	for _, in := range gone {
		in.Held = true
		s.Instances = append(s.Instances, in)
	}
	slices.SortFunc(s.Instances, func(x, y route.Instance) int {
		return cmp.Or(strings.Compare(x.Node, y.Node), strings.Compare(x.ID, y.ID))
	})
	if found {
		services[at] = s
		return services
	}
	return slices.Insert(services, at, s)
}

// due reports whether time alone changes what is held.
func (g *lossGuard) due(now time.Time) bool {
	at := g.until()
	return !at.IsZero() && !now.Before(at)
}

// until returns when the next loss is believed; zero when none is held or only others can tell.
func (g *lossGuard) until() time.Time { return g.next(time.Time{}) }

// next returns when the next loss after a moment is believed. One whose time has come waits for an
// answer, such as the end of an emptied catalog, and not for the clock.
func (g *lossGuard) next(after time.Time) time.Time {
	var first time.Time
	for _, h := range g.held {
		if h.Until.After(after) && (first.IsZero() || h.Until.Before(first)) {
			first = h.Until
		}
	}
	return first
}

// list returns what is held, sorted by service.
func (g *lossGuard) list() []Held {
	list := make([]Held, 0, len(g.held))
	for _, name := range slices.Sorted(maps.Keys(g.held)) {
		list = append(list, g.held[name].Held)
	}
	return list
}
