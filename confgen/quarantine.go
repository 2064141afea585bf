package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// quarantineKey is the key of problems of services that the proxy's checker refuses.
const quarantineKey = "quarantine"

// What is used of a service in quarantine, the best first.
type remedy int

const (
	asItIs      remedy = iota // in no quarantine
	oldSettings               // without what operators set live since it was accepted last
	oldLabels                 // the instances there are, with the labels that were accepted last
	oldRows                   // everything as it was accepted last
	nothing                   // the service is not routed
)

// String says it in a problem.
func (r remedy) String() string {
	return [...]string{
		"", "what was set live since then is left out", "its instances are routed by the labels that were accepted last",
		"it is routed as it was accepted last", "it is not routed",
	}[r]
}

// quarantine takes services out whose configuration the checker refuses, so that nobody else
// waits for them. It works on the snapshot, in front of all that is made of it: routes that
// others claim too, templates of the operator's own, explanations all follow by themselves.
type quarantine struct {
	log  hclog.Logger
	out  map[string]patient
	good map[string]asking // as the proxy runs them
	with edition           // that good was accepted with

	inVain string // the refusal that no service is to blame for

	file    string // where good is kept of those who are out; "" for nowhere
	kept    []byte // what stands there
	settled bool   // something was accepted since the start
}

// patient is a service in quarantine.
type patient struct {
	words  string // the checker's own
	remedy remedy
	asked  string // what the service looked like when it was refused
	with   edition
}

// asking is all that one service asks for.
type asking struct {
	route.Service
	set []route.Override // live
}

// edition tells apart what a configuration is made with besides the catalog: a service that was
// refused with one is worth another try with the next.
type edition struct {
	templates    int // edition of those
	certificates int // version of the store
}

func newQuarantine(log hclog.Logger) *quarantine {
	return &quarantine{log: log, out: map[string]patient{}, good: map[string]asking{}}
}

// inherit takes over what the proxy runs from the quarantine of before the settings changed: who
// is refused now is routed as it was accepted then.
func (q *quarantine) inherit(before *quarantine) {
	q.good, q.with, q.settled = before.good, edition{-1, -1}, before.settled
	if q.file == before.file {
		q.kept = before.kept
	}
}

// asksOf returns what each service asks for.
func asksOf(s route.Snapshot) map[string]asking {
	list := make(map[string]asking, len(s.Services))
	for _, service := range s.Services {
		list[service.Name] = asking{Service: service}
	}
	for _, o := range s.Overrides {
		if name, ok := setFor(o, func(name string) bool { return list[name].Name != "" }); ok {
			a := list[name]
			a.set = append(a.set, o)
			list[name] = a
		}
	}
	return list
}

// setFor returns the service that something is set for: the longest name that there is.
func setFor(o route.Override, is func(name string) bool) (string, bool) {
	for cut := strings.LastIndexByte(o.Path, '/'); cut > 0; cut = strings.LastIndexByte(o.Path[:cut], '/') {
		if is(o.Path[:cut]) {
			return o.Path[:cut], true
		}
	}
	return "", false
}

// admit returns a snapshot without what is in quarantine. A service that has changed, or whose
// templates or certificates have, is tried again.
func (q *quarantine) admit(s route.Snapshot, with edition) route.Snapshot {
	if len(q.out) == 0 {
		return s
	}
	now := asksOf(s)
	for name, p := range q.out {
		switch a, there := now[name]; {
		case !there:
			delete(q.out, name)
		case p.asked != asks(a, p.remedy) || p.with != with:
			delete(q.out, name)
			q.log.Info("service has changed, trying it again", "service", name)
		}
	}
	remedies := make(map[string]remedy, len(q.out))
	for name, p := range q.out {
		remedies[name] = p.remedy
	}
	return q.treat(s, remedies)
}

