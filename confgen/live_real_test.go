//go:build real

package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestLive_F46_pageOfTheManual runs every command of docs/live.md, in order, against real parts,
// and looks at who answers where the page's comments say so.
func TestLive_F46_pageOfTheManual(t *testing.T) {
	page, err := os.ReadFile("../docs/live.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := labelsOf(t, string(page))
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			live(t, kind, string(page), labels)
		})
	}
}

func live(t *testing.T, kind, page string, labels map[string]map[string]string) {
	r := newRig(t, kind)
	for _, service := range slices.Sorted(maps.Keys(labels)) {
		for i := range 2 {
			r.register(service, r.web(fmt.Sprintf("%s.%d", service, i+1)), "passing", labels[service])
		}
	}
	c := r.program("--reload-interval", "1s") // as people run it
	reloads := func() float64 { return c.metric("fairway_confgen_reloads_total") }
	ran, looked, before, last := 0, 0, reloads(), "nothing"
	for line := range strings.Lines(page) {
		if args, ok := strings.CutPrefix(line, "$ confgen "); ok {
			last = strings.TrimSpace(args)
			r.operator(t, strings.Fields(args)...)
			ran++
			if strings.HasPrefix(args, "unset shop-blue timeout") {
				r.settled(c) // this one may cost a reload
				before = reloads()
			}
		}
		if want, ok := strings.CutPrefix(line, "<!-- test: split "); ok {
			took := r.takesEffect(t, "shop.test", parseSplit(t, strings.TrimSuffix(strings.TrimSpace(want), " -->")))
			t.Logf("%s after %s: %s", took.Round(time.Millisecond/10), last, strings.TrimSpace(want))
			looked++
		}
	}
	r.listsInstances(t, "shop-blue")
	if ran < 8 || looked < 8 {
		t.Errorf("the page has %d commands and %d looks: not what this test was written for", ran, looked)
	}
	n := reloads() - before
	t.Logf("%g reloads", n)
	if kind == "haproxy" && n != 0 {
		t.Errorf("%g reloads for shares and maintenance", n)
	}
}

// listsInstances has confgen refuse the ID of an instance that is none, and tell those that Consul
// has.
func (r *rig) listsInstances(t *testing.T, service string) {
	t.Helper()
	rows, _, err := r.consul.Client.Catalog().Service(service, "", nil)
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d instances: %v", len(rows), err)
	}
	code, out := command(t, "set", "--consul-addr", r.consul.Addr, "--on", "nobody", service, "weight", "1")
	for _, row := range rows {
		if code == 0 || !strings.Contains(out, row.ServiceID) {
			t.Errorf("set --on nobody: %d, without %s: %s", code, row.ServiceID, out)
		}
	}
}

// operator runs one of confgen's commands against the rig's Consul.
func (r *rig) operator(t *testing.T, words ...string) {
	t.Helper()
	words = append([]string{words[0], "--consul-addr", r.consul.Addr}, words[1:]...)
	if code, out := command(t, words...); code != 0 {
		t.Fatalf("confgen %v: %d: %s", words, code, out)
	}
}

// settled waits until what is in the catalog is in the proxy.
func (r *rig) settled(c *confgen) {
	r.t.Helper()
	testbed.Eventually(r.t, 10*time.Second, "the override has been taken back", func() error {
		if s := c.status(); s.Catalog.Overrides != 0 || s.Apply.Applied != s.Snapshot.Version || s.Apply.Error != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

var labelLine = regexp.MustCompile(`^ +fairway\.([a-z.-]+): "?([^"]*)"?$`)

// labelsOf reads the labels of the services in the page's YAML, as meta.
func labelsOf(t *testing.T, page string) map[string]map[string]string {
	t.Helper()
	_, yaml, _ := strings.Cut(page, "```yaml\n")
	yaml, _, found := strings.Cut(yaml, "```")
	labels, service := map[string]map[string]string{}, ""
	for line := range strings.Lines(yaml) {
		line = strings.TrimRight(line, "\n")
		if name := strings.TrimSuffix(strings.TrimPrefix(line, "  "), ":"); len(line) == len(name)+3 && !strings.HasPrefix(name, " ") {
			service, labels[name] = name, map[string]string{}
		}
		if m := labelLine.FindStringSubmatch(line); m != nil {
			labels[service]["fairway-"+m[1]] = m[2]
		}
	}
	if !found || len(labels) != 2 || len(labels["shop-green"]) != 3 {
		t.Fatalf("labels %v", labels)
	}
	return labels
}
