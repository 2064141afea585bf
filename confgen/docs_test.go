package main

import (
	"flag"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
)

//go:generate go test . -run TestFlagReference -update

var update = flag.Bool("update", false, "rewrite the flag reference")

// TestFlagReference holds docs/flags-confgen.md to what the program declares; `make docs` writes it.
func TestFlagReference(t *testing.T) {
	testbed.Golden(t, *update, "../docs/flags-confgen.md", daemon.FlagReference(newApp()))
}

// TestArchitecture_invariantsNameTheirTests holds the invariants of docs/ARCHITECTURE.md to tests that exist.
func TestArchitecture_invariantsNameTheirTests(t *testing.T) {
	page, err := os.ReadFile("../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(page), -1) {
		missing["func "+name[1]+"(t *testing.T)"] = true
	}
	if len(missing) < 12 {
		t.Fatalf("%d tests are named", len(missing))
	}
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != ".." {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for name := range missing {
			if strings.Contains(string(text), name) {
				delete(missing, name)
			}
		}
		return err
	})
	if err != nil || len(missing) > 0 {
		t.Errorf("no such tests: %v, %v", slices.Sorted(maps.Keys(missing)), err)
	}
}
