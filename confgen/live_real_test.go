//go:build real

package main

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
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
	var c *confgen
	if kind == "nginx" {
		c = r.confgen("--reload", "child", "--", testbed.Program(t, "nginx"))
	} else {
		c = r.confgen()
		r.haproxy()
	}
	c.ready()
	reloads := func() float64 { return c.metric("fairway_confgen_reloads_total") }
	ran, split, before := 0, 0, reloads()
	for line := range strings.Lines(page) {
		if args, ok := strings.CutPrefix(line, "$ confgen "); ok {
			words := strings.Fields(args)
			words = append([]string{words[0], "--consul-addr", r.consul.Addr}, words[1:]...)
			if code, out := command(t, words...); code != 0 {
				t.Fatalf("confgen %s: %d: %s", args, code, out)
			}
			ran++
			if strings.HasPrefix(args, "unset shop-blue timeout") {
				r.settled(c) // this one may cost a reload
				before = reloads()
			}
		}
		if want, ok := strings.CutPrefix(line, "<!-- test: split "); ok {
			r.splits("shop.test", strings.TrimSuffix(strings.TrimSpace(want), " -->"))
			split++
		}
	}
	if ran < 8 || split < 8 {
		t.Errorf("the page has %d commands and %d looks: not what this test was written for", ran, split)
	}
	if n := reloads() - before; kind == "haproxy" && n != 0 {
		t.Errorf("%g reloads for shares and maintenance", n)
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

// splits waits until the requests for a host are divided as wanted, "blue=90 green=10", within
// three in a hundred. A name may be a service's or one instance's.
func (r *rig) splits(host, want string) {
	r.t.Helper()
	testbed.Eventually(r.t, 20*time.Second, host+" is divided: "+want, func() error {
		const n = 200
		seen := map[string]int{}
		for range n {
			code, body := get(r.t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), host)
			if code != 200 {
				r.t.Fatalf("a request failed: %d %q", code, body)
			}
			seen[body]++
			service, _, _ := strings.Cut(body, ".")
			seen[service]++
		}
		total := 0
		for part := range strings.FieldsSeq(want) {
			name, text, _ := strings.Cut(part, "=")
			percent, err := strconv.Atoi(text)
			if err != nil {
				r.t.Fatal(err)
			}
			total += percent
			if got := 100 * seen[name] / n; got < percent-3 || got > percent+3 {
				return fmt.Errorf("%s got %d %%: %v", name, got, seen)
			}
		}
		if total != 100 {
			r.t.Fatalf("%q is not everything", want)
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
