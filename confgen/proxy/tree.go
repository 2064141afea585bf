package proxy

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"fairway/confgen/render"
)

// tree is a set of files as they stand, or are to stand, in the folder.
type tree struct {
	files      []entry // sorted: other files, then the main file
	main       string
	generation string // hash of the structure; for a tree read from disk what the proxy reported
	marked     bool   // the files carry the generation, so the proxy can report it
}

// entry is a file of a tree.
type entry struct {
	path string      // relative, slash-separated
	mode fs.FileMode // 0 for what is there, or 0644
	*text
}

// prepare validates rendered files and writes the generation into them.
func (t *Target) prepare(files []render.File) (tree, error) {
	want := tree{main: t.opt.Main, files: make([]entry, 0, len(files))}
	for _, f := range files {
		if !filepath.IsLocal(f.Path) || strings.HasPrefix(f.Path, stateDir) || f.Path != filepath.ToSlash(filepath.Clean(f.Path)) {
			return tree{}, fmt.Errorf("apply: path %q does not lie in the configuration folder", f.Path)
		}
		if want.has(f.Path) {
			return tree{}, fmt.Errorf("apply: two files are named %s", f.Path)
		}
		want.files = append(want.files, entry{f.Path, f.Mode, t.text(f.Path, f.Data)})
	}
	if !want.has(want.main) {
		return tree{}, fmt.Errorf("apply: the main file %s is not among the rendered files", want.main)
	}
	if want.text(want.main).blank() {
		return tree{}, fmt.Errorf("apply: the main file %s is empty", want.main)
	}
	want.sort()
	want.generation = t.driver.structure(want)
	for i, f := range want.files {
		if f.contains(render.Generation) {
			want.marked = true
			want.files[i].text = f.replace(render.Generation, want.generation)
		}
	}
	return want, nil
}

// sort puts what is referred to before what refers to it: a proxy that starts in the middle of
// a commit finds at worst files that nobody asks for yet.
func (t *tree) sort() {
	slices.SortFunc(t.files, func(a, b entry) int {
		if (a.path == t.main) != (b.path == t.main) {
			if a.path == t.main {
				return 1
			}
			return -1
		}
		if byKind := kind(a.path) - kind(b.path); byKind != 0 {
			return byKind
		}
		return strings.Compare(a.path, b.path)
	})
}

// kind orders maps before certificates before everything else.
func kind(path string) int {
	switch filepath.Ext(path) {
	case ".map":
		return 0
	case ".pem", ".crt", ".key", ".ocsp":
		return 1
	}
	return 2
}

// text returns what a file holds, or nothing if there is no such file.
func (t *tree) text(path string) *text {
	for _, f := range t.files {
		if f.path == path {
			return f.text
		}
	}
	return nowhere
}

var nowhere = newText(nil, nil)

func (t *tree) has(path string) bool {
	return slices.ContainsFunc(t.files, func(f entry) bool { return f.path == path })
}

// with returns a copy in which one file has another text.
func (t *tree) with(path string, x *text) tree {
	c := *t
	c.files = slices.Clone(t.files)
	for i := range c.files {
		if c.files[i].path == path {
			c.files[i].text = x
		}
	}
	return c
}

func (t *tree) equal(o *tree) bool {
	return slices.EqualFunc(t.files, o.files, func(a, b entry) bool {
		return a.path == b.path && a.text.equal(b.text)
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
		paths = append(paths, f.path)
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
		x, info, err := t.load(path)
		if err != nil {
			return tree{}, err
		}
		if x != nil {
			have.files = append(have.files, entry{path, info.Mode().Perm(), x})
		}
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
		before := have.text(f.path)
		switch {
		case !have.has(f.path):
			list = append(list, Change{Path: f.path, After: f.bytes()})
		case !before.equal(f.text):
			list = append(list, Change{Path: f.path, Before: before.bytes(), After: f.bytes()})
		}
	}
	for _, f := range have.files {
		if !want.has(f.path) {
			list = append(list, Change{Path: f.path, Before: f.bytes()})
		}
	}
	return list
}

// sum is a digest over all files.
func (t *tree) sum() string {
	words := make([]string, 0, 2*len(t.files))
	for _, f := range t.files {
		words = append(words, f.path, f.digest())
	}
	return digestOf(words...)
}
