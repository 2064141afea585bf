package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/watch"
	"fairway/internal/daemon"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

// The exit codes of --once and --dry-run beside the common ones. 2 stays what it is everywhere,
// a usage error, so that a script that misspells a flag does not take it for a difference.
const (
	exitUnchanged = 3 // --once: nothing to change
	exitInvalid   = 4 // a template is broken, or the checker or the proxy refuses the result
	exitTimeout   = 5 // Consul has not answered everything in time
	exitDifferent = 6 // --dry-run: something to change
)

// exit ends the program with a code of its own and says why, unless err is nil.
func exit(code int, err error) error {
	if err == nil {
		return cli.Exit("", code)
	}
	return cli.Exit(err.Error(), code)
}

// once makes the proxy equal to the catalog one time, or prints what that would change.
func once(ctx context.Context, config Config, d *daemon.Daemon, out io.Writer) error {
	config.Proxies = slices.Clone(config.Proxies)
	for i := range config.Proxies {
		config.Proxies[i].Snapshot = "" // only what Consul says now will do
	}
	p, err := newProgram(config, d, func(error) {})
	if err != nil {
		return err
	}
	defer p.close()
	defer p.background(ctx)()
	limit := time.NewTimer(config.Proxies[0].Timeout)
	defer limit.Stop()
	view, err := p.await(ctx, limit.C)
	if err != nil {
		return err
	}
	var results []error
	for _, f := range p.fronts.all() {
		if err := p.once(ctx, f, view, limit.C, out); err != nil {
			results = append(results, err)
		}
	}
	return worst(results, len(p.fronts.all()))
}

// worst is how it ended for all proxies together: there was something to do if there was for one.
func worst(results []error, of int) error {
	unchanged := 0
	for _, err := range results {
		if coded, ok := errors.AsType[cli.ExitCoder](err); ok && coded.ExitCode() == exitUnchanged {
			unchanged++
		}
	}
	if of == unchanged {
		return exit(exitUnchanged, nil)
	}
	rank := []int{exitUnchanged, exitDifferent, exitTimeout, exitInvalid}
	var found error
	at := 0
	for _, err := range results {
		is := len(rank)
		if coded, ok := errors.AsType[cli.ExitCoder](err); ok {
			is = slices.Index(rank, coded.ExitCode())
		}
		if is > at {
			found, at = err, is
		}
	}
	return found
}

// once makes one proxy equal to the catalog one time, or prints what that would change.
func (p *program) once(ctx context.Context, f *front, view watch.View, limit <-chan time.Time, out io.Writer) error {
	store := f.secrets.now()
	table := route.Build(view.Snapshot, store.routing(f.opt.Routing))
	for _, problem := range table.Problems {
		warnProblem(f.log, problem)
	}
	files, err := p.render(ctx, f, store, render.View{Table: table, Settings: f.opt.Render}, limit)
	if _, coded := errors.AsType[cli.ExitCoder](err); coded {
		return err
	}
	if err != nil {
		return exit(exitInvalid, err)
	}
	if f.opt.DryRun {
		return f.dryRun(files, out)
	}
	result, err := f.target.Apply(ctx, files)
	switch {
	case rejected(err):
		return exit(exitInvalid, err)
	case err != nil && !errors.Is(err, proxy.ErrNotRunning):
		return err
	case err != nil:
		f.log.Warn("files are in place for a proxy that does not run", "err", err)
	}
	f.log.Info("applied", "action", result.Action, "written", len(result.Written), "elapsed", result.Elapsed.String())
	if result.Action == proxy.None && len(result.Written) == 0 {
		return exit(exitUnchanged, nil)
	}
	return nil
}

// background follows Consul until the function that it returns is called.
func (p *program) background(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.watcher.Run(ctx) })
	group.Go(func() error { return p.follow.Run(ctx) })
	return func() {
		cancel()
		if err := group.Wait(); err != nil {
			p.d.Log.Warn("consul was not followed to the end", "err", err)
		}
	}
}

// await waits until there is a complete snapshot, or says what is missing.
func (p *program) await(ctx context.Context, limit <-chan time.Time) (watch.View, error) {
	for {
		if view, known := p.watcher.Latest(); known {
			return view, nil
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return watch.View{}, ctx.Err()
		case <-limit:
			s := p.watcher.Status(ctx)
			why := []string{s.Err}
			if s.Held != "" {
				why = append(why, s.Held)
			}
			if len(s.Missing) > 0 {
				why = append(why, "not answered: "+strings.Join(s.Missing, ", "))
			}
			return watch.View{}, p.late(strings.Join(why, "; "))
		}
	}
}

func (p *program) late(why string) error {
	return exit(exitTimeout, fmt.Errorf("no complete answer of consul within %s: %s", p.config.Proxies[0].Timeout, why))
}

// render prints a proxy's files, as soon as all is known that its templates ask for.
func (p *program) render(ctx context.Context, f *front, store inventory, view render.View, limit <-chan time.Time) ([]render.File, error) {
	for {
		files, err := renderWith(f.source, store, view)
		if !errors.Is(err, errPending) {
			if err == nil {
				err = f.source.Err()
			}
			return files, err
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit:
			return nil, p.late(err.Error())
		}
	}
}

// dryRun says whether files differ from what is on disk and prints how, if asked to.
func (f *front) dryRun(files []render.File, out io.Writer) error {
	changes, err := f.target.Diff(files)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := f.print(out, c); err != nil {
			return fmt.Errorf("print changes: %w", err)
		}
	}
	if len(changes) > 0 {
		return exit(exitDifferent, nil)
	}
	return nil
}

// print prints a change, without the stats page's password.
func (f *front) print(out io.Writer, c proxy.Change) error {
	if !f.opt.Diff || strings.HasPrefix(c.Path, "certs/") { // keys are not shown
		verb := "change"
		switch {
		case c.Before == nil:
			verb = "write"
		case c.After == nil:
			verb = "remove"
		}
		_, err := fmt.Fprintln(out, verb, f.shown(c.Path))
		return err
	}
	d := difflib.UnifiedDiff{
		A: f.lines(c.Before), B: f.lines(c.After),
		FromFile: "a/" + f.shown(c.Path), ToFile: "b/" + f.shown(c.Path), Context: 3,
	}
	if c.Before == nil {
		d.FromFile = "/dev/null"
	}
	if c.After == nil {
		d.ToFile = "/dev/null"
	}
	return difflib.WriteUnifiedDiff(out, d)
}

// shown is a file as people see it: with several proxies, below the proxy's name.
func (f *front) shown(path string) string { return filepath.Join(f.opt.Name, path) }

func (f *front) lines(data []byte) []string {
	text := string(data)
	if secret := f.opt.Render.StatsPassword; secret != "" {
		text = strings.ReplaceAll(text, secret, "********")
	}
	if text == "" {
		return nil
	}
	return difflib.SplitLines(strings.TrimSuffix(text, "\n"))
}
