package main

import (
	"context"
	"errors"
	"slices"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/watch"
)

// catalog is what is routed.
type catalog interface {
	Latest() (watch.View, bool)
}

// files prints a view.
type files interface {
	Render(view render.View) ([]render.File, error)
	edition() int
}

// target is the proxy and its folder.
type target interface {
	Lock() error
	Apply(ctx context.Context, files []render.File) (proxy.Result, error)
	ApplyPinned(ctx context.Context) (proxy.Result, error)
	Attend(ctx context.Context) (proxy.Result, error)
	CanCheck() bool
	Check(ctx context.Context, files []render.File) error
}

// condition is a part of being ready. The report logs what there is to say of it.
type condition interface{ Show(err error) }

// syncer makes the proxy equal to the catalog, one pass at a time. It is the program; all else
// wakes it, watches it or tells about it.
type syncer struct {
	catalog  catalog
	routing  route.Settings
	settings render.Settings
	files    files
	secrets  *secrets
	target   target
	proxy    condition
	report   *report

	quarantine *quarantine
	last       lastTable
}

// errNoCatalog is the state of a proxy that is waiting to be looked at.
var errNoCatalog = errors.New("waiting for the catalog")

// pass is one look at the catalog and the making of the difference. Nothing to go by yet is
// nothing to do: the files on disk, and the proxy, are as good as what is known. Only a folder
// that cannot be used is shown at once.
func (s *syncer) pass(ctx context.Context) error {
	view, known := s.catalog.Latest()
	if !known {
		s.proxy.Show(errNoCatalog)
		return s.tell(s.report.claimed(s.target.Lock()))
	}
	store := s.secrets.now()
	s.report.holds(store)
	admitted := s.quarantine.admit(view.Snapshot, s.edition(store))
	made, err := s.make(store, admitted)
	if err != nil {
		s.attend(ctx, view)
	}
	if errors.Is(err, errPending) { // as with the catalog: the answers wake us
		s.proxy.Show(err)
		s.report.setError(err)
		return nil
	}
	if err != nil {
		if s.isolated(ctx, store, view.Snapshot, made, err) {
			return s.pass(ctx)
		}
		// What an operator went back to needs no templates.
		if result, pinErr := s.target.ApplyPinned(ctx); !errors.Is(pinErr, proxy.ErrNoGeneration) {
			err = errors.Join(err, s.report.applied(view, result, pinErr))
		}
		return s.tell(s.report.notRendered(err))
	}
	result, err := s.target.Apply(ctx, made.files)
	switch {
	case result.Deferred != "", result.Pinned != "":
	case err == nil, errors.Is(err, proxy.ErrNotRunning) && !rejected(err):
		s.quarantine.accepted(admitted, s.edition(store))
	case rejected(err) && s.isolated(ctx, store, view.Snapshot, made, err):
		return s.pass(ctx)
	}
	switch {
	case err == nil && s.report.ready(result):
		s.proxy.Show(nil)
	case err == nil:
		s.proxy.Show(errors.New(result.Deferred))
	}
	return s.tell(s.report.applied(view, result, err))
}

// attend sees to a reload that is on its way although nothing can be applied now.
func (s *syncer) attend(ctx context.Context, view watch.View) {
	result, err := s.target.Attend(ctx)
	if err != nil || result.Action != proxy.None {
		_ = s.report.applied(view, result, err) // It is told; what is to be done about it, the next Apply knows.
	}
}

// edition is what is used besides the catalog.
func (s *syncer) edition(store inventory) edition {
	return edition{templates: s.files.edition(), certificates: store.Version}
}

// make prints the files of a snapshot.
func (s *syncer) make(store inventory, snapshot route.Snapshot) (tried, error) {
	made := tried{table: s.last.build(snapshot, store, s.routing)}
	shown := made.table
	shown.Problems = slices.Concat(made.table.Problems, s.quarantine.problems())
	s.report.built(shown)
	err := s.print(store, &made)
	return made, err
}

func (s *syncer) print(store inventory, made *tried) (err error) {
	made.files, err = renderWith(s.files, store, render.View{Table: made.table, Settings: s.settings})
	return err
}

// isolated reports whether services were found that are to blame for a refusal: of the checker, or
// of the templates. What only a reload refuses is not looked into, since each guess would be felt
// by clients, nor is a checker that hangs: it says nothing of anybody, and servers would wait for
// each guess.
func (s *syncer) isolated(ctx context.Context, store inventory, snapshot route.Snapshot, made tried, refusal error) bool {
	if r, is := errors.AsType[*proxy.RejectedError](refusal); !s.target.CanCheck() || is && (r.By != proxy.ByCheck || r.Hung) {
		return false
	}
	return s.quarantine.isolate(ctx, snapshot, s.edition(store), made, refusal, func(ctx context.Context, snapshot route.Snapshot) (tried, error) {
		guess := tried{table: route.Build(snapshot, store.routing(s.routing))}
		if err := s.print(store, &guess); err != nil {
			return guess, err
		}
		return guess, s.target.Check(ctx, guess.files)
	})
}

// tell shows why a pass failed, in one line.
func (s *syncer) tell(err error) error {
	if err != nil {
		s.proxy.Show(errors.New(oneLine(err)))
	}
	return err
}

// withSecrets keeps the file that holds the stats page's password from everybody but the owner
// and the group.
func withSecrets(files []render.File, set render.Settings) []render.File {
	for i := range files {
		if (set.Stats() || len(set.UserLists) > 0) && files[i].Path == mainFile["haproxy"] {
			files[i].Mode = 0o640
		}
	}
	return files
}

// rejected reports whether the proxy, or its checker, refuses what was rendered.
func rejected(err error) bool {
	var r *proxy.RejectedError
	return errors.As(err, &r)
}
