package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/proxy"
	"fairway/confgen/render"
	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// ward is a quarantine before a checker that refuses services whose label says "bad", or every
// configuration while it is broken.
type ward struct {
	*quarantine
	t      *testing.T
	checks int
	points bool // the checker's words name a line
	broken bool
}

func newWard(t *testing.T, points bool) *ward {
	return &ward{quarantine: newQuarantine(hclog.NewNullLogger()), t: t, points: points}
}

// catalogOf makes a snapshot of words: "web" is a service, "web=bad" one with that label, and
// "web=bad@2" one with two instances.
func catalogOf(words ...string) route.Snapshot {
	var s route.Snapshot
	for _, w := range words {
		name, label, _ := strings.Cut(w, "=")
		label, n, _ := strings.Cut(label, "@")
		service := route.Service{Name: name}
		for i := range max(1, len(n)) {
			service.Instances = append(service.Instances, route.Instance{
				Node: "n", ID: fmt.Sprint(name, i), Address: "10.0.0.1", Port: 1 + i + 10*len(s.Services), Status: route.Passing,
				Meta: map[string]string{"fairway-host": name + ".test", "note": label},
			})
		}
		s.Services = append(s.Services, service)
	}
	return s
}

func (w *ward) try(_ context.Context, s route.Snapshot) (tried, error) {
	w.checks++
	made := tried{table: route.Build(s, route.Settings{})}
	var b strings.Builder
	fmt.Fprintln(&b, "global")
	at, why := 0, ""
	for i, service := range s.Services {
		fmt.Fprintf(&b, "backend %s\n", service.Name)
		for _, in := range service.Instances {
			if in.Meta["note"] == "bad" && at == 0 {
				at, why = 3+2*i, service.Name
			}
		}
		for _, o := range s.Overrides {
			if strings.HasPrefix(o.Path, service.Name+"/") && o.Value == "bad" && at == 0 {
				at, why = 3+2*i, service.Name
			}
		}
		fmt.Fprintln(&b, "  line")
	}
	made.files = []render.File{{Path: "haproxy.cfg", Data: []byte(b.String())}}
	if at == 0 && !w.broken {
		return made, nil
	}
	words := "something is wrong"
	if w.points && at > 0 {
		words = fmt.Sprintf("[ALERT] : parsing [/etc/haproxy.cfg:%d] : nonsense of %s", at, why)
	}
	return made, &proxy.RejectedError{By: proxy.ByCheck, Output: words}
}

// pass is what the syncer does; it returns the services as they are routed, or nothing when
// everything is refused.
func (w *ward) pass(s route.Snapshot, n int) string {
	w.t.Helper()
	edition := edition{templates: n}
	for {
		admitted := w.admit(s, edition)
		made, err := w.try(w.t.Context(), admitted)
		if err == nil {
			w.accepted(admitted, edition)
			var list []string
			for _, service := range admitted.Services {
				list = append(list, fmt.Sprint(service.Name, "=", service.Instances[0].Meta["note"], "@", len(service.Instances)))
			}
			return strings.Join(list, " ")
		}
		if !w.isolate(w.t.Context(), s, edition, made, err, w.try) {
			return ""
		}
	}
}

func TestQuarantine_F24_onlyTheCulprit(t *testing.T) {
	for _, points := range []bool{true, false} {
		t.Run(fmt.Sprint("points=", points), func(t *testing.T) {
			w := newWard(t, points)
			expect := func(edition int, words string, want string) {
				t.Helper()
				if got := w.pass(catalogOf(strings.Fields(words)...), edition); got != want {
					t.Fatalf("%s: routed are %q, want %q", words, got, want)
				}
			}
			expect(1, "a b c", "a=@1 b=@1 c=@1")
			expect(1, "a b=bad c", "a=@1 b=@1 c=@1") // the labels of before
			if p := w.problems(); len(p) != 1 || p[0].Service != "b" || !strings.Contains(p[0].Reason, "labels that were accepted last") {
				t.Errorf("%+v", p)
			}
			checks := w.checks
			expect(1, "a b=bad@11 c d", "a=@1 b=@2 c=@1 d=@1") // its instances, and others, go on
			if w.checks != checks+1 {
				t.Errorf("%d checks for what was known", w.checks-checks)
			}
			expect(1, "a b=bad c=bad d e=bad", "a=@1 b=@1 c=@1 d=@1") // e was never good
			if p := w.problems(); len(p) != 3 || !strings.Contains(p[2].Reason, "it is not routed until it changes") {
				t.Errorf("%+v", p)
			}
			expect(1, "a b=fine c=bad d e=bad", "a=@1 b=fine@1 c=@1 d=@1") // mended
			expect(1, "a b=fine d e=better", "a=@1 b=fine@1 d=@1 e=better@1")
			if len(w.out) != 0 {
				t.Errorf("still in quarantine: %v", w.out)
			}
			// Broken altogether: nobody is to blame, which is not looked for again.
			w.broken = true
			expect(1, "a b d", "")
			checks = w.checks
			expect(1, "a b d", "")
			if w.checks > checks+1 || len(w.out) != 0 {
				t.Errorf("%d checks, %v", w.checks-checks, w.out)
			}
			w.broken = false
			expect(1, "a b=bad d", "a=@1 b=fine@1 d=@1")
			expect(2, "a b=bad d", "a=@1 b=fine@1 d=@1") // other templates: tried again
			expect(2, "a d", "a=@1 d=@1")
			if len(w.problems()) != 0 {
				t.Errorf("a service that is gone: %v", w.problems())
			}
		})
	}
}

