//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// view is what a catalog asks for, what a file says or what a proxy does: "svc-0 127.1.0.1:80" is
// "ready 100" with its weight, or outOfTraffic; a timeoutKey is "set".
type view map[string]string

const outOfTraffic = "maint"

// timeoutKey stands for a timeout that no other service ever has.
func timeoutKey(timeout string) string { return "timeout " + timeout }

// get takes what is not there for out of traffic.
func (v view) get(key string) string {
	if state := v[key]; state != "" {
		return state
	}
	return outOfTraffic
}

// watcher looks at a proxy until changes are live in it.
type watcher struct {
	t    testing.TB
	kind string // "haproxy" or "nginx"
	file string
	dir  string

	written os.FileInfo     // the file when it was last read
	texts   map[string]view // what the files said, by the generation that they name
	onDisk  string          // generation of the file

	mu      sync.Mutex
	waiting []waiting
	lived   []lived
	err     error // why the proxy could not be looked at last
}

// waiting is a change that is not live yet. Of changes of one thing a later one that is live says
// that those before it are, or have been overtaken.
type waiting struct {
	thing, key, want string
	from             time.Time
	structural       bool
}

// lived is a change that is live.
type lived struct {
	from, until time.Time
	structural  bool
}

func newWatcher(t testing.TB, kind, dir string) *watcher {
	w := &watcher{t: t, kind: kind, dir: dir, texts: map[string]view{}}
	w.file = filepath.Join(dir, map[string]string{"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[kind])
	return w
}

// expect begins to wait for a change that is about to be written.
func (w *watcher) expect(thing, key, want string, structural bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, waiting{thing, key, want, time.Now(), structural})
}

// done says what is still waited for.
func (w *watcher) done() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return nil
	}
	return errors.Join(fmt.Errorf("%d changes are not live, first %+v", len(w.waiting), w.waiting[0]), w.err)
}

// start looks every millisecond while something is waited for; every five at nginx, where a
// question costs more and a change takes a hundred times as long.
func (w *watcher) start() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	every := map[string]time.Duration{"haproxy": time.Millisecond, "nginx": 5 * time.Millisecond}[w.kind]
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if w.done() == nil {
				continue
			}
			now, err := w.running()
			w.seen(now, time.Now(), err)
		}
	})
	return func() { cancel(); looking.Wait() }
}

// seen notes what is live.
func (w *watcher) seen(now view, at time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err = err; err != nil {
		return
	}
	last := map[string]int{} // of a thing, the newest change that is live
	for i, c := range w.waiting {
		if now.get(c.key) == c.want {
			last[c.thing] = i
		}
	}
	var left []waiting
	for i, c := range w.waiting {
		if newest, live := last[c.thing]; live && i <= newest {
			w.lived = append(w.lived, lived{c.from, at, c.structural})
		} else {
			left = append(left, c)
		}
	}
	w.waiting = left
}

// running is what the proxy does: HAProxy tells its servers, and of which file the rest is; nginx
// the latter.
func (w *watcher) running() (view, error) {
	if err := w.read(); err != nil {
		return nil, err
	}
	if w.kind == "nginx" {
		generation, err := w.generation()
		return w.texts[generation], err
	}
	answer, err := ask(filepath.Join(w.dir, "haproxy.sock"), "show info; show servers state\n")
	if err != nil {
		return nil, err
	}
	now, generation, err := parseState(answer)
	for key, state := range w.texts[generation] {
		if strings.HasPrefix(key, timeoutKey("")) {
			now[key] = state
		}
	}
	return now, err
}

