package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
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

// maxTries bounds the checks of one search. A culprit that the checker's words point at takes two
// or three, one of 500 that they do not point at about twenty.
const maxTries = 60

// search finds the services that are to blame for a refusal.
type search struct {
	q        *quarantine
	snapshot route.Snapshot    // as it is
	now      map[string]asking // the same, by service
	with     edition
	try      func(context.Context, route.Snapshot) (tried, error)
	tries    int
	remedies map[string]remedy
	words    map[string]string
}

// tried is what was made of a snapshot.
type tried struct {
	files []render.File
	table route.Table
}

// errTooMany ends a search that finds no end.
var errTooMany = errors.New("too many checks")

// isolate looks for the services that are to blame for a refusal and takes them into quarantine.
// It returns false when nobody is found: then the configuration as a whole is refused.
func (q *quarantine) isolate(ctx context.Context, s route.Snapshot, with edition, first tried, refusal error,
	try func(context.Context, route.Snapshot) (tried, error),
) bool {
	now := asksOf(s)
	cause := q.cause(now, with, refusal)
	if cause == q.inVain {
		return false
	}
	f := &search{q: q, snapshot: s, now: now, with: with, try: try, remedies: map[string]remedy{}, words: map[string]string{}}
	for name, p := range q.out {
		f.remedies[name], f.words[name] = p.remedy, p.words
	}
	found := f.byWords(ctx, first, refusal) || f.byHalves(ctx, refusal)
	if !found || ctx.Err() != nil {
		if ctx.Err() == nil {
			q.inVain = cause
			q.log.Warn("no single service is to blame for what the checker refuses", "checks", f.tries)
		}
		return false
	}
	f.heal(ctx)
	for name, r := range f.remedies {
		q.out[name] = patient{words: f.words[name], remedy: r, asked: asks(now[name], r), with: with}
	}
	return true
}

// check tries the snapshot as it is treated now.
func (f *search) check(ctx context.Context) (tried, error) {
	if f.tries++; f.tries > maxTries {
		return tried{}, errTooMany
	}
	made, err := f.try(ctx, f.q.treat(f.snapshot, f.remedies))
	if r, is := errors.AsType[*proxy.RejectedError](err); is && r.Hung {
		f.tries = maxTries // no more
		err = errors.Join(errTooMany, err)
	}
	return made, err
}

// byWords takes out whom the checker's words point at, until it is content.
func (f *search) byWords(ctx context.Context, made tried, refusal error) bool {
	kept := maps.Clone(f.remedies)
	for {
		fresh := 0
		for _, name := range blamed(made.files, made.table, wordsOf(refusal)) {
			if f.remedies[name] != nothing {
				f.remedies[name], f.words[name] = nothing, wordsOf(refusal)
				fresh++
			}
		}
		if fresh == 0 {
			break
		}
		var err error
		if made, err = f.check(ctx); err == nil {
			f.spare(ctx, kept)
			return true
		}
		if refusal = err; ctx.Err() != nil || errors.Is(err, errTooMany) {
			break
		}
	}
	f.remedies = kept
	return false
}

// spare lets those go who were taken out without need.
func (f *search) spare(ctx context.Context, before map[string]remedy) {
	names := slices.Sorted(maps.Keys(f.remedies))
	if len(names) < 2 {
		return
	}
	for _, name := range names {
		was := f.remedies[name]
		if before[name] == was {
			continue
		}
		delete(f.remedies, name)
		if before[name] != asItIs {
			f.remedies[name] = before[name]
		}
		if _, err := f.check(ctx); err != nil {
			f.remedies[name] = was
			if words := wordsOf(err); !errors.Is(err, errTooMany) {
				f.words[name] = words
			}
		}
	}
}

// byHalves takes all suspects out and lets them in again by halves.
func (f *search) byHalves(ctx context.Context, refusal error) bool {
	suspects := f.q.suspects(f.now, f.with)
	everybody := make([]string, 0, len(f.snapshot.Services))
	for _, s := range f.snapshot.Services {
		everybody = append(everybody, s.Name)
	}
	kept := maps.Clone(f.remedies)
	for _, group := range [][]string{suspects, everybody} {
		f.remedies = maps.Clone(kept)
		for _, name := range group {
			f.remedies[name] = nothing
		}
		if _, err := f.check(ctx); err != nil {
			if ctx.Err() != nil {
				return false
			}
			continue
		}
		if len(group) == 1 {
			f.words[group[0]] = wordsOf(refusal)
			return true
		}
		return f.admit(ctx, group, kept)
	}
	return false
}

// admit lets a group in, and where that is refused its halves, until those are left out that are
// refused alone.
func (f *search) admit(ctx context.Context, group []string, kept map[string]remedy) bool {
	for _, name := range group {
		delete(f.remedies, name)
		if r := kept[name]; r != asItIs {
			f.remedies[name] = r
		}
	}
	_, err := f.check(ctx)
	if err == nil {
		return true
	}
	for _, name := range group {
		f.remedies[name] = nothing
	}
	switch {
	case ctx.Err() != nil, errors.Is(err, errTooMany):
		return false
	case len(group) == 1:
		f.words[group[0]] = wordsOf(err)
		return true
	}
	half := len(group) / 2
	return f.admit(ctx, group[:half], kept) && f.admit(ctx, group[half:], kept)
}

// heal gives those who are out the mildest remedy that the checker accepts.
func (f *search) heal(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(f.remedies)) {
		if f.remedies[name] != nothing {
			continue
		}
		for _, r := range f.milder(name) {
			f.remedies[name] = r
			if r == nothing {
				break
			}
			if _, err := f.check(ctx); err == nil {
				break
			}
		}
	}
}

// milder are the remedies that may help a service, the best first.
func (f *search) milder(name string) []remedy {
	before, known := f.q.good[name]
	var list []remedy
	if !slices.Equal(before.set, f.now[name].set) {
		list = append(list, oldSettings)
	}
	if known {
		list = append(list, oldLabels, oldRows)
	}
	return append(list, nothing)
}

// preamble is what checkers put in front of what they have to say, process ids among it.
var preamble = regexp.MustCompile(`^(\[[A-Z]+\] *\(\d+\) *: *(config *: *)?|nginx: \[[a-z]+\] )`)

// wordsOf returns what the checker, or the template engine, said, as one line of bounded length:
// the lines that name a place in a file or, when none does, all that are no mere notices.
func wordsOf(err error) string {
	const most = 400
	text := err.Error()
	if refusal, is := errors.AsType[*proxy.RejectedError](err); is {
		text = cmp.Or(refusal.Output, refusal.Error())
	}
	var places, others []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		said := preamble.ReplaceAllString(line, "")
		switch {
		case line == "" || strings.HasPrefix(line, "[NOTICE]"):
		case placeInFile.MatchString(said):
			places = append(places, said)
		default:
			others = append(others, said)
		}
	}
	if len(places) == 0 {
		places = others
	}
	words := strings.Join(places, "; ")
	if len(words) > most {
		words = words[:most] + "…"
	}
	return words
}
