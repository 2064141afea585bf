package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// parse reads a command line; what follows "--" is the command of confgen run.
func parse(t *testing.T, args ...string) (Options, error) {
	t.Helper()
	var child []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, child = args[:i], args[i+1:]
	}
	var opt Options
	app := &cli.App{Name: "confgen", Flags: flags(), Action: func(c *cli.Context) error {
		var err error
		opt, err = optionsFrom(c.Context, commandLine{c}, child)
		return err
	}}
	err := app.Run(append([]string{"confgen"}, args...))
	return opt, err
}

func TestOptions_defaults(t *testing.T) {
	t.Setenv("PATH", "")
	o, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	p := o.Proxy
	for name, got := range map[string]string{
		"/fairway":                        p.Dir,
		"/fairway/haproxy.sock":           p.StatsSocket,
		"/fairway/.confgen/snapshot.json": o.Snapshot,
		"/fairway/master.sock":            p.Reload.Arg,
		"master":                          p.Reload.Method,
	} {
		if got != name {
			t.Errorf("%q, want %q", got, name)
		}
	}
	if want := []route.Entrypoint{{Name: "web", Port: 80}}; !slices.Equal(o.Routing.Entrypoints, want) {
		t.Errorf("entrypoints %v", o.Routing.Entrypoints)
	}
	if p.CheckCommand != nil {
		t.Errorf("a checker without a proxy on PATH: %q", p.CheckCommand)
	}
}

func TestOptions_sharedFolderSeenDifferently(t *testing.T) {
	o, err := parse(t, "--dir", "/here", "--run-dir", "/here/run", "--proxy-run-dir", "/there", "--stats-socket", "/here/run/s/x.sock")
	if err != nil {
		t.Fatal(err)
	}
	if o.Proxy.StatsSocket != "/here/run/s/x.sock" || o.Render.StatsSocket != "/there/s/x.sock" ||
		o.Proxy.GenerationSocket != "/here/run/nginx-generation.sock" || o.Render.GenerationSocket != "/there/nginx-generation.sock" {
		t.Errorf("%+v\n%+v", o.Proxy, o.Render)
	}
	o, err = parse(t, "--stats-socket", "none")
	if err != nil || o.Proxy.StatsSocket != "" || o.Render.StatsSocket != "" {
		t.Errorf("none: %q %q %v", o.Proxy.StatsSocket, o.Render.StatsSocket, err)
	}
}

func TestOptions_child(t *testing.T) {
	for _, c := range []struct {
		args []string
		kind string
		want Reload
		has  []string
	}{
		{[]string{"--", "nginx"}, "nginx", Reload{Method: "child"}, []string{"-c", "/fairway/nginx.conf", "daemon off;"}},
		{[]string{"--", "/usr/sbin/haproxy"}, "haproxy", Reload{"master", "/fairway/master.sock"}, []string{"-W", "-f", "/fairway/haproxy.cfg"}},
		{[]string{"--", "haproxy", "-W", "-S", "/x.sock,mode,600", "-f", "y"}, "haproxy", Reload{"master", "/x.sock"}, []string{"/x.sock,mode,600"}},
		{[]string{"--", "haproxy", "-W", "-f", "y"}, "haproxy", Reload{Method: "child"}, []string{"y"}},
		{[]string{"--proxy", "nginx", "--", "my-nginx", "-x"}, "nginx", Reload{Method: "child"}, []string{"-x"}},
	} {
		o, err := parse(t, c.args...)
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		if o.Proxy.Kind != c.kind || o.Proxy.Reload != c.want {
			t.Errorf("%q: %s by %+v", c.args, o.Proxy.Kind, o.Proxy.Reload)
		}
		for _, word := range c.has {
			if !slices.Contains(o.Proxy.Child, word) {
				t.Errorf("%q: no %q in %q", c.args, word, o.Proxy.Child)
			}
		}
	}
}

func TestOptions_entrypointsAndStats(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("pass word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONFGEN_STATS_USER", "me")
	t.Setenv("CONFGEN_TIMEOUT_SERVER", "90s")
	o, err := parse(t, "--tls-certificates", "/certs", "--stats-password-file", secret)
	if err != nil {
		t.Fatal(err)
	}
	if want := []route.Entrypoint{{Name: "web", Port: 80}, {Name: "websecure", Port: 8443, TLS: true}}; !slices.Equal(o.Routing.Entrypoints, want) {
		t.Errorf("entrypoints %v", o.Routing.Entrypoints)
	}
	if o.Render.StatsUser != "me" || o.Render.StatsPassword != "pass word" || o.Render.Timeouts.Server != 90*time.Second {
		t.Errorf("%+v", o.Render)
	}
	o, err = parse(t, "--entrypoint", "inner=[::1]:8080", "--entrypoint", "outer=10.0.0.1:81", "--stats-password", "x", "--stats-entrypoint", "inner")
	if err != nil {
		t.Fatal(err)
	}
	if want := []route.Entrypoint{{Name: "inner", Address: "::1", Port: 8080}, {Name: "outer", Address: "10.0.0.1", Port: 81}}; !slices.Equal(o.Routing.Entrypoints, want) {
		t.Errorf("entrypoints %v", o.Routing.Entrypoints)
	}
}

