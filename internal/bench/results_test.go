//go:build bench

package bench

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// resultsFile holds, in the folder $PLOTS, what the plots there are drawn from.
func resultsFile() string { return filepath.Join(os.Getenv("PLOTS"), "results.json") }

// keep notes a result under its name for the plots in the folder $PLOTS. Without one, what is
// printed is all there is.
func keep(t testing.TB, name string, value any) {
	t.Helper()
	if os.Getenv("PLOTS") == "" {
		return
	}
	path := resultsFile()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	results := readResults(t, path)
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	results[name] = text
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readResults returns what was kept; nothing when there is no file yet.
func readResults(t testing.TB, path string) map[string]json.RawMessage {
	t.Helper()
	results := map[string]json.RawMessage{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return results
	}
	if err == nil {
		err = json.Unmarshal(data, &results)
	}
	if err != nil {
		t.Fatal(err)
	}
	return results
}
