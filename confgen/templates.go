package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

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
}

// newSource reads the templates. An error leaves a source that can be refreshed.
func newSource(kind string, paths []string, log hclog.Logger) (*source, error) {
	s := &source{defaults: templates.HAProxy(), paths: paths, log: log}
	if kind == "nginx" {
		s.defaults = templates.Nginx()
	}
	s.refresh(true)
	return s, s.parseOf
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
	layers := append([]fs.FS{}, s.defaults...)
	for _, path := range s.paths {
		layers = append(layers, layerOf(path))
	}
	r, err := render.New(layers...)
	if s.parseOf = err; err != nil {
		s.log.Warn("templates cannot be read, the last good ones stay in use", "err", err)
		return false
	}
	s.newest, s.execOf = r, nil
	s.reading++
	return true
}

// Render prints the files of view with the newest templates, else with the last good ones.
func (s *source) Render(view render.View) ([]render.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest == nil {
		return nil, fmt.Errorf("templates: %w", s.parseOf)
	}
	files, err := s.newest.Render(view)
	if err == nil {
		s.good, s.execOf, s.printed = s.newest, nil, s.reading
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
	return errors.Join(s.parseOf, s.execOf)
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