// treat returns a snapshot in which services are replaced as their remedies say.
func (q *quarantine) treat(s route.Snapshot, remedies map[string]remedy) route.Snapshot {
	if len(remedies) == 0 {
		return s
	}
	treated := route.Snapshot{Services: make([]route.Service, 0, len(s.Services))}
	there := make(map[string]bool, len(s.Services))
	for _, service := range s.Services {
		there[service.Name] = true
		switch r := remedies[service.Name]; r {
		case asItIs, oldSettings:
			treated.Services = append(treated.Services, service)
		case oldLabels:
			treated.Services = append(treated.Services, relabelled(service, q.good[service.Name].Service))
		case oldRows:
			treated.Services = append(treated.Services, q.good[service.Name].Service)
		case nothing:
		}
		if r := remedies[service.Name]; r == oldSettings || r == oldRows {
			treated.Overrides = append(treated.Overrides, q.good[service.Name].set...)
		}
	}
	for _, o := range s.Overrides {
		name, _ := setFor(o, func(name string) bool { return there[name] })
		if r := remedies[name]; r == asItIs || r == oldLabels {
			treated.Overrides = append(treated.Overrides, o)
		}
	}
	return treated
}

// relabelled gives the instances of now the labels of before: its own to one that was there, to
// one that is new those of one with the same port of its container, else the first one's. Whose
// port an instance is stays as it is.
func relabelled(now, before route.Service) route.Service {
	if len(before.Instances) == 0 {
		return before
	}
	out := route.Service{Name: now.Name, Instances: slices.Clone(now.Instances)}
	for i, in := range out.Instances {
		model := before.Instances[max(0, slices.IndexFunc(before.Instances, func(b route.Instance) bool { return portOf(b) == portOf(in) }))]
		for _, b := range before.Instances {
			if b.ID == in.ID && b.Node == in.Node {
				model = b
			}
		}
		out.Instances[i].Meta, out.Instances[i].Tags = model.Meta, model.Tags
	}
	return out
}

// portOf is the part of registrator's mark that says which port of its container an instance is.
func portOf(in route.Instance) string {
	_, port, _ := strings.Cut(in.Owner, ":")
	return port
}

// asks describes what a service asks for; when that changes it is worth another try. Where its
// labels alone were to blame, instances that come and go change nothing.
func asks(a asking, r remedy) string {
	lines := make([]string, 0, len(a.Instances)+len(a.set))
	for _, in := range a.Instances {
		line := fmt.Sprint(slices.Sorted(maps.Keys(in.Meta)), in.Meta, in.Tags)
		if r != oldLabels && r != oldSettings {
			line += fmt.Sprint(in.Node, in.ID, in.Address, in.Port)
		}
		lines = append(lines, line)
	}
	for _, o := range a.set {
		lines = append(lines, fmt.Sprint("set ", o))
	}
	slices.Sort(lines)
	return strings.Join(slices.Compact(lines), "\n")
}

// accepted notes what the proxy runs by now.
func (q *quarantine) accepted(s route.Snapshot, with edition) {
	q.good, q.with, q.inVain, q.settled = asksOf(s), with, "", true
}

// problems tells of who is in quarantine.
func (q *quarantine) problems() []route.Problem {
	list := make([]route.Problem, 0, len(q.out))
	for _, name := range slices.Sorted(maps.Keys(q.out)) {
		p := q.out[name]
		list = append(list, route.Problem{
			Service: name, Key: quarantineKey,
			Reason: fmt.Sprintf("refused by the checker: %s; %s until it changes", p.words, p.remedy),
		})
	}
	return list
}

// suspects are the services that are not as the proxy runs them: all, when the templates are not
// those either. Those that are in quarantine already are among them only as long as they may be
// treated further.
func (q *quarantine) suspects(now map[string]asking, with edition) []string {
	var list []string
	for name, a := range now {
		before, known := q.good[name]
		if q.with != with || !known || asks(a, asItIs) != asks(before, asItIs) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// cause describes a refusal and what may have caused it. Instances that come and go did not.
func (q *quarantine) cause(now map[string]asking, with edition, refusal error) string {
	var b strings.Builder
	fmt.Fprintln(&b, with, wordsOf(refusal))
	for _, name := range slices.Sorted(maps.Keys(now)) {
		a := now[name]
		if before, known := q.good[name]; !known || asks(a, oldLabels) != asks(before, oldLabels) {
			fmt.Fprintln(&b, name, asks(a, oldLabels))
		}
	}
	return b.String()
}
