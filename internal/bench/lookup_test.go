//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
	"fairway/templates"
)

// few is the number of routes that many are held against, and of those that are asked for.
const few = 10

// routing is a way in which routes differ from each other: the labels of a service that has the
// routes of these numbers, and how one of them is asked for.
type routing struct {
	name string
	key  string // label that lists them
	word func(i int) string
	ask  func(word string) (host, path string)
}

var routings = []routing{
	{
		"hosts", "host", func(i int) string { return fmt.Sprintf("service-%05d.example.test", i) },
		func(word string) (string, string) { return word, "/" },
	},
	{
		"paths of one host", "path", func(i int) string { return fmt.Sprintf("/service-%05d", i) },
		func(word string) (string, string) { return "example.test", word },
	},
}

// front is a proxy with a number of routes.
type front struct {
	proxy, address string
	routing        routing
	routes         int
	services       int // that have the routes
	asked          int // routes that are asked for, in turn
	script         string
	pid            int

	rates []float64 // requests a second, one for each round
	costs []float64 // microseconds of the proxy's processor time for a request
}

// TestMeasureLookup counts the requests a second that HAProxy and nginx pass on with ten and with
// $ROUTES routes (5,000), in $ROUNDS rounds (5) of a second in which each has its turn. Ten of
// 5,000 services show what the configuration's size costs, 5,000 routes to ten services what it is
// to look up a different one each time. With 5,000 services all asked there is something else
// in it: connections to servers, which are fewer to each when there are more of them.
func TestMeasureLookup(t *testing.T) {
	routes, rounds := number(t, "ROUTES", 5000), number(t, "ROUNDS", 5)
	port := answering(t)
	var rows [][]string
	for _, r := range routings {
		for _, proxy := range []string{"haproxy", "nginx"} {
			t.Run(proxy+" "+r.name, func(t *testing.T) { // which ends its proxies with it
				small := &front{proxy: proxy, routing: r, routes: few, services: few, asked: few}
				large := []*front{
					{proxy: proxy, routing: r, routes: routes, services: routes, asked: few},
					{proxy: proxy, routing: r, routes: routes, services: few, asked: routes},
					{proxy: proxy, routing: r, routes: routes, services: routes, asked: routes},
				}
				for _, f := range append(large, small) {
					f.start(t, port)
				}
				turns(t, rounds, append(large, small)...)
				for _, f := range large {
					rows = append(rows, f.beside(small))
				}
			})
		}
	}
	table(fmt.Sprintf("Looking up one of many routes (%d rounds)", rounds), []string{
		"", "with", "requests/s with 10", "requests/s", "ratio", "requests per second of its CPU, ratio",
	}, rows)
}

// turns has every front asked for a second in each round, after one that warms up, so that what
// else the machine does falls on all of them alike.
func turns(t *testing.T, rounds int, all ...*front) {
	t.Helper()
	for round := range rounds + 1 {
		for _, f := range all {
			rate, cost := f.load(t)
			if round > 0 {
				f.rates, f.costs = append(f.rates, rate), append(f.costs, cost)
			}
		}
	}
}

// beside holds a front against one with fewer routes.
func (f *front) beside(small *front) []string {
	return []string{
		f.proxy + ", " + f.routing.name, fmt.Sprintf("%d routes to %d services, %d asked for", f.routes, f.services, f.asked),
		fmt.Sprintf("%.0f", median(small.rates)), fmt.Sprintf("%.0f", median(f.rates)), ratio(f.rates, small.rates), ratio(small.costs, f.costs),
	}
}

// answering starts a program that answers on every address of loopback with that address, so
// that thousands of backends are one program that costs the same for each.
func answering(t *testing.T) (port int) {
	t.Helper()
	dir := t.TempDir()
	port = testbed.Port(t)
	conf := fmt.Sprintf(`worker_processes 1; pid %[1]s/pid; error_log stderr error; worker_rlimit_nofile 20000;
events { worker_connections 19000; }
http {
	access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { listen %[2]d backlog=4096; return 200 "$server_addr\n"; }
}
`, dir, port)
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	(&lab{b: t, dir: dir}).spawn(testbed.Program(t, "taskset"), "-c", otherProcessors(), testbed.Program(t, "nginx"), "-g", "daemon off; master_process off;", "-c", path)
	return port
}

// otherProcessors are the processors that the measured proxies leave alone.
func otherProcessors() string {
	if n := runtime.NumCPU(); n > 1 {
		return fmt.Sprintf("1-%d", n-1)
	}
	return "0"
}

// behind is the address of the backend of a route.
func behind(i int) string { return fmt.Sprintf("127.1.%d.%d", i/250, i%250+1) }

