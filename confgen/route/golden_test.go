package route_test

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/txtar"

	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var ignoreAge = cmpopts.IgnoreUnexported(route.Route{})

// TestBuild runs testdata/*.txtar: settings and catalog above, the table and the problems that
// come of them below. Every case is built again from shuffled catalogs (F20).
func TestBuild(t *testing.T) {
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
			snapshot := routetest.Snapshot(t, section(archive, "catalog"))
			settings := routetest.Settings(t, section(archive, "settings"))
			table := route.Build(snapshot, settings)
			check(t, archive, "table", routetest.Print(table))
			check(t, archive, "problems", routetest.PrintProblems(table))
			for seed := range uint64(20) {
				if diff := cmp.Diff(table, route.Build(shuffled(snapshot, seed), settings), ignoreAge); diff != "" {
					t.Fatalf("F20: another order gives another table:\n%s", diff)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func section(a *txtar.Archive, name string) string {
	for _, f := range a.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

func check(t *testing.T, a *txtar.Archive, name, got string) {
	t.Helper()
	i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
	if *update {
		if i < 0 {
			i = len(a.Files)
			a.Files = append(a.Files, txtar.File{Name: name})
		}
		a.Files[i].Data = []byte(got)
		return
	}
	if diff := cmp.Diff(strings.Split(section(a, name), "\n"), strings.Split(got, "\n")); i < 0 || diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func shuffled(s route.Snapshot, seed uint64) route.Snapshot {
	r := rand.New(rand.NewPCG(seed, 1))
	out := route.Snapshot{Services: slices.Clone(s.Services), Overrides: slices.Clone(s.Overrides)}
	r.Shuffle(len(out.Overrides), func(i, j int) { out.Overrides[i], out.Overrides[j] = out.Overrides[j], out.Overrides[i] })
	r.Shuffle(len(out.Services), func(i, j int) { out.Services[i], out.Services[j] = out.Services[j], out.Services[i] })
	for i := range out.Services {
		list := slices.Clone(out.Services[i].Instances)
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		out.Services[i].Instances = list
	}
	return out
}
