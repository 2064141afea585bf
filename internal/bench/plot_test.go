//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A plot is a file of panels side by side; each panel has groups of bars, one bar for each program.
type (
	plot struct {
		title  string
		panels []panel
	}
	panel struct {
		title  string
		groups []group
	}
	group struct {
		label string
		bars  []bar
	}
	bar struct {
		kind  string // the class that colours it: "ours" or "theirs"
		value float64
		text  string
	}
)

const (
	panelWidth, labelWidth, textWidth = 312, 70, 72
	barHeight, groupGap, panelTop     = 15, 12, 64
)

// style keeps plots readable on light and dark pages.
const style = `text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}.soft{fill:#59636e}` +
	`.ours{fill:#0969da}.theirs{fill:#9198a1}.axis{stroke:#d1d9e0}` +
	`@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.soft{fill:#9198a1}.ours{fill:#4493f8}.theirs{fill:#656c76}.axis{stroke:#3d444d}}`

// svg draws a plot.
func (p plot) svg() string {
	var out strings.Builder
	height := 0
	for _, panel := range p.panels {
		at := panelTop
		for _, g := range panel.groups {
			at += len(g.bars)*barHeight + groupGap
		}
		height = max(height, at)
	}
	width := max(panelWidth*len(p.panels), 420) // the legend needs some
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label=%q><style>%s</style>`+"\n", width, height, width, height, html.EscapeString(p.title), style)
	fmt.Fprintf(&out, `<rect class="ours" x="8" y="8" width="10" height="10"/><text x="24" y="17">Fairway</text>`)
	fmt.Fprintf(&out, `<rect class="theirs" x="92" y="8" width="10" height="10"/><text x="108" y="17">%s</text>`+"\n", html.EscapeString(p.title))
	for i, panel := range p.panels {
		panel.draw(&out, i*panelWidth+8)
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func (p panel) draw(out *strings.Builder, left int) {
	most := 0.0
	for _, g := range p.groups {
		for _, b := range g.bars {
			most = max(most, b.value)
		}
	}
	fmt.Fprintf(out, `<text class="title" x="%d" y="46">%s</text>`+"\n", left, html.EscapeString(p.title))
	y, start := panelTop-6, left+labelWidth
	for _, g := range p.groups {
		middle := y + len(g.bars)*barHeight/2 + 4
		fmt.Fprintf(out, `<text class="soft" x="%d" y="%d" text-anchor="end">%s</text>`, start-6, middle, html.EscapeString(g.label))
		for _, b := range g.bars {
			length := 1.0
			if most > 0 {
				length = max(1, b.value/most*float64(panelWidth-labelWidth-textWidth))
			}
			fmt.Fprintf(out, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`, b.kind, start, y+1, length, barHeight-3)
			fmt.Fprintf(out, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(start)+length+5, y+barHeight-4, html.EscapeString(b.text))
			y += barHeight
		}
		y += groupGap
	}
	fmt.Fprintf(out, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", start, panelTop-8, start, y-groupGap+2)
}

// draw writes the plots of what has been kept into the folder $PLOTS.
func draw(t testing.TB) {
	t.Helper()
	dir := os.Getenv("PLOTS")
	if dir == "" {
		return
	}
	results := readResults(t, resultsFile())
	if c := churnCurves(t, results); len(c.list) > 0 {
		if err := os.WriteFile(filepath.Join(dir, "churn.svg"), []byte(c.svg()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, p := range map[string]plot{"follow.svg": followPlot(t, results), "chain.svg": chainPlot(t, results)} {
		if len(p.panels) == 0 || len(p.panels[0].groups) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.svg()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// result reads one that was kept; false where it was not.
func result(t testing.TB, results map[string]json.RawMessage, name string, into any) bool {
	t.Helper()
	text, ok := results[name]
	if ok {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("result %s: %v", name, err)
		}
	}
	return ok
}

func followPlot(t testing.TB, results map[string]json.RawMessage) plot {
	first, memory, change := panel{title: "first configuration"}, panel{title: "memory, most"}, panel{title: "one change → answered, median"}
	for _, services := range []string{"100", "1000", "5000"} {
		var f, m, c group
		f.label = services + " × 10"
		m.label, c.label = f.label, f.label
		for _, program := range []struct{ name, kind string }{{"Fairway", "ours"}, {"consul-template, no limit", "theirs"}} {
			var got measured
			if !result(t, results, "follow/"+services+"/"+program.name, &got) {
				continue
			}
			text := func(format string, v float64) string {
				if got.First == 0 {
					return "never"
				}
				return fmt.Sprintf(format, v)
			}
			f.bars = append(f.bars, bar{program.kind, got.First, text("%.2f s", got.First)})
			m.bars = append(m.bars, bar{program.kind, got.Memory, text("%.0f MiB", got.Memory)})
			c.bars = append(c.bars, bar{program.kind, got.ChangeMedian, text("%.0f ms", got.ChangeMedian)})
		}
		if len(f.bars) > 0 {
			first.groups, memory.groups, change.groups = append(first.groups, f), append(memory.groups, m), append(change.groups, c)
		}
	}
	return plot{"consul-template, Consul's limit of connections lifted", []panel{first, memory, change}}
}

// chainResult is what starting containers took, in milliseconds.
type chainResult struct{ P50, P90, P99 float64 }

func chainPlot(t testing.TB, results map[string]json.RawMessage) plot {
	p := panel{title: "container started → first answer"}
	for i, label := range []string{"median", "90 %", "99 %"} {
		g := group{label: label}
		for _, chain := range []struct{ name, kind string }{{"fairway", "ours"}, {"registrator+consul-template", "theirs"}} {
			var got chainResult
			if !result(t, results, "chain/"+chain.name, &got) {
				continue
			}
			v := []float64{got.P50, got.P90, got.P99}[i]
			g.bars = append(g.bars, bar{chain.kind, v, fmt.Sprintf("%.1f ms", v)})
		}
		if len(g.bars) > 0 {
			p.groups = append(p.groups, g)
		}
	}
	return plot{"registrator + consul-template + reload", []panel{p}}
}

func TestPlots_areDrawnFromWhatWasKept(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PLOTS", dir)
	keep(t, "follow/100/Fairway", measured{First: 1.5, Memory: 40, ChangeMedian: 10})
	keep(t, "chain/fairway", chainResult{10, 20, 30})
	draw(t)
	for file, want := range map[string]string{"follow.svg": "1.50 s", "chain.svg": "30.0 ms"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v, no %q in %s", file, err, want, data)
		}
	}
}
