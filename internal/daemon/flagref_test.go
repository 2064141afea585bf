package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// TestFlagReference_page shows every kind of flag, and that what stands in the environment of
// whoever writes the page does not get into it.
func TestFlagReference_page(t *testing.T) {
	t.Setenv("DEMO_TO", "elsewhere")
	text := &cli.StringFlag{Name: "to", Aliases: []string{"toWhere"}, EnvVars: []string{"DEMO_TO", "TO"}, Value: "here", Usage: "`PLACE` a|b", Category: "2. Where:"}
	app := &cli.App{
		Name: "demo", UsageText: "demo [options]\n   demo do [options] THING",
		Flags: []cli.Flag{
			text,
			&cli.DurationFlag{Name: "wait", Value: time.Minute, Usage: "before it ends", Category: "1. When:"},
			&cli.BoolFlag{Name: "on", Value: true, Usage: "switched on", Category: "1. When:"},
			&cli.BoolFlag{Name: "off", Usage: "switched off", Category: "1. When:"},
			&cli.IntFlag{Name: "most", Value: 8, Usage: "at once"},
			&cli.StringSliceFlag{Name: "each", Usage: "may be repeated"},
		},
		Commands: []*cli.Command{{
			Name: "do", ArgsUsage: "THING", Usage: "do a thing",
			Flags: []cli.Flag{text, &cli.BoolFlag{Name: "all", Usage: "do all"}},
		}},
	}
	const want = "# Flags of demo\n\n" +
		"<!-- Written by `make docs` from the program's flags; a test compares. Do not edit. -->\n\n" +
		"```\ndemo [options]\ndemo do [options] THING\n```\n\n" +
		"A flag on the command line wins over its environment variable, and of several variables the first\n" +
		"that is set counts. One hyphen does as well as two. `--help` and `--version` do what they say.\n" +
		"\n## Where\n\n| flag | default | environment | what it is |\n|---|---|---|---|\n" +
		"| `--to PLACE`, `--toWhere` | `here` | `DEMO_TO`, `TO` | PLACE a\\|b |\n" +
		"\n## When\n\n| flag | default | environment | what it is |\n|---|---|---|---|\n" +
		"| `--wait DURATION` | `1m0s` |  | before it ends |\n" +
		"| `--on` | `true` |  | switched on |\n" +
		"| `--off` |  |  | switched off |\n" +
		"\n| flag | default | environment | what it is |\n|---|---|---|---|\n" +
		"| `--most NUMBER` | `8` |  | at once |\n" +
		"| `--each VALUE` |  |  | may be repeated |\n" +
		"\n## demo do THING\n\nDo a thing.\nIt takes the flags above.\n" +
		"\n| flag | default | environment | what it is |\n|---|---|---|---|\n" +
		"| `--all` |  |  | do all |\n"
	if diff := cmp.Diff(want, FlagReference(app)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
}
