//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// curves draws which share of changes was live within which time, on a logarithmic axis.
type curves struct {
	title string
	list  []curve
}

type curve struct {
	kind, label string
	percents    []float64 // milliseconds, of 0 % to 100 %
}

const curveWidth, curveHeight, curveLeft, curveTop = 480, 200, 48, 52

// at is where a time lies on the axis, from 1 ms to 10 s.
func (curves) at(milliseconds float64) float64 {
	return curveLeft + curveWidth*math.Log10(min(max(milliseconds, 1), 10000))/4
}

func (c curves) svg() string {
	var out strings.Builder
	width, height, bottom := curveLeft+curveWidth+24, curveTop+curveHeight+36, curveTop+curveHeight
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label=%q><style>%s.line{fill:none;stroke-width:2}.ours.line{stroke:#0969da}.theirs.line{stroke:#9198a1}</style>`+"\n",
		width, height, width, height, c.title, style)
	fmt.Fprintf(&out, `<text class="title" x="8" y="18">%s</text>`+"\n", c.title)
	for i, label := range []string{"1 ms", "10 ms", "100 ms", "1 s", "10 s"} {
		x := c.at(math.Pow10(i))
		fmt.Fprintf(&out, `<line class="axis" x1="%.0f" y1="%d" x2="%.0f" y2="%d"/><text class="soft" x="%.0f" y="%d" text-anchor="middle">%s</text>`+"\n", x, curveTop, x, bottom, x, bottom+18, label)
	}
	for _, share := range []int{0, 50, 99} {
		y := bottom - share*curveHeight/100
		fmt.Fprintf(&out, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/><text class="soft" x="%d" y="%d" text-anchor="end">%d %%</text>`+"\n", curveLeft, y, curveLeft+curveWidth, y, curveLeft-6, y+4, share)
	}
	for i, line := range c.list {
		fmt.Fprintf(&out, `<rect class="%s" x="%d" y="28" width="10" height="10"/><text x="%d" y="37">%s</text>`+"\n", line.kind, curveLeft+i*160, curveLeft+16+i*160, line.label)
		var points []string
		for share, ms := range line.percents {
			points = append(points, fmt.Sprintf("%.1f,%.1f", c.at(ms), float64(bottom)-float64(share)*curveHeight/100))
		}
		fmt.Fprintf(&out, `<polyline class="%s line" points="%s"/>`+"\n", line.kind, strings.Join(points, " "))
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// churnCurves draws what TestMeasureChurn has kept.
func churnCurves(t testing.TB, results map[string]json.RawMessage) curves {
	c := curves{title: "random changes of servers under load: share that is live within"}
	for _, proxy := range []struct{ name, kind, label string }{{"haproxy", "ours", "HAProxy"}, {"nginx", "theirs", "nginx (reloads)"}} {
		var got churnResult
		if result(t, results, "churn/"+proxy.name, &got) {
			c.list = append(c.list, curve{proxy.kind, proxy.label, got.Servers})
		}
	}
	return c
}

func TestPlots_churn(t *testing.T) {
	t.Setenv("PLOTS", t.TempDir())
	keep(t, "churn/haproxy", churnResult{Servers: []float64{1, 100, 20000}})
	draw(t)
	data, err := os.ReadFile(filepath.Join(os.Getenv("PLOTS"), "churn.svg"))
	if want := `points="48.0,252.0 288.0,250.0 528.0,248.0"`; err != nil || !strings.Contains(string(data), want) {
		t.Errorf("%v, no %s in\n%s", err, want, data)
	}
}
