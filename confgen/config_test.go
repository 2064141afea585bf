package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/daemon"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// loadFile reads a configuration file called confgen.hcl, with more arguments besides.
func loadFile(t *testing.T, text string, args ...string) (Config, error) {
	t.Helper()
	t.Setenv("PATH", "") // no checker that is there by chance
	t.Chdir(t.TempDir())
	if err := os.WriteFile("confgen.hcl", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return loadArgs(t, append([]string{"--config", "confgen.hcl"}, args...)...)
}

func loadArgs(t *testing.T, args ...string) (Config, error) {
	t.Helper()
	var config Config
	app := &cli.App{Name: "confgen", Flags: flags(), Action: func(c *cli.Context) error {
		var err error
		config, err = load(c, c.Args().Slice())
		return err
	}}
	err := app.Run(append([]string{"confgen"}, args...))
	return config, err
}

// A file with one proxy and a command line that say the same are the same.
func TestConfig_sameAsFlags(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "") // so that it is put back
	os.Unsetenv("CONSUL_HTTP_ADDR")
	fromFile, err := loadFile(t, `
consul {
  address     = "10.0.0.1:8500,10.0.0.2:8500"
  connections = 6
  ssl_verify  = false
}
routing_prefix = "edge"
log_level      = "warn"
defaults {
  timeouts { server = "9s" }
  resync = "1m"
}
proxy "a" {
  kind     = "haproxy"
  dir      = "/a"
  resync   = "2m"
  reload   = "command:systemctl reload haproxy"
  max_conn = 7
  instance = "x"
  access_log = true
  trusted_proxies = ["10.0.0.0/8", "::1"]
  allow_snippets  = ["shop"]
  timeouts { connect = "3s" }
  entrypoint "web" { port = 81 }
  entrypoint "inner" {
    address = "::1"
    port    = 82
  }
}
`)
	if err != nil {
		t.Fatal(err)
	}
	fromFlags, err := loadArgs(t, "--consul-addr", "10.0.0.1:8500,10.0.0.2:8500", "--consul-connections", "6", "--consul-ssl-verify=false",
		"--routing-prefix", "edge", "--log-level", "warn", "--timeout-server", "9s", "--resync", "2m", "--dir", "/a", "--max-conn", "7",
		"--reload", "command:systemctl reload haproxy", "--instance", "x", "--access-log", "--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1",
		"--allow-snippets", "shop", "--timeout-connect", "3s", "--entrypoint", "web=:81", "--entrypoint", "inner=[::1]:82")
	if err != nil {
		t.Fatal(err)
	}
	got := fromFile.Proxies[0]
	if got.Name != "a" || fromFile.Program.String("log-level") != "warn" || fromFile.Program.String("http-addr") != ":9102" {
		t.Errorf("%q %q %q", got.Name, fromFile.Program.String("log-level"), fromFile.Program.String("http-addr"))
	}
	got.Name = ""
	if diff := cmp.Diff(fromFlags.Proxies[0], got, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("-flags +file:\n%s", diff)
	}
}

func TestConfig_severalProxies(t *testing.T) {
	c, err := loadFile(t, `
defaults {
  entrypoint "web"   { port = 80 }
  entrypoint "inner" { port = 81 }
}
proxy "edge" {
  dir = "/edge"
}
proxy "core" {
  kind = "nginx"
  dir  = "/core"
  command = ["nginx"]
  entrypoint "inner" { port = 8081 }
}
`)
	if err != nil {
		t.Fatal(err)
	}
	edge, core := c.Proxies[0], c.Proxies[1]
	want := []route.Entrypoint{{Name: "web", Port: 80}, {Name: "inner", Port: 8081}}
	if diff := cmp.Diff(want, core.Routing.Entrypoints); diff != "" {
		t.Error(diff)
	}
	if edge.Routing.Instance != "edge" || core.Routing.Instance != "core" || edge.Proxy.Kind != "haproxy" || core.Proxy.Kind != "nginx" {
		t.Errorf("%+v\n%+v", edge, core)
	}
	if core.Proxy.Reload.Method != "child" || core.Proxy.Child[0] != "nginx" || len(core.Proxy.Child) < 3 || len(edge.Proxy.Child) > 0 {
		t.Errorf("%+v, %q", core.Proxy.Reload, core.Proxy.Child)
	}
	if edge.Snapshot != "/edge/.confgen/snapshot.json" || core.Snapshot != edge.Snapshot {
		t.Errorf("snapshots %s, %s: want one", edge.Snapshot, core.Snapshot)
	}
}

// What belongs to the whole program may be said on the command line, which then wins; what
// belongs to a proxy may not, since it would not be known to which.
func TestConfig_commandLineBesideAFile(t *testing.T) {
	const file = `
consul { address = "filed:1" }
empty_grace = "5s"
proxy "a" { dir = "/a" }
`
	t.Setenv("CONSUL_HTTP_ADDR", "asked:2")
	c, err := loadFile(t, file, "--once", "--timeout", "3s")
	if err != nil {
		t.Fatal(err)
	}
	o := c.Proxies[0]
	if o.Consul.Addresses[0] != "asked:2" || o.EmptyGrace != 5*time.Second || !o.Once || o.Timeout != 3*time.Second {
		t.Errorf("%+v", o)
	}
	if _, err = loadFile(t, file, "--dir", "/b"); err == nil || !strings.Contains(err.Error(), "--dir (or CONFGEN_DIR) cannot be given together with --config: confgen.hcl says it, as dir") {
		t.Error(err)
	}
	t.Setenv("CONFGEN_TIMEOUT_SERVER", "3s")
	if _, err = loadFile(t, file); err == nil || !strings.Contains(err.Error(), "as timeouts.server") {
		t.Error(err)
	}
}

