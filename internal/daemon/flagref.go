package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// FlagReference writes the command line of app as a page of Markdown: a table for each category
// of flags, in the order in which they are declared, then what each command takes besides. It
// reads declarations only, so it must be given an app that has not run: running one lets the
// environment in.
func FlagReference(app *cli.App) string {
	var page strings.Builder
	fmt.Fprintf(&page, "# Flags of %s\n\n", app.Name)
	page.WriteString("<!-- Written by `make docs` from the program's flags; a test compares. Do not edit. -->\n\n")
	fmt.Fprintf(&page, "```\n%s\n```\n\n", unindent(app.UsageText))
	page.WriteString("A flag on the command line wins over its environment variable, and of several variables the first\n" +
		"that is set counts. One hyphen does as well as two. `--help` and `--version` do what they say.\n")
	flagTables(&page, "##", app.Flags)
	for _, cmd := range app.Commands {
		fmt.Fprintf(&page, "\n## %s\n\n", strings.TrimSpace(strings.Join([]string{app.Name, cmd.Name, cmd.ArgsUsage}, " ")))
		fmt.Fprintf(&page, "%s.\n", capital(cmd.Usage))
		own := slices.DeleteFunc(slices.Clone(cmd.Flags), func(f cli.Flag) bool { return declares(app.Flags, f) })
		if len(own) < len(cmd.Flags) {
			page.WriteString("It takes the flags above.\n")
		}
		flagTables(&page, "###", own)
	}
	return page.String()
}

// flagTables writes one table for each category. A category's name may begin with a number, which
// puts it in its place in --help, and end with a colon.
func flagTables(page *strings.Builder, heading string, flags []cli.Flag) {
	var order []string
	rows := make(map[string][]string)
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		category := ""
		if c, ok := f.(cli.CategorizableFlag); ok {
			category = c.GetCategory()
		}
		if !slices.Contains(order, category) {
			order = append(order, category)
		}
		rows[category] = append(rows[category], flagRow(doc))
	}
	for _, category := range order {
		if title := strings.Trim(category, "0123456789.: "); title != "" {
			fmt.Fprintf(page, "\n%s %s\n", heading, title)
		}
		page.WriteString("\n| flag | default | environment | what it is |\n|---|---|---|---|\n")
		for _, row := range rows[category] {
			page.WriteString(row)
		}
	}
}

// flagRow writes one flag as a row of a table.
func flagRow(f cli.DocGenerationFlag) string {
	value, usage := placeholder(f)
	names := make([]string, len(f.Names()))
	for i, name := range f.Names() {
		names[i] = "`--" + name + value + "`"
		value = "" // said once
	}
	env := make([]string, len(f.GetEnvVars()))
	for i, name := range f.GetEnvVars() {
		env[i] = "`" + name + "`"
	}
	return fmt.Sprintf("| %s | %s | %s | %s |\n", cell(strings.Join(names, ", ")), cell(defaultOf(f)), strings.Join(env, ", "), cell(usage))
}

// placeholder is what a usage text calls the flag's value, in back quotes, and the text without
// these; where it calls it nothing, the flag's type does.
func placeholder(f cli.DocGenerationFlag) (value, usage string) {
	usage = f.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		if name, after, ok := strings.Cut(rest, "`"); ok {
			return " " + name, before + name + after
		}
	}
	switch f.(type) {
	case *cli.DurationFlag:
		return " DURATION", usage
	case *cli.IntFlag:
		return " NUMBER", usage
	}
	if f.TakesValue() {
		return " VALUE", usage
	}
	return "", usage
}

// defaultOf is empty where there is none, and for a switch that is off.
func defaultOf(f cli.DocGenerationFlag) string {
	text := strings.Trim(f.GetDefaultText(), `"`)
	if text == "" || text == "false" && !f.TakesValue() {
		return ""
	}
	return "`" + text + "`"
}

// declares reports whether a flag is among flags, by its name and by what it means: a command may
// use a name in another sense.
func declares(flags []cli.Flag, flag cli.Flag) bool {
	return slices.ContainsFunc(flags, func(f cli.Flag) bool {
		return slices.Contains(f.Names(), flag.Names()[0]) && usageOf(f) == usageOf(flag)
	})
}

func usageOf(f cli.Flag) string {
	if doc, ok := f.(cli.DocGenerationFlag); ok {
		return doc.GetUsage()
	}
	return ""
}

// cell keeps a text within its cell: a bar would end it, also between back quotes.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
