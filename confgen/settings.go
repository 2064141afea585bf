package main

import (
	"time"

	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// settings is where Options come from: the command line, or a block of the configuration file.
// A setting has the same name in both, that of its flag; the file writes it with underscores. So
// that a flag which somebody adds is a setting of the file as well, and is checked and explained
// by the same lines.
type settings interface {
	String(name string) string
	StringSlice(name string) []string
	Bool(name string) bool
	Int(name string) int
	Duration(name string) time.Duration
	IsSet(name string) bool

	// refuse returns an error that ends the program and says which setting is wrong, where it
	// stands, and what it takes instead.
	refuse(name, format string, a ...any) error
}

// commandLine is the flags, and the environment variables behind them.
type commandLine struct{ *cli.Context }

func (commandLine) refuse(name, format string, a ...any) error {
	return daemon.Usagef("--"+name+format, a...)
}
