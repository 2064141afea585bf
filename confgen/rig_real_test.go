//go:build real

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/proxy"
	"fairway/internal/daemon"
	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
)

// rig is a real Consul and a real proxy with a confgen between them.
type rig struct {
	t      testing.TB
	consul *testbed.ConsulServer
	kind   string
	dir    string
	port   int
	log    *testbed.Log
}

func newRig(t testing.TB, kind string, consulArgs ...string) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw") // short: a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, consul: testbed.Consul(t, consulArgs...), kind: kind, dir: dir, port: testbed.Port(t), log: &testbed.Log{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
		_ = os.RemoveAll(dir)
	})
	return r
}

// options parses a command line for this rig; the last of a flag given twice wins.
func (r *rig) options(args ...string) Options {
	r.t.Helper()
	var opt Options
	var child []string
	for i, a := range args {
		if a == "--" {
			args, child = args[:i], args[i+1:]
			break
		}
	}
	app := &cli.App{Name: "confgen", Flags: flags(), Action: func(c *cli.Context) error {
		var err error
		opt, err = optionsFrom(c.Context, commandLine{c}, child)
		return err
	}}
	oneCommand.Lock()
	defer oneCommand.Unlock()
	err := app.Run(append([]string{
		"confgen", "--proxy", r.kind, "--dir", r.dir, "--consul-addr", r.consul.Addr,
		"--entrypoint", "web=127.0.0.1:" + strconv.Itoa(r.port), "--reload-interval", "50ms",
	}, args...))
	if err != nil {
		r.t.Fatal(err)
	}
	return opt
}

// confgen is a running program.
type confgen struct {
	r    *rig
	addr string // of its admin listener
	stop func() // asks it to end and waits
	err  atomic.Pointer[error]
}

// confgen starts the program.
func (r *rig) confgen(args ...string) *confgen {
	r.t.Helper()
	c := &confgen{r: r}
	log := hclog.New(&hclog.LoggerOptions{Name: "confgen", Output: r.log, Level: hclog.Debug})
	d := daemon.ForTest(log, "127.0.0.1:0")
	opt := r.options(args...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := run(ctx, Config{Proxies: []Options{opt}}, d)
		c.err.Store(&err)
	}()
	var once sync.Once
	c.stop = func() {
		once.Do(func() {
			cancel()
			began := time.Now()
			<-done
			if took := time.Since(began); took > 5*time.Second {
				r.t.Errorf("ended after %s", took)
			}
		})
	}
	r.t.Cleanup(func() {
		c.stop()
		if err := *c.err.Load(); err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	listening, stopWaiting := context.WithCancel(r.t.Context())
	go func() { <-done; stopWaiting() }()
	addr, err := d.Addr(listening)
	if err != nil { // it has ended; the clean-up says why
		r.t.Fatal(err)
	}
	c.addr = addr.String()
	return c
}

// once runs the program with --once or --dry-run and returns its exit code and output.
func (r *rig) once(args ...string) (int, string) {
	r.t.Helper()
	var out bytes.Buffer
	d := daemon.ForTest(hclog.New(&hclog.LoggerOptions{Output: r.log, Level: hclog.Debug}), "")
	err := once(r.t.Context(), Config{Proxies: []Options{r.options(args...)}}, d, &out)
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0, out.String()
	case errors.As(err, &coded):
		return coded.ExitCode(), out.String() + err.Error()
	}
	return 1, out.String() + err.Error()
}

func (c *confgen) status() status {
	c.r.t.Helper()
	var s status
	code, body := get(c.r.t, "http://"+c.addr+"/status", "")
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != 200 {
		c.r.t.Fatalf("status %d %q: %v", code, body, err)
	}
	return s
}

// metric returns the value of a metric line.
func (c *confgen) metric(name string) float64 {
	c.r.t.Helper()
	_, body := get(c.r.t, "http://"+c.addr+"/metrics", "")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				c.r.t.Fatal(err)
			}
			return v
		}
	}
	c.r.t.Fatalf("no metric %s", name)
	return 0
}

// ready waits until the program says it is.
func (c *confgen) ready() {
	c.r.t.Helper()
	testbed.Eventually(c.r.t, 15*time.Second, "confgen is ready", func() error {
		if code, body := get(c.r.t, "http://"+c.addr+"/readyz", ""); code != 200 {
			return errors.New(body)
		}
		return nil
	})
}

// haproxy runs a HAProxy beside confgen, as soon as there is a configuration, and returns how
// to end it.
func (r *rig) haproxy() *proxy.Child {
	r.t.Helper()
	child, err := proxy.NewChild(proxy.ChildOptions{
		Command: []string{testbed.Program(r.t, "haproxy"), "-W", "-S", filepath.Join(r.dir, "master.sock"), "-f", filepath.Join(r.dir, "haproxy.cfg")},
		Stdout:  r.log, Stderr: r.log, StopTimeout: time.Second, Restart: true,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(r.dir, "haproxy.cfg")); err == nil {
				break
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
		done <- child.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("haproxy: %v", err)
		}
	})
	return child
}

// web is an application that answers with its name.
type web struct {
	name, host string
	port       int
}

func (r *rig) web(name string) web {
	r.t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
	r.t.Cleanup(s.Close)
	return addressed(r.t, name, s)
}

// addressed is where a server listens, under a name.
func addressed(t testing.TB, name string, s *httptest.Server) web {
	t.Helper()
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return web{name, host, n}
}

// register writes an instance the way registrator does: service and check in one transaction.
func (r *rig) register(service string, w web, status string, meta map[string]string) {
	r.t.Helper()
	id := "n1:" + w.name + ":80"
	ok, answer, _, err := r.consul.Client.Txn().Txn(api.TxnOps{
		{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: "n1", Address: "127.0.0.1"}}},
		{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: "n1", Service: api.AgentService{
			ID: id, Service: service, Address: w.host, Port: w.port, Meta: meta,
		}}},
		{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
			Node: "n1", CheckID: "service:" + id, Name: "container", Status: status, ServiceID: id,
		}}},
	}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if !ok {
		r.t.Fatalf("transaction refused: %v", answer.Errors[0])
	}
}

func (r *rig) deregister(w web) {
	r.t.Helper()
	if _, err := r.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "n1", ServiceID: "n1:" + w.name + ":80"}, nil); err != nil {
		r.t.Fatal(err)
	}
}

func host(name string) map[string]string { return map[string]string{"fairway-host": name} }

// get asks for a page over a connection of its own.
func get(t testing.TB, url, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// answers waits until the proxy answers for a host with one of the names, each of them seen.
func (r *rig) answers(hostName string, names ...string) {
	r.t.Helper()
	testbed.Eventually(r.t, 10*time.Second, fmt.Sprintf("%s is answered by %v", hostName, names), func() error {
		seen := map[string]bool{}
		for range 4 * len(names) {
			code, body := get(r.t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), hostName)
			if code != 200 {
				return fmt.Errorf("%d %q", code, body)
			}
			seen[body] = true
		}
		for _, name := range names {
			if !seen[name] {
				return fmt.Errorf("answered by %v", seen)
			}
		}
		if len(seen) != len(names) {
			return fmt.Errorf("answered by %v", seen)
		}
		return nil
	})
}

// snapshotOf returns the configuration folder's files with what tells a rewrite apart.
func (r *rig) files() map[string]string {
	r.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type() == os.ModeSocket || strings.Contains(path, "/.") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = fmt.Sprintf("%s %d %s", info.ModTime(), info.Sys().(*syscall.Stat_t).Ino, data)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}
