// Registrator keeps this node's part of a Consul catalog equal to the containers that run here.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"fairway/internal/daemon"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(daemon.Main(newApp(), permute(os.Args, flags()))) }

// newApp declares the command line: everything that follows is run(ctx, Options).
func newApp() *cli.App {
	return &cli.App{
		Name:            "registrator",
		Usage:           "keep this node's part of the Consul catalog equal to the containers that run here",
		UsageText:       "registrator [options] [consul://host:port]\n   registrator explain [options] CONTAINER | --all",
		Version:         version,
		Flags:           flags(),
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			opt, err := optionsFrom(c)
			if err != nil {
				return err
			}
			d, err := daemon.New(c, "registrator")
			if err != nil {
				return err
			}
			for _, note := range notesOf(c) {
				d.Log.Info("option is not needed any more", "option", note.option, "reason", note.reason)
			}
			if opt.Once {
				return once(c.Context, opt, d, c.App.Writer)
			}
			return run(c.Context, opt, d)
		},
		Commands: []*cli.Command{{
			Name:      "explain",
			Usage:     "print what is decided about a container, and why",
			ArgsUsage: "CONTAINER",
			Flags: append(flags(),
				&cli.BoolFlag{Name: "all", Usage: "explain every container, also those that are not registered"},
				&cli.BoolFlag{Name: "dialect", Usage: "print only what labels of other front ends become"}),
			HideHelpCommand: true,
			Action: func(c *cli.Context) error {
				opt, err := optionsFrom(c)
				if err != nil {
					return err
				}
				return explain(c.Context, opt, c.App.Writer, c.Args().Slice(), c.Bool("all"), c.Bool("dialect"))
			},
		}},
	}
}
