// Confgen keeps one HAProxy or nginx equal to what Consul's catalog says.
package main

import (
	"os"
	"slices"

	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version = "dev"

func main() {
	collectLess()
	os.Exit(daemon.Main(newApp(), os.Args))
}

// newApp declares the command line: everything that follows is run(ctx, Options).
func newApp() *cli.App {
	return &cli.App{
		Name:            "confgen",
		Usage:           "keep a HAProxy or nginx equal to what Consul's catalog says",
		UsageText:       "confgen [options]\n   confgen run [options] -- haproxy|nginx [its arguments]\n   confgen status [options]\n   confgen explain [options] URL\n   confgen set [options] SERVICE KEY VALUE\n   confgen approve [options] [SERVICE …]\n   confgen rollback [options] [GENERATION]\n   confgen release [options]",
		Version:         version,
		Flags:           flags(),
		HideHelpCommand: true,
		Action:          func(c *cli.Context) error { return start(c, nil) },
		Commands: append([]*cli.Command{{
			Name:            "run",
			Usage:           "run the proxy as a child process and keep it current; its name alone is completed with what it needs",
			ArgsUsage:       "-- COMMAND",
			Flags:           flags(),
			HideHelpCommand: true,
			Action: func(c *cli.Context) error {
				if c.NArg() == 0 {
					return daemon.Usagef("run: want the proxy's command behind --, such as: confgen run -- haproxy")
				}
				return start(c, c.Args().Slice())
			},
			Before: behindTheWord,
		}}, slices.Concat(inspectCommands(), overrideCommands(), orderCommands(), rollbackCommands())...),
	}
}

// behindTheWord refuses options in front of a command, which has its own and would not see them.
func behindTheWord(c *cli.Context) error {
	if above := c.Lineage(); len(above) > 1 && len(above[1].LocalFlagNames()) > 0 && above[1].NumFlags() > 0 {
		return daemon.Usagef("options go behind the word %s", c.Command.Name)
	}
	return nil
}

// start reads the command line and does what it says.
func start(c *cli.Context, child []string) error {
	if len(child) == 0 && c.NArg() > 0 {
		return daemon.Usagef("argument %q: want none; a proxy's command goes behind confgen run --", c.Args().First())
	}
	config, err := load(c, child)
	if err != nil {
		return err
	}
	d, err := daemon.New(config.Program, "confgen")
	if err != nil {
		return err
	}
	if config.Proxies[0].Once || config.Proxies[0].DryRun {
		return once(c.Context, config, d, c.App.Writer)
	}
	return run(c.Context, config, d)
}
