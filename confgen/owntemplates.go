package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"fairway/confgen/ctmpl"
	"fairway/confgen/render"
)

// ownTemplate is a template of the operator's in consul-template's dialect. Each stands for
// itself: one that is broken, or waits for what is not there, leaves its last output in use, and
// the others do not notice (F41).
type ownTemplate struct {
	text    string
	tmpl    *ctmpl.Template // parsed last without an error; nil when never
	parseOf error
	execOf  error
	waits   error // for what does not exist
	last    []byte
	printed bool // last is an output, or what an earlier confgen left on disk
}

// errPending means that Consul has not answered all that templates ask for.
var errPending = errors.New("waiting for what templates ask of consul")

// ownTemplates are those of one proxy, by the file that each makes.
type ownTemplates struct {
	dir    string // of the proxy
	follow *ctmpl.Follower
	all    map[string]*ownTemplate
}

// read parses the template files in layers, the later of which win, and reports whether any is
// another one than before.
func (o *ownTemplates) read(layers []fs.FS) (changed bool, err error) {
	texts := make(map[string]string)
	for _, layer := range layers {
		if err := readLayer(layer, texts); err != nil {
			return false, fmt.Errorf("read templates: %w", err)
		}
	}
	for name := range o.all {
		if _, there := texts[name]; !there {
			delete(o.all, name)
			changed = true
		}
	}
	for name, text := range texts {
		t := o.all[name]
		if t == nil {
			t = &ownTemplate{}
			o.all[name] = t
		} else if t.text == text {
			continue
		}
		changed = true
		t.text = text
		parsed, err := ctmpl.Parse(name+ctmpl.Extension, text, render.Quoting())
		if t.parseOf = err; err == nil {
			t.tmpl, t.execOf, t.waits = parsed, nil, nil
		}
	}
	return changed, nil
}

// readLayer reads the template files of a folder, by the files that they make.
func readLayer(layer fs.FS, texts map[string]string) error {
	return fs.WalkDir(layer, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ctmpl.Extension) || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		text, err := fs.ReadFile(layer, name)
		texts[strings.TrimSuffix(name, ctmpl.Extension)] = string(text)
		return err
	})
}

// render prints the files. Only what has never been printed, and what may yet be answered, keeps
// it from returning: a proxy is not given half of what it needs.
func (o *ownTemplates) render() ([]render.File, error) {
	var used []ctmpl.Query
	var pending []string
	var files []render.File
	for _, name := range slices.Sorted(maps.Keys(o.all)) {
		t := o.all[name]
		r := t.execute(o.follow.Recall)
		used = append(used, r.Used...)
		for _, q := range r.Pending {
			pending = append(pending, name+" asks for "+q.String())
		}
		if !t.printed && len(r.Pending) == 0 {
			t.fromDisk(filepath.Join(o.dir, name))
		}
		if t.printed {
			files = append(files, render.File{Path: name, Data: t.last})
		}
	}
	if len(o.all) > 0 {
		o.follow.Want(o, used, len(pending) == 0)
	}
	if len(pending) > 0 && len(files) < len(o.all) {
		return nil, fmt.Errorf("%w: %s", errPending, strings.Join(pending, ", "))
	}
	return files, nil
}

// execute prints one template and keeps what it printed.
func (t *ownTemplate) execute(recall ctmpl.Recall) ctmpl.Result {
	if t.tmpl == nil {
		return ctmpl.Result{}
	}
	r, err := t.tmpl.Execute(recall)
	t.waits = nil
	if len(r.Absent) > 0 {
		names := make([]string, len(r.Absent))
		for i, q := range r.Absent {
			names[i] = q.String()
		}
		t.waits = fmt.Errorf("%s does not exist, or may not be read", strings.Join(names, ", "))
	}
	if r.Complete() {
		t.execOf = err
	}
	if r.Complete() && err == nil {
		t.last, t.printed = r.Output, true
	}
	return r
}

// fromDisk takes what an earlier confgen printed for the last good output.
func (t *ownTemplate) fromDisk(file string) {
	if data, err := os.ReadFile(file); err == nil {
		t.last, t.printed = data, true
	}
}

// Err says what is wrong with which template.
func (o *ownTemplates) Err() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.all)) {
		t := o.all[name]
		errs = append(errs, t.parseOf, t.execOf)
		if t.waits != nil {
			errs = append(errs, fmt.Errorf("%s%s waits: %w", name, ctmpl.Extension, t.waits))
		}
	}
	return errors.Join(errs...)
}

// close stops following what the templates used.
func (o *ownTemplates) close() {
	if o.follow != nil {
		o.follow.Leave(o)
	}
}
