package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"fairway/internal/daemon"

	"github.com/agext/levenshtein"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/urfave/cli/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// configFile is a configuration file that has been read: values by the names of the flags that
// mean the same.
type configFile struct {
	path     string
	flags    map[string]cli.Flag
	top      *section
	defaults *section   // of every proxy
	proxies  []*section // in the order of the file
}

// section is a block of the file: what it sets, and where.
type section struct {
	name string
	at   hcl.Range
	set  map[string]value // also where named blocks stand: "entrypoint web"
}

// value is what the file says of a setting: a string, bool, int, time.Duration or []string.
type value struct {
	v  any
	at hcl.Range
}

// readConfigFile reads and checks the form of a file; what its values mean is for optionsFrom.
// All that is wrong is told at once, a line each: file:line:column: what.
func readConfigFile(path string) (*configFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, daemon.Usagef("--config: %w", err)
	}
	return parseConfigFile(path, text)
}

func parseConfigFile(path string, text []byte) (*configFile, error) {
	parsed, diags := hclparse.NewParser().ParseHCL(text, path)
	f := &configFile{
		path: path, flags: make(map[string]cli.Flag),
		top: newSection("", hcl.Range{}), defaults: newSection("", hcl.Range{}),
	}
	for _, flag := range flags() {
		if !slices.Contains(modes, flag.Names()[0]) {
			f.flags[flag.Names()[0]] = flag
		}
	}
	if !diags.HasErrors() {
		d := decoder{file: f, eval: &hcl.EvalContext{Functions: map[string]function.Function{"env": envFunction}}}
		d.top(parsed.Body.(*hclsyntax.Body)) //nolint:forcetypeassert // What ParseHCL returns.
		diags = d.diags
	}
	return f, problems(diags)
}

func newSection(name string, at hcl.Range) *section {
	return &section{name: name, at: at, set: make(map[string]value)}
}

// problems writes diagnostics as lines of file:line:column: what.
func problems(diags hcl.Diagnostics) error {
	var lines []string
	for _, d := range diags {
		what := d.Detail
		if what == "" {
			what = d.Summary
		}
		lines = append(lines, position(*d.Subject)+": "+what)
	}
	if len(lines) == 0 {
		return nil
	}
	return daemon.Usagef("%s", strings.Join(lines, "\n"))
}

func position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

// decoder takes a file apart.
type decoder struct {
	file  *configFile
	eval  *hcl.EvalContext
	diags hcl.Diagnostics
}

func (d *decoder) say(at hcl.Range, format string, a ...any) {
	d.diags = append(d.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Detail: fmt.Sprintf(format, a...), Subject: &at})
}

// envFunction is env("NAME") in the file: an environment variable that has to be set.
var envFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "name", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		name := args[0].AsString()
		text, set := os.LookupEnv(name)
		if !set {
			return cty.NilVal, fmt.Errorf("the environment variable %s is not set", name)
		}
		return cty.StringVal(text), nil
	},
})

// top reads the whole file.
func (d *decoder) top(body *hclsyntax.Body) {
	var rest hclsyntax.Blocks
	names := map[string]hcl.Range{}
	for _, b := range body.Blocks {
		switch b.Type {
		case "proxy":
			name := d.label(b)
			if first, twice := names[name]; twice {
				d.say(b.DefRange(), "proxy %q is there already, in line %d", name, first.Start.Line)
			}
			names[name] = b.DefRange()
			s := newSection(name, b.DefRange())
			d.file.proxies = append(d.file.proxies, s)
			d.body(b.Body, s, false)
		case "defaults":
			d.noLabel(b)
			d.body(b.Body, d.file.defaults, false)
		default:
			rest = append(rest, b)
		}
	}
	d.body(&hclsyntax.Body{Attributes: body.Attributes, Blocks: rest}, d.file.top, true)
	if len(d.file.proxies) == 0 {
		d.say(hcl.Range{Filename: d.file.path, Start: hcl.InitialPos}, `no proxy; want at least one block: proxy "name" { … }`)
	}
}

// body reads the attributes and blocks of the top of the file or of one proxy.
func (d *decoder) body(body *hclsyntax.Body, into *section, top bool) {
	known := d.names(top)
	d.attributes(body.Attributes, into, known, "")
	for _, b := range body.Blocks {
		flag, isLabelled := known[b.Type]
		isLabelled = isLabelled && placeOf(flag).labelled != nil
		switch {
		case isLabelled:
			d.labelled(b, flag, into)
		case hasBlock(known, b.Type):
			d.noLabel(b)
			d.attributes(b.Body.Attributes, into, known, b.Type+".")
			for _, inner := range b.Body.Blocks {
				d.unknown(inner.TypeRange, inner.Type, b.Type+".", known)
			}
		case hasBlock(d.names(!top), b.Type):
			d.say(b.TypeRange, "%s { … } stands %s", b.Type, where(!top))
		default:
			d.unknown(b.TypeRange, b.Type, "", known)
		}
	}
}

