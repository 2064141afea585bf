package dialect

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the wanted parts of testdata/*.txtar")

// TestTranslate runs every case of testdata. A file belongs to one dialect and says where the
// behaviour is documented. Each section "given: …" holds what a container says, a line each: env,
// label or tag (with a port before it, if it is for one), and ports; a line that begins with a tab
// goes on with the value before. The section after it holds the translation.
func TestTranslate(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(archive.Files); i += 2 {
			given, want := &archive.Files[i], &archive.Files[i+1]
			title, ok := strings.CutPrefix(given.Name, "given: ")
			if !ok || want.Name != "want" {
				t.Fatalf("%s: section %q is not followed by want", file, given.Name)
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+title, func(t *testing.T) {
				got := show(Translate(parseGiven(t, string(given.Data)), Names()))
				if *update {
					want.Data = []byte(got)
				}
				if diff := cmp.Diff(string(want.Data), got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		}
		if len(archive.Files)%2 != 0 {
			t.Fatalf("%s: sections come in pairs", file)
		}
		if *update {
			if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func parseGiven(t *testing.T, text string) Input {
	t.Helper()
	in := Input{Labels: make(map[string]string)}
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n\t", "\x00")
	for line := range strings.SplitSeq(text, "\n") {
		kind, rest, _ := strings.Cut(strings.ReplaceAll(line, "\x00", "\n"), " ")
		switch kind {
		case "env":
			in.Env = append(in.Env, rest)
		case "label":
			key, value, _ := strings.Cut(rest, "=")
			in.Labels[key] = value
		case "tag":
			tag := Tag{Text: rest, Label: "SERVICE_TAGS"}
			if port, after, ok := strings.Cut(rest, " "); ok {
				if n, err := strconv.ParseUint(port, 10, 16); err == nil {
					tag = Tag{Text: after, Label: "SERVICE_" + port + "_TAGS", Port: uint16(n)}
				}
			}
			in.Tags = append(in.Tags, tag)
		case "ports":
			for word := range strings.FieldsSeq(rest) {
				n, err := strconv.ParseUint(word, 10, 16)
				if err != nil {
					t.Fatal(err)
				}
				in.Ports = append(in.Ports, uint16(n))
			}
		default:
			t.Fatalf("a line begins with env, label, tag or ports: %s", line)
		}
	}
	return in
}

// show writes a translation the way the cases do.
func show(r Result) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.Keys)) {
		fmt.Fprintf(&b, "%s=%s\n", key, r.Keys[key].Text)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem %s: %s\n", p.Label, p.Reason)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note %s\n", n)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	for list, want := range map[string]string{
		"none": "", " none ": "", "traefik": "traefik", "traefik, nginx-proxy ,traefik": "traefik,nginx-proxy",
		"nginx-proxy,interlock,fabio,traefik": strings.Join(Names(), ","),
	} {
		if got, err := Parse(list); err != nil || strings.Join(got, ",") != want {
			t.Errorf("Parse(%q) = %q, %v; want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "caddy", "traefik,none", "Traefik"} {
		if got, err := Parse(list); err == nil {
			t.Errorf("Parse(%q) = %q, want an error", list, got)
		}
	}
}

// TestTranslate_order: the dialect that the operator names first counts, as a whole.
func TestTranslate_order(t *testing.T) {
	in := Input{
		Env:    []string{"VIRTUAL_HOST=nginx.test", "VIRTUAL_PATH=/n"},
		Labels: map[string]string{"traefik.http.routers.a.rule": "Host(`traefik.test`)"},
	}
	for _, c := range []struct {
		enabled    []string
		host, path string
		notes      int
	}{
		{Names(), "nginx.test", "/n", 1},
		{[]string{Traefik, NginxProxy}, "traefik.test", "", 1},
		{[]string{Traefik}, "traefik.test", "", 0},
		{[]string{Fabio, Interlock}, "", "", 0},
		{nil, "", "", 0},
	} {
		got := Translate(in, c.enabled)
		if got.Keys["host"].Text != c.host || got.Keys["path"].Text != c.path || len(got.Notes) != c.notes {
			t.Errorf("Translate(%v) = %+v, want host %q, path %q and %d notes", c.enabled, got, c.host, c.path, c.notes)
		}
	}
}

// TestTranslate_brokenFirst: a dialect that asks badly does not make room for another, which may
// say something else of whom to let in.
func TestTranslate_brokenFirst(t *testing.T) {
	in := Input{
		Env:    []string{"VIRTUAL_HOST=a.test", "NETWORK_ACCESS=intern"},
		Labels: map[string]string{"com.docker.lb.hosts": "a.test"},
	}
	got := Translate(in, Names())
	if len(got.Keys) != 0 || len(got.Problems) != 1 || got.Dialect != NginxProxy {
		t.Errorf("Translate = %+v, want a problem of nginx-proxy and no key", got)
	}
}

// TestTranslate_secrets: nothing of a password list leaves the label.
func TestTranslate_secrets(t *testing.T) {
	in := Input{Labels: map[string]string{
		"traefik.http.routers.a.rule":                                             "Host(`a.test`)",
		"traefik.http.routers.a.middlewares":                                      "pw,hdr,dig",
		"traefik.http.middlewares.pw.basicauth.users":                             "bob:$apr1$SECRET",
		"traefik.http.middlewares.hdr.headers.customrequestheaders.Authorization": "Basic SECRET",
		"traefik.http.middlewares.dig.digestauth.users":                           "bob:realm:SECRET",
	}}
	if got := show(Translate(in, Names())); strings.Contains(got, "SECRET") {
		t.Errorf("a secret is told:\n%s", got)
	}
	delete(in.Labels, "traefik.http.middlewares.dig.digestauth.users")
	in.Labels["traefik.http.routers.a.middlewares"] = "pw,hdr"
	got := Translate(in, Names())
	if text := show(got); strings.Contains(text, "SECRET") || got.Keys["auth"].Text != "pw" || got.Keys["host"].Text != "a.test" {
		t.Errorf("want a route with auth=pw and no secret:\n%s", text)
	}
}

// TestTranslate_tooMuch: what does not fit goes as a whole route, never as a condition of one.
func TestTranslate_tooMuch(t *testing.T) {
	in := Input{}
	for i := range 60 {
		in.Tags = append(in.Tags, Tag{Text: fmt.Sprintf("urlprefix-h%d.test/p%d allow=ip:10.0.0.%d", i, i, i), Label: "SERVICE_TAGS"})
	}
	got := Translate(in, Names())
	if len(got.Keys) > maxPairs || len(got.Keys)%3 != 0 || len(got.Problems) == 0 {
		t.Errorf("%d keys and %d problems: want whole routes of at most %d keys", len(got.Keys), len(got.Problems), maxPairs)
	}
	long := Input{Tags: []Tag{{Text: "urlprefix-a.test/ allow=" + strings.Repeat("ip:10.0.0.1,", 60)}}}
	if got := Translate(long, Names()); len(got.Keys) != 0 || len(got.Problems) == 0 {
		t.Errorf("want no route without its long list of networks, got\n%s", show(got))
	}
}

// TestMiddlewares_unknownKeepsOut: a middleware that is not understood may keep somebody out.
func TestMiddlewares_unknownKeepsOut(t *testing.T) {
	for kind, served := range map[string]bool{
		"forwardauth.address": false, "digestauth.users": false, "plugin.geoblock.allow": false, "addprefix.prefix": false,
		"replacepath.path": false, "retry.attempts": true, "buffering.maxrequestbodybytes": true, "compress": true,
	} {
		got := Translate(Input{Labels: map[string]string{
			"traefik.http.routers.a.rule": "Host(`a.test`)", "traefik.http.routers.a.middlewares": "m",
			"traefik.http.middlewares.m." + kind: "x",
		}}, Names())
		if (got.Keys["host"].Text == "a.test") != served {
			t.Errorf("%s: served is %t:\n%s", kind, !served, show(got))
		}
	}
}

// FuzzTranslate: nothing that a container says makes a translation panic, grow without bound,
// depend on anything but the input, or hold what cannot be carried to the front end.
func FuzzTranslate(f *testing.F) {
	f.Add("VIRTUAL_HOST=a,*.b,~^c$,.d,e.*\nVIRTUAL_PATH=~^/(a|b){1,2}\nVIRTUAL_DEST=/", "", "")
	f.Add("VIRTUAL_HOST_MULTIPORTS={\"a\":{\"/\":{\"port\":1,\"dest\":\"/x\"}},\"b\":null}", "", "")
	f.Add("VIRTUAL_HOST_MULTIPORTS=a:\x01  \"/\":\x01    port: 80\x01    dest: '/'\x01\"*.b\": {}", "", "")
	f.Add("INTERLOCK_DATA={\"hostname\":\"a\",\"domain\":\"b\",\"alias_domains\":[\"c\"],\"port\":1}", "", "")
	f.Add("", "interlock.hostname=a\ninterlock.domain=b\ninterlock.alias_domain.0=c\ninterlock.backend_option.1=x", "")
	f.Add("", "com.docker.lb.hosts=a,b\ncom.docker.lb.redirects=http://a,http://b;;x\ncom.docker.lb.ssl_passthrough=true", "")
	f.Add("", "", "urlprefix-a/b strip=/b weight=0.5 allow=ip:1.2.3.4\nurlprefix-:1 proto=tcp pxyproto=true\nurlprefix-")
	f.Add("", "traefik.http.routers.a.rule=(Host(`a`,`b`) || Path(`/x`)) && !Method(\"GET\")\ntraefik.http.routers.a.middlewares=m,m@docker\ntraefik.http.middlewares.m.chain.middlewares=m", "")
	f.Add("", "traefik.tcp.routers.a.rule=HostSNI(`a`) || HostSNI(`*`)\ntraefik.tcp.routers.a.tls.passthrough=true\ntraefik.http.services.s.loadbalancer.sticky.cookie.name=\x00", "")
	f.Fuzz(func(t *testing.T, env, labels, tags string) {
		in := Input{Labels: map[string]string{}, Ports: []uint16{443, 80}}
		for line := range strings.SplitSeq(env, "\n") {
			in.Env = append(in.Env, strings.ReplaceAll(line, "\x01", "\n"))
		}
		for line := range strings.SplitSeq(labels, "\n") {
			key, value, _ := strings.Cut(line, "=")
			in.Labels[key] = value
		}
		for line := range strings.SplitSeq(tags, "\n") {
			in.Tags = append(in.Tags, Tag{Text: line, Label: "SERVICE_TAGS"})
		}
		for _, name := range Names() {
			got := Translate(in, []string{name})
			if again := show(Translate(in, []string{name})); again != show(got) {
				t.Errorf("%s: two translations differ:\n%s\n%s", name, show(got), again)
			}
			checkResult(t, got)
		}
	})
}

func checkResult(t *testing.T, r Result) {
	t.Helper()
	if len(r.Keys) > maxPairs || len(r.Problems) > maxProblems || len(r.Notes) > maxProblems+len(Names()) {
		t.Errorf("%d keys, %d problems, %d notes: not bounded", len(r.Keys), len(r.Problems), len(r.Notes))
	}
	conditions := make(map[string]bool)
	for key, v := range r.Keys {
		route, rest, named := strings.Cut(key, ".")
		if !named || !strings.Contains(route, "_") {
			route, rest = "", key
		}
		if strings.Contains(route, "-") || len(route) > maxName+4 {
			t.Errorf("%q is not the name of a route", route)
		}
		if len(v.Text) > maxValue || !utf8.ValidString(v.Text) || strings.ContainsFunc(v.Text, func(c rune) bool { return c < ' ' }) {
			t.Errorf("%s=%q cannot be carried", key, v.Text)
		}
		switch rest {
		case "host", "path", "default", "tcp", "sni", "header", "methods":
			conditions[route] = true
		}
	}
	for key := range r.Keys {
		route, _, named := strings.Cut(key, ".")
		if named && strings.Contains(route, "_") && !conditions[route] {
			t.Errorf("%s is of a route without any condition", key)
		}
	}
	for _, p := range r.Problems {
		if p.Reason == "" || len(p.Reason) > 1500 || len(p.Label) > 200 {
			t.Errorf("problem %q: %q", p.Label, p.Reason)
		}
	}
}