// A mistake is told with its place and with what to write instead, and all mistakes of form at once.
func TestConfig_mistakes(t *testing.T) {
	const proxy = "proxy \"a\" {\n  dir = \"/a\"\n%s}\n"
	for want, text := range map[string]string{
		`confgen.hcl:3:3: timeout is no setting: it is a flag of one run, --timeout`:                   "  timeout = \"3s\"\n",
		`confgen.hcl:3:3: unknown setting instanse; did you mean instance?`:                            "  instanse = \"x\"\n",
		`confgen.hcl:3:3: unknown setting colour`:                                                      "  colour = \"red\"\n",
		`confgen.hcl:3:3: timeout_server is written timeouts { server = … }, in a block proxy`:         "  timeout_server = \"3s\"\n",
		`confgen.hcl:3:3: log_level is written log_level = …, at the top of the file`:                  "  log_level = \"warn\"\n",
		`confgen.hcl:3:3: once is no setting: it is a flag of one run, --once`:                         "  once = true\n",
		`confgen.hcl:3:3: entrypoint is written entrypoint "name" { … }, in a block proxy`:             "  entrypoint = \"web=:80\"\n",
		`confgen.hcl:3:14: unknown setting timeouts.servr; did you mean server?`:                       "  timeouts { servr = \"3s\" }\n",
		`confgen.hcl:3:23: server: want a time, such as "500ms", "10s" or "1h30m"`:                     "  timeouts { server = 3 }\n",
		`confgen.hcl:3:14: max_conn: want a whole number, without quotes`:                              "  max_conn = \"3\"\n",
		`confgen.hcl:3:14: in_place: want true or false`:                                               "  in_place = \"yes\"\n",
		`confgen.hcl:3:15: templates: want a list of texts, such as ["a", "b"]`:                        "  templates = \"x\"\n",
		`confgen.hcl:3:12: kind: want a text in quotes`:                                                "  kind   = 3\n",
		`confgen.hcl:3:10: kind: want a value; leave the line out for the default`:                     "  kind = null\n",
		`confgen.hcl:3:3: want entrypoint "name" { … }, with one name of lower-case letters`:           "  entrypoint { port = 80 }\n",
		`confgen.hcl:3:3: entrypoint "web": want port = …`:                                             "  entrypoint \"web\" {}\n",
		`confgen.hcl:3:22: unknown setting prot; did you mean port?`:                                   "  entrypoint \"web\" { prot = 80 }\n",
		`confgen.hcl:4:3: entrypoint "web" is there already, in line 3`:                                "  entrypoint \"web\" { port = 80 }\n  entrypoint \"web\" { port = 81 }\n",
		`confgen.hcl:4:3: entrypoint "b=:70000": port "70000" is not a number`:                         "  entrypoint \"a\" { port = 80 }\n  entrypoint \"b\" { port = 70000 }\n",
		`confgen.hcl:3:3: user_list staff: open /nowhere`:                                              "  user_list \"staff\" { file = \"/nowhere\" }\n",
		`confgen.hcl:3:3: kind "apache": want haproxy or nginx`:                                        "  kind = \"apache\"\n",
		`confgen.hcl:3:14: timeouts.server 0s: want at least 1ms`:                                      "  timeouts { server = \"0s\" }\n",
		`confgen.hcl:3:9: stats.user and stats-password`:                                               "stats { user = \"x\" }\n",
		`confgen.hcl:3:11: Call to function "env" failed: the environment variable NOT_SET is not set`: "run_dir = env(\"NOT_SET\")\n",
		`confgen.hcl:3:2: A block definition must end with a newline`:                                  "}{\n",
		`confgen.hcl:5:3: dir /a: proxy a has it already`:                                              "} \nproxy \"b\" {\n  dir = \"/a\"\n",
		`proxy "a" is there already, in line 1`:                                                        "}\nproxy \"a\" {\n",
		`confgen.hcl:3:3: consul { … } stands at the top of the file`:                                  "  consul { address = \"x\" }\n",
		"confgen.hcl:3:3: unknown setting a1\nconfgen.hcl:4:3: unknown setting b1":                     "  a1 = 1\n  b1 = 2\n",
	} {
		_, err := loadFile(t, strings.ReplaceAll(proxy, "%s", text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n  %v\nwant\n  %s", text, err, want)
			continue
		}
		if usage := daemon.Usagef("x"); reflect.TypeOf(err) != reflect.TypeOf(usage) {
			t.Errorf("%q: %T is no usage error, which ends the program with code 2", text, err)
		}
	}
	if _, err := loadFile(t, "log_level = \"info\"\n"); err == nil || !strings.Contains(err.Error(), `confgen.hcl:1:1: no proxy; want at least one block`) {
		t.Error(err)
	}
	if _, err := loadArgs(t, "--config", "/nowhere"); err == nil || !strings.Contains(err.Error(), "--config: open /nowhere") {
		t.Error(err)
	}
}
