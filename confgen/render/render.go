package render

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"

	"fairway/confgen/route"
)

// Extension is what the files of templates end with.
const Extension = ".tmpl"

// ErrNothing means that among the templates there is none that makes a file.
var ErrNothing = errors.New("no template prints anything")

// Renderer holds compiled templates. Every template file name.tmpl whose body prints something
// is the output file name; files of {{define}} blocks only are not. A Renderer may be used by
// several goroutines; they take turns.
type Renderer struct {
	mu      sync.Mutex
	tmpl    *template.Template
	outputs []string
	memory  map[string]*remembered
	sizes   map[string]int // of the files, with some room
	emitted []File         // by the rendering that is going on
	now     Settings       // of the last rendering, which what is remembered was printed from
}

// remembered is the text of one part as it was printed last.
type remembered struct {
	part part
	text string
	used bool
}

// New compiles the templates of all layers. A file of a later layer takes the place of one with
// the same name, and a {{define}} in a later layer the place of a block with the same name, so
// that a user changes one block without copying the rest.
func New(layers ...fs.FS) (*Renderer, error) {
	r := &Renderer{memory: make(map[string]*remembered), sizes: make(map[string]int)}
	r.tmpl = template.New("").Option("missingkey=error").Funcs(r.funcs())
	for _, layer := range layers {
		if err := r.parseLayer(layer); err != nil {
			return nil, err
		}
	}
	for _, t := range r.tmpl.Templates() {
		if strings.HasSuffix(t.Name(), Extension) && t.Tree != nil && !parse.IsEmptyTree(t.Root) {
			r.outputs = append(r.outputs, t.Name())
		}
	}
	if len(r.outputs) == 0 {
		return nil, fmt.Errorf("%w: a file called NAME%s makes the file NAME", ErrNothing, Extension)
	}
	slices.Sort(r.outputs)
	return r, nil
}

func (r *Renderer) parseLayer(layer fs.FS) error {
	err := fs.WalkDir(layer, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, Extension) || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		text, err := fs.ReadFile(layer, name)
		if err != nil {
			return err
		}
		_, err = r.tmpl.New(name).Parse(string(text))
		return err
	})
	if err != nil {
		return fmt.Errorf("read templates: %w", err)
	}
	return nil
}

// Outputs are the files that Render returns, sorted.
func (r *Renderer) Outputs() []string {
	names := make([]string, len(r.outputs))
	for i, name := range r.outputs {
		names[i] = strings.TrimSuffix(name, Extension)
	}
	return names
}

// Render prints the files of a view: the same view, the same bytes. An error names the
// template file and line; files printed before are then of no use and not returned.
func (r *Renderer) Render(v View) ([]File, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !reflect.DeepEqual(r.now, v.Settings) {
		clear(r.memory)
		r.now = v.Settings
	}
	data, err := newData(v)
	if err != nil {
		return nil, err
	}
	files := make([]File, 0, len(r.outputs))
	r.emitted = nil
	for _, name := range r.outputs {
		var out bytes.Buffer
		out.Grow(max(r.sizes[name], 4096))
		if err := r.tmpl.ExecuteTemplate(&out, name, data); err != nil {
			return nil, err
		}
		r.sizes[name] = out.Len() + out.Len()/64 // the next is likely to be about as long
		if name == mainFile+Extension {
			data.numbers = numbersIn(out.Bytes())
		}
		files = append(files, File{Path: strings.TrimSuffix(name, Extension), Data: out.Bytes()})
	}
	r.forget()
	return append(files, r.emitted...), nil
}

// remember prints a {{define}} block for one part of the configuration, or returns what it
// printed last time when neither the part nor the settings have changed. With 5,000 services and
// one change this is the difference between printing 50,000 server lines and printing ten.
func (r *Renderer) remember(name string, dot any) (string, error) {
	var p part
	switch v := dot.(type) {
	case route.Backend:
		p = backendData{Backend: v, Settings: &r.now}
	case VirtualServer:
		p = virtualServerData{VirtualServer: v, Settings: &r.now}
	default:
		return "", fmt.Errorf("remember %q: takes one of .Backends or .VirtualServers, not %T", name, dot)
	}
	key := name + "\x00" + p.id()
	if m, ok := r.memory[key]; ok && m.part.same(p) {
		m.used = true
		return m.text, nil
	}
	var out strings.Builder
	if err := r.tmpl.ExecuteTemplate(&out, name, p); err != nil {
		return "", err
	}
	r.memory[key] = &remembered{part: p, text: out.String(), used: true}
	return out.String(), nil
}

// include prints a {{define}} block as a value, for what several lines have in common.
func (r *Renderer) include(name string, dot any) (string, error) {
	var out strings.Builder
	err := r.tmpl.ExecuteTemplate(&out, name, dot)
	return out.String(), err
}

// forget drops the blocks of backends that are gone.
func (r *Renderer) forget() {
	for key, m := range r.memory {
		if !m.used {
			delete(r.memory, key)
			continue
		}
		m.used = false
	}
}
