package main

import (
	"context"
	"errors"

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
}

// target is the proxy and its folder.
type target interface {
	Apply(ctx context.Context, files []render.File) (proxy.Result, error)
}

// condition is a part of being ready.
type condition interface{ Set(err error) }

// syncer makes the proxy equal to the catalog, one pass at a time. It is the program; all else
// wakes it, watches it or tells about it.
type syncer struct {
	catalog  catalog
	routing  route.Settings
	settings render.Settings
	files    files
	target   target
	proxy    condition
	report   *report
}

// pass is one look at the catalog and the making of the difference. Nothing to go by yet is
// nothing to do: the files on disk, and the proxy, are as good as what is known.
func (s *syncer) pass(ctx context.Context) error {
	view, known := s.catalog.Latest()
	if !known {
		return nil
	}
	table := route.Build(view.Snapshot, s.routing)
	s.report.built(table)
	rendered, err := s.files.Render(render.View{Table: table, Settings: s.settings})
	if err != nil {
		return s.report.notRendered(err)
	}
	result, err := s.target.Apply(ctx, rendered)
	s.proxy.Set(err)
	return s.report.applied(view, result, err)
}

// rejected reports whether the proxy, or its checker, refuses what was rendered.
func rejected(err error) bool {
	var r *proxy.RejectedError
	return errors.As(err, &r)
}