// ask puts a command to a socket of HAProxy.
func ask(socket, command string) (string, error) {
	conn, err := net.DialTimeout("unix", socket, 3*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, command); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// parseState reads HAProxy's answer: who it is, and its servers.
func parseState(answer string) (now view, generation string, err error) {
	now = view{}
	for line := range strings.Lines(answer) {
		if text, is := strings.CutPrefix(line, "description: "); is {
			generation = strings.TrimSpace(text)
		}
		// be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight … srv_port (19th)
		f := strings.Fields(line)
		if len(f) < 19 || strings.HasPrefix(line, "#") || strings.HasPrefix(f[1], "_") {
			continue
		}
		admin, err := strconv.Atoi(f[6])
		if err != nil {
			return nil, "", fmt.Errorf("%q: %w", line, err)
		}
		state := "ready " + f[7]
		if admin&^4 != 0 { // 4: was disabled in the file
			state = outOfTraffic
		}
		now[fmt.Sprintf("%s %s:%s", f[1], f[4], f[18])] = state
	}
	return now, generation, nil
}

// equalAnswers in a row mean that nginx's old workers no longer accept, as confgen sees it too.
const equalAnswers = 3

// generation asks nginx until its workers agree.
func (w *watcher) generation() (string, error) {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(w.dir, "nginx-generation.sock"))
		},
	}}
	first := ""
	for i := range equalAnswers {
		resp, err := client.Get("http://fairway/generation")
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return "", err
		}
		if i > 0 && string(body) != first {
			return "", errors.New("old and new workers answer side by side")
		}
		first = string(body)
	}
	return strings.TrimSpace(first), nil
}

// read reads the file when it is another than before.
func (w *watcher) read() error {
	info, err := os.Stat(w.file)
	if err != nil {
		return err
	}
	if w.written != nil && os.SameFile(info, w.written) && info.ModTime().Equal(w.written.ModTime()) {
		return nil
	}
	data, err := os.ReadFile(w.file)
	if err != nil {
		return err
	}
	says, generation := parseFile(string(data))
	w.texts[generation], w.onDisk, w.written = says, generation, info
	return nil
}

// parseFile reads haproxy.cfg or nginx.conf as far as it is compared.
func parseFile(text string) (says view, generation string) {
	says = view{}
	backend := ""
	for line := range strings.Lines(text) {
		f := strings.Fields(strings.TrimRight(strings.TrimSpace(line), ";"))
		switch {
		case len(f) < 2, strings.HasPrefix(f[0], "#"):
			continue
		case f[0] == "description":
			generation = f[1]
		case f[0] == "return" && f[1] == "200" && generation == "": // nginx's generation is its first answer
			generation = strings.Trim(strings.ReplaceAll(f[2], `\n`, ""), `"`)
		case f[0] == "backend", f[0] == "upstream":
			backend = strings.Trim(f[1], `"'`)
		case strings.HasPrefix(backend, "_"): // HAProxy's own, of which the catalog says nothing
			continue
		case f[0] == "server" && f[1] != "{":
			key, state := fileServer(backend, f)
			says[key] = state
		case f[0] == "timeout" && f[1] == "server" && backend != "":
			says[timeoutKey(f[2])] = "set"
		}
		if i := slices.Index(f, "proxy_read_timeout"); i >= 0 {
			says[timeoutKey(strings.TrimSuffix(f[i+1], ";"))] = "set"
		}
	}
	delete(says, timeoutKey("60000ms")) // the operator's
	return says, generation
}

// fileServer reads a server line: "server NAME ADDRESS … weight 100 …" of HAProxy, and "server
// ADDRESS weight=100 …" of nginx.
func fileServer(backend string, f []string) (key, state string) {
	address := f[1]
	if !strings.Contains(address, ":") || strings.Contains(f[2], ":") {
		address = f[2]
	}
	key, state = backend+" "+address, "ready 1"
	for i, word := range f {
		if weight, is := strings.CutPrefix(word, "weight="); is {
			state = "ready " + weight
		}
		if word == "weight" {
			state = "ready " + f[i+1]
		}
	}
	if slices.Contains(f, "disabled") || slices.Contains(f, "down") {
		state = outOfTraffic
	}
	return key, state
}

