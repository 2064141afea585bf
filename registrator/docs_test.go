package main

import (
	"flag"
	"testing"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
)

//go:generate go test . -run TestFlagReference -update

var update = flag.Bool("update", false, "rewrite the flag reference")

// TestFlagReference holds docs/flags-registrator.md to what the program declares; `make docs` writes it.
func TestFlagReference(t *testing.T) {
	testbed.Golden(t, *update, "../docs/flags-registrator.md", daemon.FlagReference(newApp()))
}
