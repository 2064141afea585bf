package render_test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/templates"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var layers = map[string]func() []fs.FS{"haproxy": templates.HAProxy, "nginx": templates.Nginx}

// TestRender runs testdata/*.txtar: settings and catalog above, every file of both proxies below.
func TestRender(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []txtar.File
			v := render.View{Settings: render.DefaultSettings()}
			var snapshot route.Snapshot
			var settings route.Settings
			for _, f := range archive.Files {
				switch f.Name {
				case "catalog":
					snapshot = routetest.Snapshot(t, string(f.Data))
				case "settings":
					settings = routetest.Settings(t, string(f.Data))
				case "render":
					set(t, &v.Settings, string(f.Data))
				default:
					want = append(want, f)
				}
			}
			got := printed(t, v, snapshot, settings)
			if *update {
				archive.Files = append(archive.Files[:len(archive.Files)-len(want)], got...)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(text(want), text(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// set reads the settings of a case, one a line.
func set(t *testing.T, s *render.Settings, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name {
		case "stats":
			s.StatsUser, s.StatsPassword, _ = strings.Cut(value, ":")
		case "certificate":
			s.Certificate = value
		case "dir":
			s.Dir = value
		case "version":
			s.Version = value
		case "access-log":
			s.AccessLog = true
		default:
			t.Fatalf("render: what is %q?", line)
		}
	}
}

func printed(t *testing.T, v render.View, snapshot route.Snapshot, settings route.Settings) []txtar.File {
	t.Helper()
	var files []txtar.File
	for _, proxy := range []string{"haproxy", "nginx"} {
		settings.Proxy = route.Proxy(proxy)
		v.Table = route.Build(snapshot, settings)
		r, err := render.New(layers[proxy]()...)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from memory
			list, err := r.Render(v)
			if err != nil {
				t.Fatal(err)
			}
			var now []txtar.File
			for _, f := range list {
				now = append(now, txtar.File{Name: proxy + "/" + f.Path, Data: f.Data})
			}
			if files = slices.DeleteFunc(files, func(f txtar.File) bool {
				return slices.ContainsFunc(now, func(n txtar.File) bool { return n.Name == f.Name && string(n.Data) == string(f.Data) })
			}); slices.ContainsFunc(files, func(f txtar.File) bool { return strings.HasPrefix(f.Name, proxy) }) {
				t.Fatalf("%s: the second rendering differs from the first", proxy)
			}
			files = append(files, now...)
		}
	}
	return files
}

func text(files []txtar.File) map[string][]string {
	m := make(map[string][]string)
	for _, f := range files {
		m[f.Name] = strings.Split(strings.TrimRight(string(f.Data), "\n"), "\n")
	}
	return m
}