// asked is what the catalog asks for, asked of Consul itself.
func asked(client *api.Client) (view, error) {
	want := view{}
	services, _, err := client.Catalog().Services(nil)
	if err != nil {
		return nil, err
	}
	for name := range services {
		entries, _, err := client.Health().Service(name, "", false, nil)
		if err != nil {
			return nil, err
		}
		passing := slices.ContainsFunc(entries, isPassing)
		for _, e := range entries {
			if e.Service.Meta["fairway-host"] == "" {
				continue
			}
			key := fmt.Sprintf("%s %s:%d", name, e.Service.Address, e.Service.Port)
			if passing && !isPassing(e) { // where none does, all serve
				want[key] = outOfTraffic
				continue // Labels of the best health count; one that is leaving has older ones.
			}
			want[key] = "ready " + e.Service.Meta["fairway-weight"]
			if timeout := e.Service.Meta["fairway-timeout-server"]; timeout != "" {
				want[timeoutKey(timeout)] = "set"
			}
		}
	}
	return want, nil
}

func isPassing(e *api.ServiceEntry) bool {
	return e.Checks.AggregatedStatus() == api.HealthPassing
}

// agree says where catalog, file and proxy differ.
func (c *churn) agree() error {
	want, err := asked(c.l.consul.Client)
	if err != nil {
		return err
	}
	w := newWatcher(c.t, c.watch.kind, c.watch.dir)
	now, err := w.running()
	if err != nil {
		return err
	}
	return differ(want, w.texts[w.onDisk], now)
}

// differ compares the three. Servers that only wait until HAProxy can forget them count for nothing.
func differ(catalog, file, running view) error {
	for key, state := range running {
		if _, written := file[key]; state == outOfTraffic && !written {
			delete(running, key)
		}
	}
	if diff := cmp.Diff(catalog, file); diff != "" {
		return fmt.Errorf("the file differs (-catalog +file):\n%s", diff)
	}
	if diff := cmp.Diff(file, running); diff != "" {
		return fmt.Errorf("the proxy differs (-file +proxy):\n%s", diff)
	}
	return nil
}

// The comparison sees it when one of the three is falsified.
func TestChurn_theComparisonSeesFalsification(t *testing.T) {
	const conf = "global\n    description abc\nbackend a\n    timeout server 60002ms\n" +
		"    server n1 127.0.0.1:80 id 7 weight 50\n    server n2 127.0.0.2:80 id 8 weight 60 disabled\n"
	const info = "description: abc\n5 a 7 n1 127.0.0.1 2 0 50 50 1 1 3 4 6 0 0 0 - 80 - 0 0 - - 0\n" +
		"5 a 8 n2 127.0.0.2 0 5 60 60 1 1 3 4 6 0 0 0 - 80 - 0 0 - - 0\n5 a 9 n3 127.0.0.3 0 1 60 60 1 1 3 4 6 0 0 0 - 80 - 0 0 - - 0\n"
	file, generation := parseFile(conf)
	for _, falsified := range []struct{ file, state string }{
		{conf, info},
		{strings.Replace(conf, "weight 50", "weight 51", 1), info},
		{strings.Replace(conf, " disabled", "", 1), info},
		{strings.Replace(conf, "60002ms", "60003ms", 1), info},
		{conf, strings.Replace(info, "2 0 50", "2 0 51", 1)},
		{conf, strings.Replace(info, "2 0 50", "0 1 50", 1)},
		{conf, strings.Replace(info, "0 5 60", "2 0 60", 1)},
		{conf, strings.Replace(info, "127.0.0.1", "127.0.0.9", 1)},
	} {
		says, _ := parseFile(falsified.file)
		now, running, err := parseState(falsified.state)
		if err != nil || running != generation {
			t.Fatalf("%q, want %q: %v", running, generation, err)
		}
		now[timeoutKey("60002ms")] = "set"
		err = differ(file, says, now)
		if honest := falsified.file == conf && falsified.state == info; honest != (err == nil) {
			t.Errorf("%v of\n%s\n%s", err, falsified.file, falsified.state)
		}
	}
	nginx, generation := parseFile("  # server of nobody\nreturn 200 \"abc\\n\";\nupstream a {\n  server 127.0.0.1:80 weight=50 max_fails=1;\n" +
		"  server 127.0.0.2:80 down max_fails=1;\n}\nserver {\nproxy_connect_timeout 1ms; proxy_read_timeout 60002ms; x y;\n")
	if err := differ(file, nginx, nginx); err != nil || generation != "abc" {
		t.Errorf("nginx's file says otherwise, generation %q: %v", generation, err)
	}
}
