package main

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway/internal/daemon"
)

//go:generate go test . -run TestFlagReference -update

var update = flag.Bool("update", false, "rewrite the flag reference")

// TestFlagReference holds docs/flags-confgen.md to what the program declares; `make docs` writes it.
func TestFlagReference(t *testing.T) {
	const file = "../docs/flags-confgen.md"
	want := daemon.FlagReference(newApp())
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is not what the program declares; run make docs (-declared +page):\n%s", file, diff)
	}
}
