package render_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/templates"
)

func someView(t testing.TB) render.View {
	return render.View{
		Table:    route.Build(routetest.Snapshot(t, "web n 10.0.0.1:80 passing 1 fairway-host=a.test\napi n 10.0.0.2:80 passing 2 fairway-host=b.test"), route.Settings{}),
		Settings: render.DefaultSettings(),
	}
}

func one(t *testing.T, v render.View, layers ...fs.FS) map[string]string {
	t.Helper()
	r, err := render.New(layers...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.Render(v)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, f := range list {
		files[f.Path] = string(f.Data)
	}
	return files
}

func folder(files ...string) fstest.MapFS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func TestUserTemplates(t *testing.T) {
	v := someView(t)
	t.Run("own file instead of all", func(t *testing.T) {
		own := folder("list.txt.tmpl", "{{range .Routes}}{{.Host}} {{.Backend}}\n{{end}}", "README", "not a template", ".hidden.tmpl", "hidden")
		if diff := cmp.Diff(map[string]string{"list.txt": "a.test web\nb.test api\n"}, one(t, v, own)); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("one block", func(t *testing.T) {
		plain := one(t, v, templates.HAProxy()...)
		own := one(t, v, append(templates.HAProxy(), folder("mine.tmpl", `{{define "not-found"}}backend _not-found # mine{{end}}`))...)
		if _, ok := own["mine"]; ok || len(own) != len(plain) {
			t.Errorf("files %d, want %d: a file of blocks makes no file", len(own), len(plain))
		}
		if got := own["haproxy.cfg"]; !strings.Contains(got, "backend _not-found # mine") || strings.Contains(got, "http-request return status 404") || !strings.Contains(got, "server n_10.0.0.1:80") {
			t.Errorf("the block is not the user's, or the rest is not the default:\n%s", got)
		}
	})
	t.Run("one file", func(t *testing.T) {
		own := one(t, v, append(templates.HAProxy(), folder("maps/prefix.map.tmpl", "mine\n"))...)
		if own["maps/prefix.map"] != "mine\n" || !strings.Contains(own["haproxy.cfg"], "frontend _web") {
			t.Errorf("%v", own)
		}
	})
}

// What stands in the defaults is copied to each backend while HAProxy reads its file. What it gives
// back then leaves a hole for each, and those are what requests are served from (docs/findings.md, HAProxy 13).
func TestRender_defaultsLeaveNoHoles(t *testing.T) {
	config := one(t, someView(t), templates.HAProxy()...)["haproxy.cfg"]
	_, defaults, _ := strings.Cut(config, "\ndefaults\n")
	defaults, frontend, _ := strings.Cut(defaults, "\nfrontend ")
	frontend, _, _ = strings.Cut(frontend, "\nbackend ")
	for _, word := range []string{"http-error ", "errorfile ", "errorfiles ", "errorloc"} {
		if strings.Contains(defaults, "\n    "+word) {
			t.Errorf("%q stands in the defaults:\n%s", word, defaults)
		}
	}
	if !strings.Contains(frontend, "\n    http-error status 503 ") {
		t.Errorf("no page for a backend without servers:\n%s", frontend)
	}
}

// Maps say a backend by its number only where haproxy.cfg gives it that: a block of the user's own,
// or a whole file, may have been written before there were any.
func TestUserTemplates_withoutNumbers(t *testing.T) {
	v := someView(t)
	for name, tt := range map[string]struct {
		own    fs.FS
		number bool
	}{
		"no template": {folder(), true},
		"a block that prints the number": {
			folder("mine.tmpl", `{{define "backend"}}`+"\n"+`backend {{.Name}}{{"\n    id "}}{{.ID}}{{end}}`), true,
		},
		"a block without": {folder("mine.tmpl", `{{define "backend"}}`+"\n"+`backend {{.Name}}{{end}}`), false},
		"a file without":  {folder("haproxy.cfg.tmpl", "global\n{{range .Backends}}\nbackend {{.Name}}\n    mode http\n    id {{.ID}}\n{{end}}"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var want strings.Builder
			for _, r := range v.Routes {
				target := r.Backend
				if tt.number {
					i := slices.IndexFunc(v.Backends, func(b route.Backend) bool { return b.Name == r.Backend })
					target = fmt.Sprintf("#%d", v.Backends[i].ID)
				}
				fmt.Fprintf(&want, "web/%s/ %s\n", r.Host, target)
			}
			if diff := cmp.Diff(want.String(), one(t, v, append(templates.HAProxy(), tt.own)...)["maps/prefix.map"]); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The block of a server needs no more than what it once needed: blocks that were copied then go on.
func TestUserTemplates_theServerBlockAlone(t *testing.T) {
	v := someView(t)
	line := func(text string) string {
		for line := range strings.Lines(text) {
			if strings.Contains(line, " n_10.0.0.1:80 ") {
				return strings.TrimSpace(line)
			}
		}
		return ""
	}
	want := line(one(t, v, templates.HAProxy()...)["haproxy.cfg"])
	for _, more := range []string{"", ` "Check" false`, ` "Common" ""`} {
		own := folder("mine.tmpl", `{{define "backend"}}{{$settings := .Settings}}
backend {{.Name}}{{range .Servers}}
  {{template "server" dict "Server" . "Settings" $settings`+more+`}}{{end}}{{end}}`)
		got := line(one(t, v, append(templates.HAProxy(), own)...)["haproxy.cfg"])
		if more == ` "Common" ""` {
			want, _, _ = strings.Cut(want, " check ")
		}
		if got != want || want == "" {
			t.Errorf("with%s: %q, want %q", more, got, want)
		}
	}
}

// docs/confgen.md names every block that there is, and its example is a block that can be used.
func TestUserTemplates_documented(t *testing.T) {
	page, err := os.ReadFile("../../docs/confgen.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## Templates of your own")
	text, _, _ = strings.Cut(text, "\n## ")
	_, example, _ := strings.Cut(text, ".tmpl\n")
	example, _, _ = strings.Cut(example, "\n$ confgen")
	files := one(t, someView(t), append(templates.HAProxy(), folder("mine.tmpl", example))...)
	if !strings.Contains(example, "define") || cmp.Equal(files, one(t, someView(t), templates.HAProxy()...)) {
		t.Errorf("the example changes nothing: %s", example)
	}
	define := regexp.MustCompile(`\{\{-? ?define "([^"]+)"`)
	for proxy, layers := range map[string][]fs.FS{"HAProxy": templates.HAProxy()[1:], "nginx": templates.Nginx()[1:]} {
		_, list, _ := strings.Cut(text, "\n- "+proxy+": `")
		list, _, _ = strings.Cut(list, "`")
		var names []string
		err := fs.WalkDir(layers[0], ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(layers[0], name)
			for _, m := range define.FindAllSubmatch(data, -1) {
				names = append(names, string(m[1]))
			}
			return err
		})
		slices.Sort(names)
		if diff := cmp.Diff(names, strings.Fields(list)); err != nil || diff != "" {
			t.Errorf("blocks of %s: %v\n%s", proxy, err, diff)
		}
	}
}

// TestTemplateErrors wants the file and the line, from parsing and from executing.
func TestTemplateErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"parse":             {"ok\n{{range}}", "bad.cfg.tmpl:2"},
		"unknown function":  {"\n\n{{nonsense}}", "bad.cfg.tmpl:3"},
		"no such field":     {"\n{{.Nonsense}}", "bad.cfg.tmpl:2:2"},
		"unsafe word":       {"{{haproxyWord \"a b\"}}", "bad.cfg.tmpl:1:2"},
		"in a backend":      {"{{range .Backends}}{{remember \"b\" .}}{{end}}{{define \"b\"}}\n{{.Settings.Nonsense}}{{end}}", "bad.cfg.tmpl:2"},
		"missing map key":   {"{{(dict \"a\" 1).b}}", "bad.cfg.tmpl:1"},
		"not hermetic":      {"{{env \"HOME\"}}", "bad.cfg.tmpl:1"},
		"nothing to print":  {"{{define \"x\"}}y{{end}}", "no template prints anything"},
		"clock, not stable": {"{{now}}", "bad.cfg.tmpl:1"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := render.New(folder("bad.cfg.tmpl", c.text))
			if err == nil {
				_, err = r.Render(someView(t))
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*render.View){
		"user and a password":       func(v *render.View) { v.Settings.StatsUser = "ops" },
		"no colon":                  func(v *render.View) { v.Settings.StatsUser, v.Settings.StatsPassword = "o:ps", "x" },
		"connect timeout":           func(v *render.View) { v.Settings.Timeouts.Connect = 0 },
		"hard stop timeout":         func(v *render.View) { v.Settings.HardStopAfter = -1 },
		"is negative":               func(v *render.View) { v.Settings.MaxConn = -1 },
		"no certificate":            func(v *render.View) { v.Entrypoints[0].TLS = true },
		"a name is of":              func(v *render.View) { v.Entrypoints[0].Name = "we b" },
		"not an IP address":         func(v *render.View) { v.Entrypoints[0].Address = "localhost" },
		"from 1 to 65535":           func(v *render.View) { v.Entrypoints[0].Port = 0 },
		"stats: that name is taken": func(v *render.View) { v.Entrypoints[0].Name = "stats" },
		"tcp-80: that name is":      func(v *render.View) { v.Entrypoints[0].Name = "tcp-80" },
		"web-next: that name is":    func(v *render.View) { v.Entrypoints[0].Name = "web-next" },
		"to-here: that name is":     func(v *render.View) { v.Entrypoints[0].Name = "web-to-here" },
		"declared twice":            func(v *render.View) { v.Entrypoints = append(v.Entrypoints, v.Entrypoints[0]) },
		"no entrypoint is declared": func(v *render.View) { v.Entrypoints = nil },
	} {
		v := someView(t)
		r, err := render.New(templates.HAProxy()...)
		if err != nil {
			t.Fatal(err)
		}
		change(&v)
		if _, err := r.Render(v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		version, least string
		want           bool
	}{
		{"", "1.0", false},
		{"1.27.4", "1.27.4", true},
		{"1.27.3", "1.27.4", false},
		{"1.28", "1.27.4", true},
		{"2.6.12-1+deb12u4", "2.6", true},
		{"2.10", "2.9", true},
		{"3", "2.6", true},
		{"2", "2.6", false},
		{"nonsense", "1.0", false},
	} {
		if got := (render.Settings{Version: c.version}).AtLeast(c.least); got != c.want {
			t.Errorf("%q at least %q: %v", c.version, c.least, got)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{{haproxyQuote "it's $x #\\ \""}}`, `'it'\''s $x #\ "'`},
		{`{{nginxQuote "a\\\"b;{}"}}`, `"a\\\"b;{}"`},
		{`{{nginxRegex "^\\d$"}}`, `"^\\d$"`},
		{`{{mapKey "web/a.test/"}}`, `web/a.test/`},
		{`{{logFormat "100%"}}`, `100%%`},
		{`{{comment "a\nb\u00e9"}}`, `a?b?`},
		{`{{ms .Settings.Timeouts.Connect}}`, `2000ms`},
		{`{{regexQuote "a.b_c/d"}}`, `a\.b_c\/d`},
		{`{{haproxyQuote "a\nb"}}`, ``},
		{`{{haproxyQuote "a\x00b"}}`, ``},
		{`{{haproxyWord ""}}`, ``},
		{`{{haproxyWord "a;b c"}}`, ``},
		{`{{haproxyWord "a'b"}}`, ``},
		{`{{haproxyWord "#a"}}`, ``},
		{`{{nginxQuote "$host"}}`, ``},
		{`{{nginxRegex "a\nb"}}`, ``},
		{`{{mapKey "a b"}}`, ``},
		{`{{mapKey "#a"}}`, ``},
		{`{{mapKey "a\nb c"}}`, ``},
		{`{{mapKey ""}}`, ``},
	} {
		r, err := render.New(folder("x.tmpl", c.text))
		if err != nil {
			t.Fatal(err)
		}
		files, err := r.Render(someView(t))
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%s: %q, want a refusal", c.text, files[0].Data)
		case c.want != "" && (err != nil || string(files[0].Data) != c.want):
			t.Errorf("%s: %v, %v, want %s", c.text, files, err, c.want)
		}
	}
}

// TestRender_F70_twoFrontEnds lets two renderers with different pasts render the same world.
func TestRender_F70_twoFrontEnds(t *testing.T) {
	for proxy, layers := range layers {
		old, err := render.New(layers()...)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 10 {
			s := routetest.Large(20, 3)
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for i := range s.Services {
				s.Services[i].Instances = s.Services[i].Instances[:1+r.IntN(3)]
				s.Services[i].Instances[0].Status = []route.Status{route.Passing, route.Critical, route.Maintenance}[r.IntN(3)]
			}
			s.Services = s.Services[:10+r.IntN(10)]
			v := render.View{Table: route.Build(s, route.Settings{}), Settings: render.DefaultSettings()}
			if n%3 == 0 {
				v.Settings.HardStopAfter *= 2
				v.Settings.Timeouts.Interval *= 2
			}
			fresh, err := render.New(layers()...)
			if err != nil {
				t.Fatal(err)
			}
			want, err := fresh.Render(v)
			if err != nil {
				t.Fatal(err)
			}
			got, err := old.Render(v)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%s: a renderer with a past prints something else (-fresh +old):\n%s", proxy, diff)
			}
		}
	}
}

// FuzzHostile lets any string be any label of any service: nothing panics, nothing is refused by
// the renderer (what it cannot print must be refused as a label), and everything stays in line.
func FuzzHostile(f *testing.F) {
	for _, p := range pieces {
		f.Add("svc", "node", "host", p, "/x")
		f.Add(p, p, p, "a.com", p)
	}
	for n := range 200 {
		r := rand.New(rand.NewPCG(uint64(n), 5))
		f.Add("svc", hostileValue(r), hostileKeys[r.IntN(len(hostileKeys))], hostileValue(r), hostileValue(r))
	}
	type compiled struct{ haproxy, nginx *render.Renderer }
	var c compiled
	var err error
	if c.haproxy, err = render.New(templates.HAProxy()...); err != nil {
		f.Fatal(err)
	}
	if c.nginx, err = render.New(templates.Nginx()...); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, service, node, key, value, path string) {
		in := route.Instance{
			Node: node, ID: node, Address: "10.0.0.1", Port: 80, Status: route.Passing, Created: 9, Tags: []string{"fairway." + key + "=" + path},
			Meta: map[string]string{"fairway-" + key: value, "fairway-path": path, "fairway-host": "b.com," + value},
		}
		good := route.Instance{Node: "n", ID: "n:good:80", Address: "10.0.0.2", Port: 80, Status: route.Passing, Created: 1, Meta: map[string]string{"fairway-host": "good.test"}}
		table := route.Build(route.Snapshot{Services: []route.Service{{Name: service, Instances: []route.Instance{in}}, {Name: "good", Instances: []route.Instance{good}}}}, route.Settings{})
		if r, ok := table.Match("web", "good.test", "/"); service != "good" && (!ok || r.Service != "good") {
			t.Errorf("good.test goes to %v", r)
		}
		v := render.View{Table: table, Settings: render.DefaultSettings()}
		for _, r := range []*render.Renderer{c.haproxy, c.nginx} {
			files, err := r.Render(v)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				for line := range strings.Lines(string(file.Data)) {
					for _, char := range strings.TrimSuffix(line, "\n") {
						if char < 0x20 || char > 0x7e {
							t.Fatalf("%s has the character %q in %q", file.Path, char, line)
						}
					}
				}
			}
		}
	})
}

func BenchmarkRender(b *testing.B) {
	for _, size := range []struct{ services, instances int }{{1000, 3}, {5000, 10}} {
		for proxy, layers := range layers {
			b.Run(fmt.Sprintf("%s/%dx%d/all", proxy, size.services, size.instances), func(b *testing.B) {
				v := render.View{Table: route.Build(routetest.Large(size.services, size.instances), route.Settings{}), Settings: render.DefaultSettings()}
				b.ReportAllocs()
				for b.Loop() {
					r, err := render.New(layers()...)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := r.Render(v); err != nil {
						b.Fatal(err)
					}
				}
			})
			// One instance changes its health: what confgen does before it applies anything.
			b.Run(fmt.Sprintf("%s/%dx%d/one-change-with-build", proxy, size.services, size.instances), func(b *testing.B) {
				r, err := render.New(layers()...)
				if err != nil {
					b.Fatal(err)
				}
				s := routetest.Large(size.services, size.instances)
				m := route.NewIncremental(route.Settings{})
				if _, err := r.Render(render.View{Table: m.Build(s), Settings: render.DefaultSettings()}); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for n := 0; b.Loop(); n++ {
					s.Services[7].Instances = slices.Clone(s.Services[7].Instances)
					s.Services[7].Instances[0].Status = []route.Status{route.Passing, route.Critical}[n%2]
					if _, err := r.Render(render.View{Table: m.Build(s), Settings: render.DefaultSettings()}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// TestRender_F48_hostAdded wants a new host, wildcard or path of a service that already has a
// backend to change nothing but the maps.
func TestRender_F48_hostAdded(t *testing.T) {
	files := func(labels string) map[string]string {
		v := render.View{
			Table:    route.Build(routetest.Snapshot(t, "web n 10.0.0.1:80 passing 1 "+labels), route.Settings{}),
			Settings: render.DefaultSettings(),
		}
		return one(t, v, templates.HAProxy()...)
	}
	before := files("fairway-host=a.test")
	after := files("fairway-host=a.test,b.test,*.test,*.x.y.test fairway-path=/,/p,=/q fairway-api-host=api.test fairway-default=true")
	for name := range after {
		if changed, want := before[name] != after[name], strings.HasPrefix(name, "maps/") && name != "maps/sni.map"; changed != want {
			t.Errorf("%s changed: %v, want %v:\n%s", name, changed, want, cmp.Diff(before[name], after[name]))
		}
	}
}

// TestRender_nginxConnections wants room for idle connections to thousands of services, and what
// the operator says instead where there is something said.
func TestRender_nginxConnections(t *testing.T) {
	for _, c := range []struct{ services, given, want int }{{1, 0, 4096}, {999, 0, 4096}, {5000, 0, 14096}, {5000, 77, 77}} {
		v := render.View{Table: route.Build(routetest.Large(c.services, 1), route.Settings{}), Settings: render.DefaultSettings()}
		v.Settings.MaxConn = c.given
		if want := fmt.Sprintf("worker_connections %d;", c.want); !strings.Contains(one(t, v, templates.Nginx()...)["nginx.conf"], want) {
			t.Errorf("%d services, %d given: no %q", c.services, c.given, want)
		}
	}
}
