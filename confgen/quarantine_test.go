package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
func (w *ward) pass(s route.Snapshot, edition int) string {
	w.t.Helper()
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
