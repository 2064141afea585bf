package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
	"fairway/confgen/route"
)

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
