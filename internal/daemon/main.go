package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	// Roots of the web's authorities for images that hold nothing but the program; the
	// machine's own are used where it has any.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// The exit codes of both programs.
const (
	ExitDone    = 0 // done, or ended by a signal
	ExitFailure = 1 // something went wrong while running
	ExitUsage   = 2 // a flag, an environment value or a file of configuration is wrong
)

// Usagef returns an error that ends the program with ExitUsage.
func Usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Main runs app with args (args[0] is the program's name) until it ends or SIGINT or SIGTERM
// asks it to, and returns the exit code. An error is one line on standard error. An error with a
// method ExitCode() int chooses its own code.
func Main(app *cli.App, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app.ExitErrHandler = func(*cli.Context, error) {} // Main alone exits
	app.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err} }
	dropEmpty(app.Flags)
	for _, cmd := range app.Commands {
		cmd.OnUsageError = app.OnUsageError
		dropEmpty(cmd.Flags)
	}
	err := app.RunContext(ctx, args)
	if err == nil {
		return ExitDone
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(os.Stderr, "%s: %s\n", app.Name, strings.ReplaceAll(text, "\n", "; "))
	}
	return exitCode(err)
}

// dropEmpty unsets the flags' environment variables that are empty: Compose writes ${NAME:-} so,
// and nobody means an empty duration by it.
func dropEmpty(flags []cli.Flag) {
	for _, f := range flags {
		documented, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		for _, name := range documented.GetEnvVars() {
			if value, set := os.LookupEnv(name); set && value == "" {
				_ = os.Unsetenv(name) // fails for impossible names only
			}
		}
	}
}

func exitCode(err error) int {
	var coder interface{ ExitCode() int }
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &coder):
		return coder.ExitCode()
	}
	return ExitFailure
}