// What an operator sets live may be what is refused: that alone is left out, and taking it back is
// tried at once.
func TestQuarantine_F24_whatIsSetLive(t *testing.T) {
	w := newWard(t, true)
	expect := func(words, set, want string) {
		t.Helper()
		s := catalogOf(strings.Fields(words)...)
		for o := range strings.FieldsSeq(set) {
			path, value, _ := strings.Cut(o, "=")
			s.Overrides = append(s.Overrides, route.Override{Path: path, Value: value})
		}
		if got := w.pass(s, 1); got != want {
			t.Fatalf("%s, set %s: routed are %q, want %q", words, set, got, want)
		}
		if n := w.checks; want != w.pass(s, 1) || w.checks != n+1 {
			t.Errorf("%s, set %s: %d more checks for what was known", words, set, w.checks-n)
		}
	}
	told := func(want string) {
		t.Helper()
		if p := w.problems(); len(p) != 1 || !strings.Contains(p[0].Reason, want) {
			t.Errorf("problems %+v, want one that says %q", p, want)
		}
	}
	expect("a b/c", "b/c/snippet-haproxy=bad a/weight=1", "a=@1 b/c=@1") // unknown before, as after a start
	told("what was set live")
	expect("a b/c=@11", "b/c/snippet-haproxy=bad a/weight=1", "a=@1 b/c=@2") // its instances go on
	expect("a b/c=new@11", "b/c/snippet-haproxy=bad", "a=@1 b/c=new@2")      // and its labels
	expect("a b/c=bad@11", "b/c/snippet-haproxy=bad", "a=@1 b/c=new@2")      // both: as accepted last
	told("as it was accepted last")
	expect("a b/c=bad@11", "b/c/weight=7", "a=@1 b/c=new@2")
	told("labels that were accepted last")
	expect("a b/c=new@11", "", "a=@1 b/c=new@2")
	if len(w.out) != 0 {
		t.Errorf("still in quarantine: %v", w.out)
	}
	// What belongs to a service that is not routed is left out with it, and only that.
	s := catalogOf("a", "b")
	s.Overrides = []route.Override{{Path: "a/weight", Value: "1"}, {Path: "b/weight", Value: "1"}, {Path: "nobody/weight", Value: "1"}}
	if got := w.treat(s, map[string]remedy{"b": nothing}); fmt.Sprint(got.Overrides) != "[{a/weight 1} {nobody/weight 1}]" {
		t.Errorf("left are %v", got.Overrides)
	}
}

// A certificate that has been replaced may be what the service was refused for.
func TestQuarantine_F24_anotherCertificate(t *testing.T) {
	w := newWard(t, true)
	s := catalogOf("a", "b=bad")
	w.pass(s, 1)
	if got := w.admit(s, edition{templates: 1}); len(got.Services) != 1 {
		t.Errorf("routed are %v", got.Services)
	}
	if got := w.admit(s, edition{templates: 1, certificates: 1}); len(got.Services) != 2 {
		t.Errorf("not tried again: %v", got.Services)
	}
}

// Settings that are read anew do not take away what the proxy runs for a service in quarantine.
func TestQuarantine_F42_otherSettings(t *testing.T) {
	before := newWard(t, true)
	before.pass(catalogOf("a", "b"), 1)
	before.pass(catalogOf("a", "b=bad"), 1)
	after := newWard(t, true)
	after.inherit(before.quarantine)
	if got := after.pass(catalogOf("a", "b=bad@11"), 1); got != "a=@1 b=@2" {
		t.Errorf("routed are %q", got)
	}
}

