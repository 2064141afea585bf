//go:build real

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/daemon"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
)

// fileRig is a confgen with a configuration file, whose proxies do not run: what is looked at is
// on disk.
type fileRig struct {
	t      *testing.T
	consul *testbed.ConsulServer
	dir    string
	addr   string
	log    *testbed.Log
}

func newFileRig(t *testing.T, text string) *fileRig {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &fileRig{t: t, consul: testbed.Consul(t), dir: dir, log: &testbed.Log{}}
	r.write("confgen.hcl", text)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

// write writes a file in the rig's folder, whose name stands for DIR in the text.
func (r *fileRig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", r.dir)), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *fileRig) put(key, value string) {
	r.t.Helper()
	if _, err := r.consul.Client.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
		r.t.Fatal(err)
	}
}

// start runs the program on the file.
func (r *fileRig) start() {
	r.t.Helper()
	r.t.Setenv("CONSUL_HTTP_ADDR", r.consul.Addr)
	config, err := loadArgs(r.t, "--config", filepath.Join(r.dir, "confgen.hcl"))
	if err != nil {
		r.t.Fatal(err)
	}
	d := daemon.ForTest(hclog.New(&hclog.LoggerOptions{Name: "confgen", Output: r.log, Level: hclog.Debug}), "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, config, d) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	listening, stop := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer stop()
	addr, err := d.Addr(listening)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = "http://" + addr.String()
}

// holds waits until a file holds a text; "" until it is not there.
func (r *fileRig) holds(name, want string) {
	r.t.Helper()
	testbed.Eventually(r.t, 15*time.Second, name+" holds "+want, func() error {
		data, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			return err
		}
		if !strings.Contains(string(data), want) {
			return fmt.Errorf("it holds %.200s", data)
		}
		return nil
	})
}

// page waits until a page holds a text.
func (r *fileRig) page(path, want string) {
	r.t.Helper()
	testbed.Eventually(r.t, 15*time.Second, path+" says "+want, func() error {
		if _, body := get(r.t, r.addr+path, ""); !strings.Contains(body, want) {
			return errors.New(body)
		}
		return nil
	})
}

