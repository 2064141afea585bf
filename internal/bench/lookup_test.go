//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
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
	asks           []question
	pid            int

	moments []moment // one for each round
}

// moment is what a slice of the load has shown.
type moment struct {
	rate float64 // requests a second
	cost float64 // microseconds of the proxy's processor time for a request
	busy float64 // part of the time in which the proxy's processor was at it
}

// each is one figure of all moments of a front.
func (f *front) each(figure func(moment) float64) (list []float64) {
	for _, m := range f.moments {
		list = append(list, figure(m))
	}
	return list
}

func rateOf(m moment) float64 { return m.rate }
func costOf(m moment) float64 { return m.cost }
func busyOf(m moment) float64 { return m.busy }

// TestMeasureLookup counts the requests a second that HAProxy and nginx pass on with ten and with
// $ROUTES routes (5,000), in $ROUNDS rounds (100) in which each has a turn of $SLICE (100 ms): a
// machine whose speed changes from one second to the next changes little within a round. Ten of
// 5,000 routes to ten services show what routes cost, ten of 5,000 services what the
// configuration's size does, 5,000 routes to ten services what it is to look up a different one
// each time. With 5,000 services all asked there is something else in it: connections to servers,
// which are fewer to each when there are more of them.
func TestMeasureLookup(t *testing.T) {
	routes, rounds, slice := number(t, "ROUTES", 5000), number(t, "ROUNDS", 100), span(t, "SLICE", 100*time.Millisecond)
	leave(t)
	port := answering(t)
	var rows [][]string
	for _, r := range routings {
		for _, proxy := range []string{"haproxy", "nginx"} {
			t.Run(proxy+" "+r.name, func(t *testing.T) { // which ends its proxies with it
				small := &front{proxy: proxy, routing: r, routes: few, services: few, asked: few}
				large := []*front{
					{proxy: proxy, routing: r, routes: routes, services: few, asked: few},
					{proxy: proxy, routing: r, routes: routes, services: routes, asked: few},
					{proxy: proxy, routing: r, routes: routes, services: few, asked: routes},
					{proxy: proxy, routing: r, routes: routes, services: routes, asked: routes},
				}
				for _, f := range append(large, small) {
					f.start(t, port)
				}
				turns(t, rounds, slice, append(large, small)...)
				for _, f := range large {
					rows = append(rows, f.beside(small))
				}
			})
		}
	}
	table(fmt.Sprintf("Looking up one of many routes (%d rounds of %s)", rounds, slice), []string{
		"", "with", "requests/s with 10", "requests/s", "ratio", "microseconds of its CPU with 10", "microseconds", "requests per second of its CPU, ratio", "its CPU was busy",
	}, rows)
}

// turns has every front asked for a slice in each round, in an order of its own, so that what
// else the machine does falls on all of them alike. The first round warms up.
func turns(t *testing.T, rounds int, slice time.Duration, all ...*front) {
	t.Helper()
	order := slices.Clone(all)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range rounds + 1 {
		random.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, f := range order {
			m, err := f.slice(slice)
			if err != nil {
				t.Fatalf("%s with %d routes to %d services: %v", f.proxy, f.routes, f.services, err)
			}
			if round > 0 {
				f.moments = append(f.moments, m)
			}
		}
	}
}

// beside holds a front against one with fewer routes.
func (f *front) beside(small *front) []string {
	return []string{
		f.proxy + ", " + f.routing.name, fmt.Sprintf("%d routes to %d services, %d asked for", f.routes, f.services, f.asked),
		fmt.Sprintf("%.0f", median(small.each(rateOf))), fmt.Sprintf("%.0f", median(f.each(rateOf))), compared(f.each(rateOf), small.each(rateOf)),
		fmt.Sprintf("%.1f", median(small.each(costOf))), fmt.Sprintf("%.1f", median(f.each(costOf))), compared(small.each(costOf), f.each(costOf)),
		fmt.Sprintf("%.0f %%", 100*median(f.each(busyOf))),
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
	f.asks = f.questions()
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

// questions are what is asked of the front, for routes far apart where only some are, and in an
// order that is none: routes that follow each other in the configuration do so in memory too.
func (f *front) questions() (list []question) {
	for i := range f.asked {
		apart := f.routes / f.asked
		n := i*apart + i%apart // of another service each
		host, path := f.routing.ask(f.routing.word(n))
		list = append(list, question{
			request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host),
			answer:  fmt.Appendf(nil, "\r\n\r\n%s\n", behind(n%f.services)),
		})
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// slice asks for a moment over new connections, after a shorter one in which the proxy and the
// processor's caches get used to it.
func (f *front) slice(d time.Duration) (m moment, err error) {
	a, err := newAsker(f.address, f.asks)
	if err != nil {
		return m, err
	}
	defer a.end()
	if err := a.connect(32); err != nil {
		return m, err
	}
	if _, _, err := a.ask(d / 5); err != nil {
		return m, err
	}
	f.asks = append(f.asks[a.next:], f.asks[:a.next]...) // the next slice goes on from here
	a.questions, a.next = f.asks, 0
	before, err := f.effort()
	if err != nil {
		return m, err
	}
	answers, took, err := a.ask(d)
	if err != nil {
		return m, err
	}
	after, err := f.effort()
	return moment{
		rate: float64(answers) / took.Seconds(),
		cost: (after - before) / float64(answers),
		busy: (after - before) / float64(took.Microseconds()),
	}, err
}

// effort is the processor time, in microseconds, that the proxy's only thread has had.
func (f *front) effort() (micros float64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", f.pid))
	if err == nil {
		_, err = fmt.Sscan(string(data), &micros)
	}
	return micros / 1000, err
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

// compared is the median of some ratios in percent, and between what that of infinitely many is
// in 95 of 100 measurements, whatever the ratios' distribution: ranks around the middle.
func compared(a, b []float64) string {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = 100 * a[i] / b[i]
	}
	slices.Sort(ratios)
	n := float64(len(ratios))
	low := max(int((n-1.96*math.Sqrt(n))/2), 0)
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", median(ratios), ratios[low], ratios[len(ratios)-1-low])
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