// hasBlock reports whether some of the settings stand in a block of this name.
func hasBlock(known map[string]string, block string) bool {
	for name := range known {
		if strings.HasPrefix(name, block+".") {
			return true
		}
	}
	return false
}

// where a setting stands, in words.
func where(top bool) string {
	if top {
		return "at the top of the file"
	}
	return "in a block proxy"
}

// names are the settings that may stand at the top or in a proxy, by what they are called there:
// "dir", "timeouts.connect".
func (d *decoder) names(top bool) map[string]string {
	known := make(map[string]string)
	for flag := range d.file.flags {
		if p := placeOf(flag); p.all == top {
			known[p.String()] = flag
		}
	}
	if !top {
		known["command"] = "command"
	}
	return known
}

func (d *decoder) attributes(attrs hclsyntax.Attributes, into *section, known map[string]string, block string) {
	for _, a := range sorted(attrs) {
		flag, ok := known[block+a.Name]
		if !ok || placeOf(flag).labelled != nil {
			d.unknown(a.NameRange, a.Name, block, known)
			continue
		}
		if v, ok := d.value(a, d.file.kind(flag)); ok {
			into.set[flag] = value{v, a.SrcRange}
		}
	}
}

// sorted are attributes in the order of the file.
func sorted(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	return slices.SortedFunc(maps.Values(attrs), func(a, b *hclsyntax.Attribute) int {
		return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
	})
}

// labelled reads a block with a name of its own as the text that its flag takes.
func (d *decoder) labelled(b *hclsyntax.Block, flag string, into *section) {
	known := make(map[string]string)
	for _, name := range placeOf(flag).labelled {
		known[name] = name
	}
	for _, inner := range b.Body.Blocks {
		d.unknown(inner.TypeRange, inner.Type, "", known)
	}
	parts := make(map[string]any)
	for _, a := range sorted(b.Body.Attributes) {
		if known[a.Name] == "" {
			d.unknown(a.NameRange, a.Name, "", known)
		} else if v, ok := d.value(a, kindOfPart(a.Name)); ok {
			parts[a.Name] = v
		}
	}
	name := d.label(b)
	if first, twice := into.set[flag+" "+name]; twice {
		d.say(b.DefRange(), "%s %q is there already, in line %d", b.Type, name, first.at.Start.Line)
	}
	text, missing := labelledText(name, flag, parts)
	if missing != "" {
		d.say(b.DefRange(), "%s %q: want %s", b.Type, name, missing)
	}
	before, _ := into.set[flag].v.([]string)
	into.set[flag] = value{append(before, text), b.DefRange()}
	into.set[flag+" "+name] = value{at: b.DefRange()}
}

// label is the one name that a block has to have.
func (d *decoder) label(b *hclsyntax.Block) string {
	if len(b.Labels) != 1 || !listName.MatchString(b.Labels[0]) {
		d.say(b.DefRange(), `want %s "name" { … }, with one name of lower-case letters, digits and hyphens`, b.Type)
		return ""
	}
	return b.Labels[0]
}

func (d *decoder) noLabel(b *hclsyntax.Block) {
	if len(b.Labels) > 0 {
		d.say(b.LabelRanges[0], "want %s { … } without a name", b.Type)
	}
}

// unknown refuses a name with the place where it belongs, or with the nearest that there is.
func (d *decoder) unknown(at hcl.Range, name, block string, known map[string]string) {
	flag := strings.ReplaceAll(name, "_", "-")
	if _, isFlag := d.file.flags[flag]; isFlag && block == "" {
		p := placeOf(flag)
		form := p.name + " = …"
		if p.labelled != nil {
			form = p.name + ` "name" { … }`
		}
		if p.block != "" {
			form = p.block + " { " + form + " }"
		}
		d.say(at, "%s is written %s, %s", name, form, where(p.all))
		return
	}
	if slices.Contains(modes, flag) {
		d.say(at, "%s is no setting: it is a flag of one run, --%s", name, flag)
		return
	}
	hint := ""
	best := 1 + max(2, len(name)/3)
	for _, full := range slices.Sorted(maps.Keys(known)) {
		candidate, ok := strings.CutPrefix(full, block)
		if outer, _, inner := strings.Cut(candidate, "."); inner {
			candidate = outer
		}
		if distance := levenshtein.Distance(name, candidate, nil); ok && distance < best {
			best, hint = distance, fmt.Sprintf("; did you mean %s?", candidate)
		}
	}
	d.say(at, "unknown setting %s%s%s", block, name, hint)
}

// kind says what a setting is, by an example of its value.
func (f *configFile) kind(flag string) any {
	switch f.flags[flag].(type) {
	case *cli.BoolFlag:
		return false
	case *cli.IntFlag:
		return 0
	case *cli.DurationFlag:
		return time.Duration(0)
	case *cli.StringSliceFlag, nil: // nil: command, which is behind "--" on the command line
		return []string(nil)
	}
	return ""
}
