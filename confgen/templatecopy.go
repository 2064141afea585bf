package main

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"fairway/confgen/render"
)

// templateCopy is the operator's templates as they were read at one moment, each layer in a folder
// of its own. Ones that could be executed are kept on disk: where those of the next start are
// broken, they are the last good ones (F41).
type templateCopy struct {
	archive []byte
	layers  []fs.FS
}

// copyTemplates reads the templates of all layers.
func copyTemplates(layers []fs.FS) (templateCopy, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, layer := range layers {
		err := fs.WalkDir(layer, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, render.Extension) {
				return err
			}
			text, err := fs.ReadFile(layer, name)
			if err != nil {
				return err
			}
			f, err := w.Create(path.Join(strconv.Itoa(i), name))
			if err == nil {
				_, err = f.Write(text)
			}
			return err
		})
		if err != nil {
			return templateCopy{}, fmt.Errorf("read templates: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return templateCopy{}, fmt.Errorf("read templates: %w", err)
	}
	return openTemplates(b.Bytes())
}

// openTemplates returns the copy that an archive holds.
func openTemplates(archive []byte) (templateCopy, error) {
	c := templateCopy{archive: archive}
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return c, fmt.Errorf("read templates: %w", err)
	}
	layers := 0
	for _, f := range r.File {
		number, _, _ := strings.Cut(f.Name, "/")
		if n, err := strconv.Atoi(number); err == nil {
			layers = max(layers, n+1)
		}
	}
	for i := range layers {
		layer, err := fs.Sub(r, strconv.Itoa(i))
		if err != nil {
			return c, fmt.Errorf("read templates: %w", err)
		}
		if _, err := fs.Stat(layer, "."); err == nil { // one without templates has no folder
			c.layers = append(c.layers, layer)
		}
	}
	return c, nil
}

// copyPath is where the last good templates of a proxy are kept; "" for nowhere.
func copyPath(opt Options) string {
	if opt.Snapshot == "" || opt.Once || opt.DryRun || len(opt.Template) == 0 {
		return ""
	}
	name := "templates.zip"
	if opt.Name != "" {
		name = "templates-" + opt.Name + ".zip"
	}
	return filepath.Join(filepath.Dir(opt.Snapshot), name)
}

// recall takes the templates that an earlier confgen used for the last good ones.
func (s *source) recall() {
	if s.kept == "" {
		return
	}
	archive, err := os.ReadFile(s.kept)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var c templateCopy
	if err == nil {
		c, err = openTemplates(archive)
	}
	var r *render.Renderer
	if err == nil {
		r, err = render.New(append(slices.Clip(s.defaults), c.layers...)...)
	}
	if err != nil {
		s.log.Warn("the last good templates of before cannot be used", "file", s.kept, "err", err)
		return
	}
	s.good, s.keptText = r, archive
}

// keep saves the templates that have just been executed.
func (s *source) keep() {
	if s.kept == "" || bytes.Equal(s.keptText, s.newestText) {
		return
	}
	s.keptText = s.newestText // tried once
	err := os.MkdirAll(filepath.Dir(s.kept), 0o755)
	if err == nil {
		err = renameio.WriteFile(s.kept, s.newestText, 0o600)
	}
	if err != nil {
		s.log.Warn("templates are not kept for the next start", "file", s.kept, "err", err)
	}
}