// start runs the proxy with the default templates, on the first processor alone, which also makes
// it one thread, and waits until its routes lead where they should.
func (f *front) start(t *testing.T, port int) {
	t.Helper()
	var s route.Snapshot
	for i := range f.services {
		var words []string
		for n := i; n < f.routes; n += f.services {
			words = append(words, f.routing.word(n))
		}
		s.Services = append(s.Services, route.Service{Name: fmt.Sprintf("service-%05d", i), Instances: []route.Instance{{
			Node: "n", ID: fmt.Sprintf("n:%d:80", i), Address: behind(i), Port: port, Status: route.Passing, Created: uint64(i),
			// Checks of 5,000 servers cost the thread time that is not of lookups.
			Meta: map[string]string{"fairway-host": "example.test", "fairway-" + f.routing.key: strings.Join(words, ","), "fairway-check": "off"},
		}}})
	}
	dir := t.TempDir()
	v := render.View{
		Table:    route.Build(s, route.Settings{Proxy: route.Proxy(f.proxy), Entrypoints: []route.Entrypoint{{Name: "web", Address: "127.0.0.1", Port: testbed.Port(t)}}}),
		Settings: render.DefaultSettings(),
	}
	v.Settings.StatsSocket, v.Settings.RunDir, v.Settings.GenerationSocket = dir+"/haproxy.sock", dir, dir+"/generation.sock"
	if len(v.Routes) != f.routes || len(v.Problems) > 0 {
		t.Fatalf("%d routes of %d; %v", len(v.Routes), f.routes, v.Problems)
	}
	f.address = fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[0].Port)
	f.script = filepath.Join(dir, "wrk.lua")
	if err := os.WriteFile(f.script, []byte(f.lua()), 0o600); err != nil {
		t.Fatal(err)
	}
	f.run(t, dir, v)
	f.answersByRoute(t)
}

// run writes the files and starts the proxy until the test ends.
func (f *front) run(t *testing.T, dir string, v render.View) {
	t.Helper()
	layers := map[string][]fs.FS{"haproxy": templates.HAProxy(), "nginx": templates.Nginx()}[f.proxy]
	args := map[string][]string{
		"haproxy": {"-db", "-f", dir + "/haproxy.cfg"},
		"nginx":   {"-g", "daemon off; master_process off;", "-c", dir + "/nginx.conf"},
	}[f.proxy]
	r, err := render.New(layers...)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.Render(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Join(dir, filepath.FromSlash(file.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, bytes.ReplaceAll(file.Data, []byte(render.Generation), []byte("g1")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// taskset becomes the proxy, so that its process is the proxy's.
	cmd := (&lab{b: t, dir: dir}).spawn(testbed.Program(t, "taskset"), append([]string{"-c", "0", testbed.Program(t, f.proxy)}, args...)...)
	f.pid = cmd.Process.Pid
}

// lua makes wrk send requests in turn, for routes far apart, and print what came of them.
func (f *front) lua() string {
	var out strings.Builder
	out.WriteString("local list, n = {\n")
	for i := range f.asked {
		host, path := f.routing.ask(f.routing.word(i * (f.routes / f.asked)))
		fmt.Fprintf(&out, "%q,\n", fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host))
	}
	out.WriteString(`}, 0
function request()
	n = n % #list + 1
	return list[n]
end
function done(s)
	local e = s.errors
	print(string.format("counted %d %d %d", s.requests, s.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
`)
	return out.String()
}

// load asks for a second. It returns the answers a second, and what one cost the proxy in
// microseconds of processor time.
func (f *front) load(t *testing.T) (rate, cost float64) {
	t.Helper()
	before := f.effort(t)
	out, err := exec.CommandContext(t.Context(), testbed.Program(t, "taskset"), "-c", otherProcessors(),
		testbed.Program(t, "wrk"), "-t1", "-c32", "-d1s", "-s", f.script, "http://"+f.address).CombinedOutput()
	spent := f.effort(t) - before
	var requests, micros, failed float64
	_, counted, ok := strings.Cut(string(out), "counted ")
	if ok {
		_, err = fmt.Sscan(counted, &requests, &micros, &failed)
	}
	if err != nil || !ok || requests == 0 || failed > 0 {
		t.Fatalf("wrk at %s with %d routes: %v\n%s", f.proxy, f.routes, err, out)
	}
	return requests / micros * 1e6, spent / requests
}

// effort is the processor time, in microseconds, that the proxy's only thread has had.
func (f *front) effort(t *testing.T) (micros float64) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", f.pid))
	if err == nil {
		_, err = fmt.Sscan(string(data), &micros)
	}
	if err != nil {
		t.Fatal(err)
	}
	return micros / 1000
}

// answersByRoute wants a hundred routes, if there are as many, to be answered by their own
// services.
func (f *front) answersByRoute(t *testing.T) {
	t.Helper()
	for i := 0; i < f.routes; i += max(f.routes/97, 1) {
		host, path := f.routing.ask(f.routing.word(i))
		testbed.Eventually(t, 30*time.Second, fmt.Sprintf("%s answers for %s%s", f.proxy, host, path), func() error {
			by, err := f.answer(t, host, path)
			if err == nil && by != behind(i%f.services) {
				err = fmt.Errorf("%s answered, and not %s", by, behind(i%f.services))
			}
			return err
		})
	}
}

func (f *front) answer(t *testing.T, host, path string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.address+path, nil)
	if err != nil {
		return "", err
	}
	r.Host, r.Close = host, true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// ratio is the median of a's ratios to b's of the same rounds, and all that there were.
func ratio(a, b []float64) string {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = 100 * a[i] / b[i]
	}
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", median(ratios), slices.Min(ratios), slices.Max(ratios))
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
