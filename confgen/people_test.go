package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairway/confgen/render"

	"github.com/google/go-cmp/cmp"
)

func TestOptions_peopleAndPages(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	staff := file("staff", "# the office\nalice:$6$salt$hash\n\nbob:$2y$05$abcdefghijklmnopqrstuv\n")
	file("brand/503.html", "<p>soon</p>")
	o, err := parse(t, "--instance", "edge", "--user-list", "staff="+staff, "--error-pages", "brand="+filepath.Join(dir, "brand"),
		"--trusted-proxy", "10.1.2.3/8", "--trusted-proxy", "::1", "--allow-snippets", "shop")
	if err != nil {
		t.Fatal(err)
	}
	want := []render.UserList{{Name: "staff", Users: []render.User{{Name: "alice", Hash: "$6$salt$hash"}, {Name: "bob", Hash: "$2y$05$abcdefghijklmnopqrstuv"}}}}
	if diff := cmp.Diff(want, o.Render.UserLists); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]render.PageSet{{Name: "brand", Pages: map[int]string{503: "<p>soon</p>"}}}, o.Render.PageSets); diff != "" {
		t.Error(diff)
	}
	networks := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	if diff := cmp.Diff(networks, o.Render.TrustedProxies, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	r := o.Routing
	if diff := cmp.Diff([]any{"edge", []string{"staff"}, []string{"brand"}, []string{"shop"}}, []any{r.Instance, r.UserLists, r.PageSets, r.Snippets}); diff != "" {
		t.Error(diff)
	}

	for want, args := range map[string][]string{
		`--user-list "staff": want NAME=PATH`:                 {"--user-list", "staff"},
		`--user-list "Staff=x": want a name of lower-case`:    {"--user-list", "Staff=x"},
		`--user-list staff: open /nowhere`:                    {"--user-list", "staff=/nowhere"},
		`plain:2: user bob: want a hash that haproxy`:         {"--user-list", "x=" + file("plain", "\nbob:secret\n")},
		`apr1:1: user bob: want a hash that haproxy`:          {"--user-list", "x=" + file("apr1", "bob:$apr1$a$b\n")},
		`twice:2: user bob is there twice`:                    {"--user-list", "x=" + file("twice", "bob:$6$a$b\nbob:$6$a$b\n")},
		`odd:1: user "b b": want letters`:                     {"--user-list", "x=" + file("odd", "b b:$6$a$b\n")},
		`none:1: no user`:                                     {"--user-list", "x=" + file("none", "# nobody\n")},
		`--user-list "staff=` + staff + `": there is another`: {"--user-list", "staff=" + staff, "--user-list", "staff=" + staff},
		`--error-pages x: /nowhere has no page`:               {"--error-pages", "x=/nowhere"},
		`200.html: want a name from 400.html`:                 {"--error-pages", "x=" + filepath.Dir(file("odd-pages/200.html", "x"))},
		`has 12289 bytes; want at most 12288`:                 {"--error-pages", "x=" + filepath.Dir(file("long-pages/503.html", strings.Repeat("x", 12289)))},
		`--trusted-proxy "all": want an address`:              {"--trusted-proxy", "all"},
	} {
		_, err := parse(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := parse(t, "--proxy", "nginx", "--user-list", "x="+filepath.Join(dir, "apr1")); err != nil {
		t.Errorf("nginx can check it: %v", err)
	}
}
