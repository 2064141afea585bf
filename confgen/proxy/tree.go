package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairway/confgen/render"
)

// tree is a set of files as they stand, or are to stand, in the folder.
type tree struct {
	files      []render.File // sorted: other files, then the main file
	main       string
	generation string // hash of the structure; for a tree read from disk what the proxy reported
	marked     bool   // the files carry the generation, so the proxy can report it
}

// prepare validates rendered files and writes the generation into them.
func (t *Target) prepare(files []render.File) (tree, error) {
	want := tree{main: t.opt.Main, files: slices.Clone(files)}
	seen := map[string]bool{}
	for _, f := range want.files {
		if !filepath.IsLocal(f.Path) || strings.HasPrefix(f.Path, stateDir) || f.Path != filepath.ToSlash(filepath.Clean(f.Path)) {
			return tree{}, fmt.Errorf("apply: path %q does not lie in the configuration folder", f.Path)
		}
		if seen[f.Path] {
			return tree{}, fmt.Errorf("apply: two files are named %s", f.Path)
		}
		seen[f.Path] = true
	}
	if !seen[want.main] {
		return tree{}, fmt.Errorf("apply: the main file %s is not among the rendered files", want.main)
	}
	if len(bytes.TrimSpace(want.data(want.main))) == 0 {
		return tree{}, fmt.Errorf("apply: the main file %s is empty", want.main)
	}
	want.sort()
	want.generation = t.driver.structure(want)
	for i, f := range want.files {
		if bytes.Contains(f.Data, []byte(render.Generation)) {
			want.marked = true
			want.files[i].Data = bytes.ReplaceAll(f.Data, []byte(render.Generation), []byte(want.generation))
		}
	}
	return want, nil
}

// sort puts what is referred to before what refers to it: a proxy that starts in the middle of
// a commit finds at worst files that nobody asks for yet.
func (t *tree) sort() {
	slices.SortFunc(t.files, func(a, b render.File) int {
		if (a.Path == t.main) != (b.Path == t.main) {
			if a.Path == t.main {
				return 1
			}
			return -1
		}
		if byKind := kind(a.Path) - kind(b.Path); byKind != 0 {
			return byKind
		}
		return strings.Compare(a.Path, b.Path)
	})
}

// kind orders maps before certificates before everything else.
func kind(path string) int {
	switch filepath.Ext(path) {
	case ".map":
		return 0
	case ".pem", ".crt", ".key":
		return 1
	}
	return 2
}

func (t *tree) data(path string) []byte {
	for _, f := range t.files {
		if f.Path == path {
			return f.Data
		}
	}
	return nil
}

func (t *tree) has(path string) bool {
	return slices.ContainsFunc(t.files, func(f render.File) bool { return f.Path == path })
}

// with returns a copy in which one file has other content.
func (t *tree) with(path string, data []byte) tree {
	c := *t
	c.files = slices.Clone(t.files)
	for i := range c.files {
		if c.files[i].Path == path {
			c.files[i].Data = data
		}
	}
	return c
}

func (t *tree) equal(o *tree) bool {
	return slices.EqualFunc(t.files, o.files, func(a, b render.File) bool {
		return a.Path == b.Path && bytes.Equal(a.Data, b.Data)
	})
}

// runs reports whether a proxy that reports generation g has loaded this tree's structure.
func (t *tree) runs(g string) bool {
	return t.marked && t.generation != "" && strings.Contains(g, t.generation)
}

// readDisk reads the files that want has, and those that an earlier Apply wrote.
func (t *Target) readDisk(want tree) (tree, error) {
	paths := make([]string, 0, len(want.files))
	for _, f := range want.files {
		paths = append(paths, f.Path)
	}
	owned, err := t.owned()
	if err != nil {
		return tree{}, err
	}
	for _, path := range owned {
		if !want.has(path) {
			paths = append(paths, path)
		}
	}
	have := tree{main: want.main}
	for _, path := range paths {
		full := t.path(path)
		data, err := os.ReadFile(full)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return tree{}, fmt.Errorf("read configuration: %w", err)
		}
		info, err := os.Stat(full)
		if err != nil {
			return tree{}, fmt.Errorf("read configuration: %w", err)
		}
		have.files = append(have.files, render.File{Path: path, Mode: info.Mode().Perm(), Data: data})
	}
	have.sort()
	return have, nil
}

func (t *Target) path(rel string) string {
	return filepath.Join(t.opt.Dir, filepath.FromSlash(rel))
}

// changes lists what turns have into want, in the order of the commit.
func changes(have, want tree) []Change {
	var list []Change
	for _, f := range want.files {
		before := have.data(f.Path)
		if !have.has(f.Path) || !bytes.Equal(before, f.Data) {
			list = append(list, Change{Path: f.Path, Before: before, After: f.Data})
		}
	}
	for _, f := range have.files {
		if !want.has(f.Path) {
			list = append(list, Change{Path: f.Path, Before: f.Data})
		}
	}
	return list
}

// digest is a short hash over parts, none of which can be mistaken for two.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// sum is a digest over all files.
func (t *tree) sum() string {
	parts := make([][]byte, 0, 2*len(t.files))
	for _, f := range t.files {
		parts = append(parts, []byte(f.Path), f.Data)
	}
	return digest(parts...)
}
