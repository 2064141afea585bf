package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"fairway/confgen/ctmpl"
	"fairway/confgen/render"
	"fairway/templates"

	"github.com/hashicorp/go-hclog"
)

// templatePoll is how often the operator's template files are looked at. There are few, and a
// look costs one stat each.
const templatePoll = time.Second

// source is the templates in use. Ones that cannot be parsed or executed leave the last good ones
// in use.
type source struct {
	defaults []fs.FS
	paths    []string
	log      hclog.Logger

	mu      sync.Mutex
	newest  *render.Renderer // parsed last; nil when nothing ever was
	good    *render.Renderer // executed last without an error
	parseOf error            // why the files as they stand cannot be parsed
	execOf  error            // why newest cannot be executed
	stamp   string           // of the files that were read
	reading int              // counts what was parsed
	printed int              // the reading that was executed last

	kept       string // file of the last good ones, for the next start; "" for none
	keptText   []byte // what is in it
	newestText []byte // what newest was parsed from

	own    ownTemplates // in consul-template's dialect
	readOf error        // why these cannot be read
	told   string       // what was logged of their errors
}

// newSource reads the templates of a proxy. An error leaves a source that can be refreshed.
func newSource(opt Options, follow *ctmpl.Follower, log hclog.Logger) (*source, error) {
	s := &source{
		defaults: templates.HAProxy(), paths: opt.Template, log: log, kept: copyPath(opt),
		own: ownTemplates{dir: opt.Proxy.Dir, follow: follow, all: map[string]*ownTemplate{}},
	}
	if opt.Proxy.Kind == "nginx" {
		s.defaults = templates.Nginx()
	}
	if opt.NoDefaults {
		s.defaults = nil
	}
	s.recall()
	s.refresh(true)
	return s, s.Err()
}

// close stops following what the templates used.
func (s *source) close() error {
	s.own.close()
	return nil
}

// refresh reads the files again when they have changed, or in any case, and reports whether
// there is something new to try.
func (s *source) refresh(force bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamp := s.stampOf()
	if !force && stamp == s.stamp {
		return false
	}
	s.stamp = stamp
	var mine []fs.FS
	for _, path := range s.paths {
		mine = append(mine, layerOf(path))
	}
	changed, err := s.own.read(mine)
	s.readOf = err
	if changed {
		s.reading++
	}
	copied, err := copyTemplates(mine)
	var r *render.Renderer
	if err == nil {
		r, err = render.New(slices.Concat(s.defaults, copied.layers)...)
	}
	if errors.Is(err, render.ErrNothing) && len(s.own.all) > 0 {
		s.newest, s.good, s.parseOf, s.execOf = nil, nil, nil, nil
		return true
	}
	if s.parseOf = err; err != nil {
		s.log.Warn("templates cannot be read, the last good ones stay in use", "err", err)
		if s.newest == nil && s.good != nil { // those of an earlier confgen
			s.newest, s.newestText = s.good, s.keptText
			s.reading++
			return true
		}
		return changed
	}
	s.newest, s.newestText, s.execOf = r, copied.archive, nil
	s.reading++
	return true
}

// Render prints the files of view, those of the operator's own templates among them, which come
// in the place of others of the same name.
func (s *source) Render(view render.View) ([]render.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, err := s.own.render()
	s.tellOwn()
	if err != nil {
		return nil, err
	}
	files, err := s.render(view)
	if err != nil || len(own) == 0 {
		return files, err
	}
	files = slices.DeleteFunc(files, func(f render.File) bool {
		return slices.ContainsFunc(own, func(o render.File) bool { return o.Path == f.Path })
	})
	files = append(files, own...)
	slices.SortFunc(files, func(a, b render.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// tellOwn logs what is wrong with own templates, once.
func (s *source) tellOwn() {
	text := ""
	if err := s.own.Err(); err != nil {
		text = oneLine(err)
	}
	if text != s.told && text != "" {
		s.log.Warn("template cannot be used, its last good file stays in use", "err", text)
	}
	s.told = text
}

// render prints the files of view with the newest templates, else with the last good ones.
func (s *source) render(view render.View) ([]render.File, error) {
	if s.newest == nil && s.parseOf == nil { // all are the operator's own
		s.printed = s.reading
		return nil, nil
	}
	if s.newest == nil {
		return nil, fmt.Errorf("templates: %w", s.parseOf)
	}
	files, err := s.newest.Render(view)
	if err == nil {
		s.good, s.execOf, s.printed = s.newest, nil, s.reading
		s.keep()
		return files, nil
	}
	if s.good == nil || s.good == s.newest {
		s.execOf = err
		return nil, fmt.Errorf("render: %w", err)
	}
	if s.execOf == nil {
		s.log.Warn("templates cannot be executed, the last good ones stay in use", "err", err)
	}
	s.execOf = err
	if files, err = s.good.Render(view); err != nil {
		return nil, fmt.Errorf("render: %w", errors.Join(s.execOf, err))
	}
	return files, nil
}

// edition tells apart the templates that were used last from those before.
func (s *source) edition() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.printed
}

// Err says what is wrong with the templates as they stand.
func (s *source) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.parseOf, s.execOf, s.readOf, s.own.Err())
}

// watch calls wake whenever the files have changed, and after every signal on again.
func (s *source) watch(ctx context.Context, again <-chan os.Signal, wake func()) error {
	tick := time.NewTicker(templatePoll)
	defer tick.Stop()
	for {
		force := false
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			force = true
		case <-tick.C:
		}
		if s.refresh(force) {
			s.log.Info("templates read again")
			wake()
		}
	}
}

// stampOf describes the operator's files as they stand: it changes whenever one of them does.
func (s *source) stampOf() string {
	var b strings.Builder
	for _, path := range s.paths {
		err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Stat(name) // through links: a ConfigMap's files are links
			if err != nil {
				return err
			}
			if !info.IsDir() {
				fmt.Fprintf(&b, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
		}
	}
	return b.String()
}

// layerOf returns a folder, or one file, as a layer of templates.
func layerOf(path string) fs.FS {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return oneFile{os.DirFS(filepath.Dir(path)), filepath.Base(path)}
	}
	return os.DirFS(path)
}

// oneFile is a folder that shows one of its files.
type oneFile struct {
	fs.FS
	name string
}

// ReadDir lists the file.
func (f oneFile) ReadDir(name string) ([]fs.DirEntry, error) {
	info, err := fs.Stat(f.FS, f.name)
	if err != nil || name != "." {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(info)}, nil
}