func (r *fileRig) hup() {
	r.t.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// One confgen keeps two proxies from one watch of the catalog. SIGHUP with a broken file changes
// nothing, with a good one what has changed and no more (F42).
func TestConfig_F42_severalProxiesAndSIGHUP(t *testing.T) {
	const edge = "proxy \"edge\" {\n  dir = \"DIR/edge\"\n  check_command = \"none\"\n  entrypoint \"web\" { port = 8001 }\n}\n"
	const core = "proxy \"core\" {\n  kind = \"nginx\"\n  dir = \"DIR/core\"\n  check_command = \"none\"\n  entrypoint \"web\" { port = 8002 }\n}\n"
	r := newFileRig(t, edge+core)
	r.start()
	r.holds("edge/haproxy.cfg", "8001")
	r.holds("core/nginx.conf", "8002")
	r.page("/proxies", `["edge","core"]`)
	r.page("/status?proxy=core", `"proxy": "core"`)
	r.page("/status", "want proxy=NAME, one of edge, core")
	r.page("/metrics", `fairway_confgen_routes{proxy="edge"} 0`)
	r.page("/metrics", "\nfairway_confgen_config_error 0")
	r.page("/readyz", "proxy edge: ")

	untouched, err := os.Stat(filepath.Join(r.dir, "core/nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("confgen.hcl", edge+core+"nonsense = 1\n")
	r.hup()
	r.page("/status?proxy=edge", "unknown setting nonsense")
	r.page("/metrics", "\nfairway_confgen_config_error 1")
	r.page("/proxies", `["edge","core"]`)

	const third = "proxy \"third\" {\n  dir = \"DIR/third\"\n  check_command = \"none\"\n  entrypoint \"web\" { port = 8003 }\n}\n"
	r.write("confgen.hcl", strings.ReplaceAll(edge, "8001", "8011")+core+third)
	r.hup()
	r.holds("edge/haproxy.cfg", "8011")
	r.holds("third/haproxy.cfg", "8003")
	r.page("/metrics", "\nfairway_confgen_config_error 0")
	r.page("/metrics", `fairway_confgen_routes{proxy="third"} 0`)
	if now, err := os.Stat(filepath.Join(r.dir, "core/nginx.conf")); err != nil || !now.ModTime().Equal(untouched.ModTime()) {
		t.Errorf("a proxy whose settings are the same was written again: %v", err)
	}

	r.write("confgen.hcl", core)
	r.hup()
	r.page("/proxies", `["core"]`)
	if _, body := get(t, r.addr+"/readyz", ""); strings.Contains(body, "edge") {
		t.Errorf("what is gone is still waited for: %s", body)
	}
	if _, body := get(t, r.addr+"/metrics", ""); strings.Contains(body, `proxy="edge"`) {
		t.Error("metrics of what is gone")
	}
	r.write("confgen.hcl", "routing_prefix = \"x\"\n"+core)
	r.hup()
	r.page("/status", "cannot change while confgen runs; restart it")
	for _, line := range []string{`log_level = "debug"`, `http_addr = ":1"`, `log_json = true`, `template_connections = 5`, `state_dir = "/x"`} {
		r.write("confgen.hcl", line+"\n"+core)
		r.hup()
		name, _, _ := strings.Cut(line, " ")
		r.page("/status", name+" cannot change while confgen runs; restart it")
	}
}

// Two proxies are children of one confgen. SIGHUP with other settings changes what they serve and
// not the processes; without a proxy its process ends, and the other stays.
func TestConfig_F42_F44_childrenOutliveSIGHUP(t *testing.T) {
	testbed.Program(t, "haproxy")
	testbed.Program(t, "nginx")
	edgePort, corePort, next := testbed.Port(t), testbed.Port(t), testbed.Port(t)
	proxy := func(kind, name string, port int) string {
		return fmt.Sprintf("proxy %q {\n  kind = %q\n  dir = \"DIR/%s\"\n  command = [%q]\n  hard_stop_after = \"1s\"\n  entrypoint \"web\" {\n    address = \"127.0.0.1\"\n    port = %d\n  }\n}\n", name, kind, name, kind, port)
	}
	r := newFileRig(t, proxy("haproxy", "edge", edgePort)+proxy("nginx", "core", corePort))
	r.start()
	r.serves(edgePort)
	r.serves(corePort)
	edge, core := r.child("edge"), r.child("core")

	r.write("confgen.hcl", proxy("haproxy", "edge", next)+proxy("nginx", "core", corePort))
	r.hup()
	r.serves(next)
	r.serves(corePort)
	testbed.Eventually(t, 10*time.Second, "the processes are those of before", func() error { // a check of the file is one, too
		if a, b := r.child("edge"), r.child("core"); a != edge || b != core {
			return fmt.Errorf("%d and %d, before SIGHUP %d and %d", a, b, edge, core)
		}
		return nil
	})

	r.write("confgen.hcl", proxy("nginx", "core", corePort))
	r.hup()
	testbed.Eventually(t, 15*time.Second, "the process of a proxy that is gone ends", func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", edge)); err == nil {
			return errors.New("it runs")
		}
		return nil
	})
	r.serves(corePort)
	if b := r.child("core"); b != core {
		t.Errorf("process %d, before %d", b, core)
	}
}

// serves waits until a front end answers for a name that nobody asked for.
func (r *fileRig) serves(port int) {
	r.t.Helper()
	testbed.Eventually(r.t, 20*time.Second, fmt.Sprintf("port %d is served", port), func() error {
		if code, body := get(r.t, fmt.Sprintf("http://127.0.0.1:%d/", port), "nobody.test"); code != 404 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
}

// child waits for the process that this one runs for a proxy, and returns it. HAProxy has no name
// for a moment while it executes itself again.
func (r *fileRig) child(name string) int {
	r.t.Helper()
	found := 0
	testbed.Eventually(r.t, 10*time.Second, "a process for proxy "+name, func() error {
		tasks, err := filepath.Glob("/proc/self/task/*/children") // of whichever thread started it
		if err != nil {
			return err
		}
		for _, task := range tasks {
			list, err := os.ReadFile(task)
			if err != nil {
				continue // a thread may end
			}
			for field := range strings.FieldsSeq(string(list)) {
				command, err := os.ReadFile("/proc/" + field + "/cmdline")
				if err == nil && strings.Contains(string(command), filepath.Join(r.dir, name)) {
					found, err = strconv.Atoi(field)
					return err
				}
			}
		}
		return errors.New("none")
	})
	return found
}

// Templates in consul-template's dialect follow what they ask for, are complete or not written,
// and do not hold up each other.
func TestTemplates_F41_F68_ownFiles(t *testing.T) {
	r := newFileRig(t, `
proxy "a" {
  dir           = "DIR/a"
  templates     = ["DIR/my"]
  check_command = "none"
}
`)
	r.write("my/extra.map.ctmpl", `{{range ls "cfg"}}{{.Key}} {{.Value}}
{{end}}services:{{range services}} {{.Name}}{{end}}
`)
	r.write("my/waits.ctmpl", `{{key "later"}}`)
	r.write("my/broken.ctmpl", "one\n{{secret \"x\"}}")
	r.write("a/broken", "what an earlier confgen wrote")
	r.put("cfg/a", "1")
	r.start()
	r.holds("a/extra.map", "a 1\nservices: consul\n")
	r.holds("a/haproxy.cfg", "frontend _web")
	r.holds("a/broken", "what an earlier confgen wrote")
	r.page("/status", "broken.ctmpl:2")
	r.page("/status", "waits.ctmpl waits: key later does not exist")
	r.page("/metrics", `fairway_confgen_template_error{proxy="a"} 1`)

	r.put("cfg/b", "2")
	r.holds("a/extra.map", "a 1\nb 2\n")
	r.put("later", "there it is")
	r.holds("a/waits", "there it is")
	r.write("my/broken.ctmpl", "mended")
	r.holds("a/broken", "mended")
	r.page("/metrics", `fairway_confgen_template_error{proxy="a"} 0`)

	r.write("my/extra.map.ctmpl", `{{index (services) 99}}`)
	r.page("/status", "extra.map.ctmpl:1")
	r.put("later", "another")
	r.holds("a/waits", "another")
	r.holds("a/extra.map", "a 1\nb 2\n")
}
