package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairway/confgen/render"
	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

func TestSource_F41_brokenTemplates(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.tmpl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	view := render.View{Table: route.Build(route.Snapshot{}, route.Settings{}), Settings: render.DefaultSettings()}
	mine := func(s *source) (string, error) {
		files, err := s.Render(view)
		for _, f := range files {
			if f.Path == "mine" {
				return string(f.Data), err
			}
		}
		return "", err
	}

	// At the start there is no last good one: an error with file and line, until it is mended.
	write("one\n{{nonsense}}")
	s, err := newSource(Options{Proxy: Proxy{Kind: "haproxy"}, Template: []string{dir}}, nil, hclog.NewNullLogger())
	if err == nil || !strings.Contains(err.Error(), "mine.tmpl:2") {
		t.Errorf("at the start: %v", err)
	}
	if _, err := mine(s); err == nil || !strings.Contains(err.Error(), "mine.tmpl:2") {
		t.Errorf("render: %v", err)
	}
	write("first")
	if !s.refresh(false) {
		t.Error("an edit went unnoticed")
	}
	if got, err := mine(s); got != "first" || err != nil || s.Err() != nil {
		t.Errorf("%q, %v, %v", got, err, s.Err())
	}
	for _, broken := range []string{"{{end}}!", "{{.Nonsense}}!!"} {
		write(broken)
		s.refresh(false)
		if got, err := mine(s); got != "first" || err != nil {
			t.Errorf("%s: the last good one is not in use: %q, %v", broken, got, err)
		}
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "mine.tmpl:1") {
			t.Errorf("%s: %v", broken, err)
		}
	}
	write("second one")
	s.refresh(false)
	if got, err := mine(s); got != "second one" || err != nil || s.Err() != nil {
		t.Errorf("mended: %q, %v, %v", got, err, s.Err())
	}
	if s.refresh(false) {
		t.Error("nothing changed, and was read again")
	}
	if !s.refresh(true) {
		t.Error("a signal does not read again")
	}
}

// A single file is a layer of one file, whatever lies beside it.
func TestSource_oneFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"mine.tmpl": "mine", "other.tmpl": "{{broken"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newSource(Options{Proxy: Proxy{Kind: "nginx"}, Template: []string{filepath.Join(dir, "mine.tmpl")}}, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.newest.Outputs(), " "); !strings.Contains(got, "mine") || strings.Contains(got, "other") || !strings.Contains(got, "nginx.conf") {
		t.Error(got)
	}
}

// Broken templates at the start: the ones that an earlier confgen used are the last good ones.
func TestSource_F41_brokenAtTheStart(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opt := Options{Proxy: Proxy{Kind: "haproxy"}, Snapshot: filepath.Join(state, "deep", "snapshot.json"), Template: []string{filepath.Join(dir, "b.tmpl"), filepath.Join(dir, "a.tmpl")}}
	view := render.View{Table: route.Build(route.Snapshot{}, route.Settings{}), Settings: render.DefaultSettings()}
	start := func(opt Options) (*source, string, error) {
		t.Helper()
		s, err := newSource(opt, nil, hclog.NewNullLogger())
		if s.Err() == nil && err != nil {
			t.Error(err)
		}
		files, err := s.Render(view)
		for _, f := range files {
			if f.Path == "b" {
				return s, string(f.Data), err
			}
		}
		return s, "", err
	}
	write("a.tmpl", `{{define "word"}}later layer{{end}}`)
	write("b.tmpl", `{{define "word"}}earlier{{end}}{{template "word"}}`)
	if _, got, err := start(opt); got != "later layer" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	for _, broken := range []string{"{{end}}", "{{.Nonsense}}"} {
		write("b.tmpl", broken)
		s, got, err := start(opt)
		if got != "later layer" || err != nil {
			t.Errorf("%s: %q, %v", broken, got, err)
		}
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "b.tmpl:1") {
			t.Errorf("%s: not told: %v", broken, err)
		}
		once := opt
		once.Once = true
		if _, _, err := start(once); err == nil {
			t.Errorf("%s: used with --once", broken)
		}
	}
	s, _, _ := start(opt)
	write("b.tmpl", `mended`)
	s.refresh(true)
	if files, err := s.Render(view); err != nil || s.Err() != nil || files[0].Path != "b" || string(files[0].Data) != "mended" {
		t.Errorf("%v, %v", err, s.Err())
	}
	write("b.tmpl", "{{end}}")
	if _, got, _ := start(opt); got != "mended" {
		t.Errorf("kept is %q", got)
	}
	if err := os.WriteFile(filepath.Join(state, "deep", "templates.zip"), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, got, err := start(opt); got != "" || err == nil {
		t.Errorf("damaged: %q, %v", got, err)
	}
}