// An instance that is given other labels stays the port of the container that it is.
func TestRelabelled_F24_ports(t *testing.T) {
	row := func(container, port, host string) route.Instance {
		return route.Instance{Node: "n", ID: container + port, Owner: container + ":" + port + "/tcp", Meta: map[string]string{"fairway-host": host}}
	}
	before := route.Service{Name: "s", Instances: []route.Instance{row("old", "80", "a.test"), row("old", "81", "b.test")}}
	now := route.Service{Name: "s", Instances: []route.Instance{row("new", "81", "bad"), row("old", "80", "bad"), {ID: "by hand"}}}
	got := relabelled(now, before).Instances
	for i, want := range []string{"new:81/tcp b.test", "old:80/tcp a.test", " a.test"} {
		if have := got[i].Owner + " " + got[i].Meta["fairway-host"]; have != want {
			t.Errorf("instance %d: %q, want %q", i, have, want)
		}
	}
	if before.Instances[0].Owner != "old:80/tcp" {
		t.Error("what was accepted has changed")
	}
}

// stuck is a checker that hangs, and everything that a search asks besides.
type stuck struct {
	target
	checks int
}

func (s *stuck) CanCheck() bool                             { return true }
func (s *stuck) Render(render.View) ([]render.File, error)  { return nil, nil }
func (s *stuck) edition() int                               { return 1 }
func (s *stuck) Check(context.Context, []render.File) error { s.checks++; return hung }

var hung = &proxy.RejectedError{By: proxy.ByCheck, Output: "no verdict in time (20s): ", Hung: true}

// A checker that hangs blames nobody: looking for somebody would hold up everything for minutes.
func TestQuarantine_F25_theCheckerHangs(t *testing.T) {
	checker := &stuck{}
	s := &syncer{files: checker, target: checker, quarantine: newQuarantine(hclog.NewNullLogger())}
	store := inventory{secrets: &secrets{}}
	if s.isolated(t.Context(), store, catalogOf("a", "b"), tried{}, fmt.Errorf("apply: %w", hung)) || checker.checks != 0 {
		t.Errorf("%d checks, in quarantine %v", checker.checks, s.quarantine.out)
	}
	refused := &proxy.RejectedError{By: proxy.ByCheck, Output: "bad"}
	if s.isolated(t.Context(), store, catalogOf("a", "b"), tried{}, refused) || checker.checks != 1 {
		t.Errorf("began to hang in the middle: %d checks, in quarantine %v", checker.checks, s.quarantine.out)
	}
}

// A restart forgets what was accepted. With a refused service in the catalog the same one is found
// again at once, by the checker's words or by halves: what was set live is left out as before, but
// for labels there are none of before to go by. From there on all is as it was.
func TestQuarantine_F24_aRestart(t *testing.T) {
	for _, points := range []bool{true, false} {
		var names []string
		for i := range 40 {
			names = append(names, fmt.Sprintf("s%02d", i))
		}
		catalog := func(note, set string) route.Snapshot {
			words := slices.Clone(names)
			words[17] += "=" + note
			s := catalogOf(words...)
			s.Overrides = []route.Override{{Path: "s05/weight", Value: set}}
			return s
		}
		before := newWard(t, points)
		before.pass(catalog("fine", "1"), 1)
		if got := before.pass(catalog("bad", "bad"), 1); !strings.Contains(got, "s17=fine@1") || len(before.out) != 2 {
			t.Fatalf("points %t: routed are %q", points, got)
		}

		after := newWard(t, points)
		got := after.pass(catalog("bad", "bad"), 1)
		if len(strings.Fields(got)) != 39 || strings.Contains(got, "s17") || !slices.Equal(slices.Sorted(maps.Keys(after.out)), []string{"s05", "s17"}) {
			t.Errorf("points %t: in quarantine %v, routed are %q", points, after.out, got)
		}
		if p := after.problems(); len(p) != 2 || !strings.Contains(p[0].Reason, "what was set live") || !strings.Contains(p[1].Reason, "it is not routed until it changes") {
			t.Errorf("points %t: %+v", points, p)
		}
		if most := map[bool]int{true: 10, false: 25}[points]; after.checks > most {
			t.Errorf("points %t: %d checks", points, after.checks)
		}
		checks := after.checks
		if again := after.pass(catalog("bad", "bad"), 1); again != got || after.checks != checks+1 {
			t.Errorf("points %t: %d checks for what was known", points, after.checks-checks)
		}
		if got := after.pass(catalog("fine", "2"), 1); len(strings.Fields(got)) != 40 || len(after.out) != 0 {
			t.Errorf("points %t: mended, and in quarantine is %v", points, after.out)
		}
		if got := after.pass(catalog("bad", "2"), 1); !strings.Contains(got, "s17=fine@1") {
			t.Errorf("points %t: accepted again, and routed are %q", points, got)
		}
	}
}

