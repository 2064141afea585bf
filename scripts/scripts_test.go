// Package scripts holds shell scripts; their tests are testdata/*.txtar.
package scripts

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs each story with the scripts on PATH, behind a folder bin of the story's own:
// there it puts stand-ins for what would leave this machine.
func TestScripts(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, "bin")
			if err := os.MkdirAll(bin, 0o755); err != nil {
				return err
			}
			env.Setenv("PATH", bin+string(os.PathListSeparator)+here+string(os.PathListSeparator)+os.Getenv("PATH"))
			// What cluster keeps goes into the story's folder too.
			env.Setenv("FAIRWAY_CLUSTER_STATE", filepath.Join(env.WorkDir, "clusters"))
			return nil
		},
	})
}