// A wrong value ends the program with a line that names the flag and what it takes.
func TestOptions_refusals(t *testing.T) {
	for want, args := range map[string][]string{
		`--proxy "apache": want haproxy or nginx`: {"--proxy", "apache"},
		"--dir: want":               {"--dir", ""},
		"--template: stat /nowhere": {"--template", "/nowhere"},
		"--reload carrier-pigeon: no such method; want master":  {"--reload", "carrier-pigeon"},
		"--reload master: only haproxy":                         {"--proxy", "nginx", "--reload", "master"},
		"--reload container: it needs to know which":            {"--reload", "container:"},
		"--reload child: the proxy is a child only":             {"--reload", "child"},
		`--entrypoint "web": want NAME=`:                        {"--entrypoint", "web"},
		`--entrypoint "web=:0": port "0"`:                       {"--entrypoint", "web=:0"},
		`--entrypoint "web=:70000": port "70000"`:               {"--entrypoint", "web=:70000"},
		`--entrypoint "web=nowhere:80": address "nowhere"`:      {"--entrypoint", "web=nowhere:80"},
		`--entrypoint "web=:80/ssl": want NAME=`:                {"--entrypoint", "web=:80/ssl"},
		`--entrypoint "web=:80/": want NAME=`:                   {"--entrypoint", "web=:80/"},
		`entrypoint web takes the PROXY protocol, but no proxy`: {"--entrypoint", "web=:80/proxy"},
		"entrypoint websecure speaks TLS":                       {"--entrypoint", "websecure=:443/tls"},
		"--stats-user and stats-password":                       {"--stats-user", "me"},
		"--stats-password-file: open /nowhere":                  {"--stats-password-file", "/nowhere"},
		`--stats-entrypoint "x": no such`:                       {"--stats-user", "a", "--stats-password", "b", "--stats-entrypoint", "x"},
		"only haproxy has a stats page":                         {"--proxy", "nginx", "--stats-user", "a", "--stats-password", "b"},
		"--timeout-connect 0s: want at least":                   {"--timeout-connect", "0s"},
		"--resync -1s: want at least":                           {"--resync", "-1s"},
		"--old-workers 0: want at least 1":                      {"--old-workers", "0"},
		"--consul-connections 5: want at least 6":               {"--consul-connections", "5"},
		"--routing-prefix: want":                                {"--routing-prefix", ""},
		"--diff: only together with --dry-run":                  {"--diff"},
		"--once and --dry-run":                                  {"--once", "--dry-run"},
		"confgen run keeps a proxy running":                     {"--once", "--", "haproxy"},
		`--on-proxy-exit "panic": want restart or exit`:         {"--on-proxy-exit", "panic"},
	} {
		_, err := parse(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
			continue
		}
		if usage := daemon.Usagef("x"); reflect.TypeOf(err) != reflect.TypeOf(usage) {
			t.Errorf("%q: %T is no usage error, which ends the program with code 2", args, err)
		}
	}
}

func TestMain_optionsGoBehindRun(t *testing.T) {
	err := newApp().Run([]string{"confgen", "--dir", t.TempDir(), "run", "--", "haproxy"})
	if err == nil || !strings.Contains(err.Error(), "behind the word run") {
		t.Error(err)
	}
	if err = newApp().Run([]string{"confgen", "run"}); err == nil || !strings.Contains(err.Error(), "behind --") {
		t.Error(err)
	}
}

// A proxy that is not there is a mistake in the command, not something to wait for.
func TestMain_runOfAMissingProgram(t *testing.T) {
	args := []string{"confgen", "run", "--dir", t.TempDir(), "--http-addr", "off", "--", "nosuch"}
	if code := daemon.Main(newApp(), args); code != daemon.ExitUsage {
		t.Errorf("exit code %d, want %d", code, daemon.ExitUsage)
	}
	if err := newApp().Run(args); err == nil || !strings.Contains(err.Error(), `"nosuch"`) {
		t.Error(err)
	}
}

func TestMain_argumentsAreNotLost(t *testing.T) {
	err := newApp().Run([]string{"confgen", "--dir", t.TempDir(), "nonsense"})
	if err == nil || !strings.Contains(err.Error(), `argument "nonsense": want none`) {
		t.Error(err)
	}
}

func TestOptions_proxiedEntrypoints(t *testing.T) {
	o, err := parse(t, "--entrypoint", "web=:80/proxy", "--entrypoint", "in=:81", "--trusted-proxy", "10.0.0.0/8")
	if err != nil || !o.Routing.Entrypoints[0].Proxied || o.Routing.Entrypoints[0].TLS || o.Routing.Entrypoints[1].Proxied || len(o.Render.TrustedProxies) != 1 {
		t.Errorf("%+v %v, %v", o.Routing.Entrypoints, o.Render.TrustedProxies, err)
	}
	for text, want := range map[string][2]bool{"a=:1/tls/proxy": {true, true}, "a=:1/proxy/tls": {true, true}, "a=:1/tls": {true, false}} {
		e, err := parseEntrypoint(text)
		if err != nil || e.TLS != want[0] || e.Proxied != want[1] {
			t.Errorf("%s: %+v, %v", text, e, err)
		}
	}
}