// One or several of 500, at the start, when everybody is a suspect: the search is bounded.
func TestQuarantine_F24_of500(t *testing.T) {
	for culprits, most := range map[int]int{1: 22, 3: 60} {
		for _, points := range []bool{true, false} {
			w := newWard(t, points)
			var words []string
			for i := range 500 {
				words = append(words, fmt.Sprintf("s%03d", i))
			}
			var bad []string
			for i := range culprits {
				n := 77 + 150*i
				bad = append(bad, words[n])
				words[n] += "=bad"
			}
			routed := strings.Fields(w.pass(catalogOf(words...), 1))
			if len(routed) != 500-culprits || !slices.Equal(slices.Sorted(maps.Keys(w.out)), bad) {
				t.Errorf("%d culprits, points %t: %d routed, in quarantine %v", culprits, points, len(routed), w.out)
			}
			limit := most
			if points {
				limit = 3 + 3*culprits
			}
			if w.checks > limit {
				t.Errorf("%d culprits, points %t: %d checks", culprits, points, w.checks)
			}
		}
	}
}

func TestBlamed(t *testing.T) {
	table := route.Table{Backends: []route.Backend{{Name: "web", Service: "web"}, {Name: "api.v1", Service: "api"}}}
	files := []render.File{
		{Path: "haproxy.cfg", Data: []byte("global\nbackend web\n  a\n  b\nbackend api.v1\n  c\n")},
		{Path: "sub/nginx.conf", Data: []byte("location / { proxy_pass http://web; }\n")},
	}
	for words, want := range map[string]string{
		"[ALERT] (1) : config : parsing [/x/haproxy.cfg:6] : bad": "[api]",
		"parsing [/x/haproxy.cfg:4] : bad":                        "[web api]", // between two: who asks tries
		"[/x/haproxy.cfg:2] and [/x/haproxy.cfg:5]":               "[web api]",
		`nginx: [emerg] invalid parameter in /x/sub/nginx.conf:1`: "[web]",
		"config : backend 'api.v1' has no servers":                "[api]",
		"parsing [/x/other.cfg:5] : bad":                          "[]",
		"parsing [/x/haproxy.cfg:600] : bad":                      "[]",
		"out of memory":                                           "[]",
	} {
		if got := fmt.Sprint(blamed(files, table, words)); got != want {
			t.Errorf("%s: %s, want %s", words, got, want)
		}
	}
}

func TestWordsOf(t *testing.T) {
	err := fmt.Errorf("apply: %w", errors.Join(&proxy.RejectedError{By: proxy.ByCheck, Output: "one\n  two\n"}, errors.New("else")))
	if got := wordsOf(err); got != "one; two" {
		t.Errorf("%q", got)
	}
	if got := wordsOf(errors.New(strings.Repeat("x", 1000))); len(got) > 410 {
		t.Errorf("%d bytes", len(got))
	}
}

// A restart does not cost a service in quarantine its routes.
func TestQuarantine_F24_outlivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "quarantine.json")
	start := func() *ward {
		w := newWard(t, true)
		w.recall(file)
		return w
	}
	pass := func(w *ward, words ...string) string {
		routed := w.pass(catalogOf(words...), 1)
		w.keep()
		return routed
	}
	first := start()
	pass(first, "a", "b=old")
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file for nobody: %v", err)
	}
	pass(first, "a", "b=bad")
	start().keep() // ended before it had looked
	second := start()
	if got := pass(second, "a", "b=bad@11"); got != "a=@1 b=old@2" {
		t.Errorf("after a restart routed are %q", got)
	}
	if got := pass(second, "a", "b=new"); got != "a=@1 b=new@1" {
		t.Errorf("mended, routed are %q", got)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file stays for nobody: %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := pass(start(), "a", "b=bad"); got != "a=@1" {
		t.Errorf("with a broken file routed are %q", got)
	}
}
