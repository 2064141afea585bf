//go:build bench

package bench

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/load"
	"fairway/internal/testbed"
)

const (
	churnServices = 4  // that are asked for all the time
	churnMost     = 8  // instances of each
	churnFewest   = 2  // that pass, of each
	structural    = 50 // every so many changes one is of another kind than servers
	churnSettle   = 30 * time.Second
	// churnDrain is how long an instance that was taken out still takes requests. Docker gives
	// containers ten seconds.
	churnDrain = 2 * time.Second
)

// TestMeasureChurn changes a catalog CHANGES times (1,000) within CHURN (30s), at random moments, with
// a real HAProxy, then a real nginx, under three kinds of load of RATE short requests a second (600)
// in all: clients that keep their connections, clients that open one for each request, and clients
// that wait for long answers. Servers come and go in the orderly manner, their weights and checks
// change, and every fiftieth change is structural. It fails when a request fails that must not, and
// when file, proxy and catalog differ in the end. SEED makes another sequence.
func TestMeasureChurn(t *testing.T) {
	if _, err := programs(); err != nil { // compiling is not measured
		t.Fatal(err)
	}
	results := map[string]churnResult{}
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			results[kind] = newChurn(t, kind).measure()
			keep(t, "churn/"+kind, results[kind])
		})
	}
	var rows [][]string
	for i, name := range churnHead {
		row := []string{name}
		for _, kind := range []string{"haproxy", "nginx"} {
			row = append(row, results[kind].column()[i])
		}
		rows = append(rows, row)
	}
	table("Random changes under three kinds of load", []string{"", "HAProxy", "nginx"}, rows)
	draw(t)
}

// churn is a catalog that changes under load.
type churn struct {
	t      testing.TB
	l      *lab
	random *rand.Rand
	run    atWork
	watch  *watcher

	services []*churnService // under load
	guests   []*churnService // that came by a structural change
	leaving  []*app          // out of traffic, to be taken from the catalog once they have ended
	apps     int             // made so far
	kinds    int             // structural changes made so far
	runs     map[string][]*load.Run
}

// churnService is a service and its instances in the catalog, those that are leaving left out.
type churnService struct {
	name    string
	timeout string            // of its servers, from a label
	labels  map[string]string // further ones
	apps    []*app
}

func newChurn(t testing.TB, kind string) *churn {
	server := testbed.Consul(t)
	l := &lab{b: t, consul: server, dir: shortDir(t), front: fmt.Sprintf("127.0.0.1:%d", testbed.Port(t))}
	seed := number(t, "SEED", 1)
	c := &churn{t: t, l: l, random: rand.New(rand.NewPCG(uint64(seed), 0)), runs: map[string][]*load.Run{}}
	for i := range churnServices {
		s := &churnService{name: fmt.Sprintf("svc-%d", i)}
		c.services = append(c.services, s)
		for range 4 {
			c.write(s, c.newApp(s))
		}
	}
	c.run = startConfgen(l, server.Addr, "--proxy", kind)
	c.watch = newWatcher(t, kind, l.dir)
	if l.appears(c.watch.file, patience).IsZero() {
		t.Fatalf("no %s within %s", c.watch.file, patience)
	}
	if kind == "haproxy" {
		c.run.haproxy = l.haproxy(c.watch.file)
	} else {
		c.run.haproxy = l.nginx(c.watch.file)
	}
	for _, s := range c.services {
		l.host = s.name + ".test"
		l.ask(time.Minute, func(by string) bool { return by == s.name })
	}
	return c
}

// nginx starts nginx with what confgen wrote.
func (l *lab) nginx(config string) (pid int) {
	l.b.Helper()
	if err := os.Chmod(l.dir, 0o755); err != nil { //nolint:gosec // Its workers are nobody's, and have to reach the sockets in it.
		l.b.Fatal(err)
	}
	return l.spawn(testbed.Program(l.b, "nginx"), "-g", "daemon off;", "-c", config).Process.Pid
}

// measure makes the changes and tells what came of them.
func (c *churn) measure() churnResult {
	c.t.Helper()
	changes, length := number(c.t, "CHANGES", 1000), span(c.t, "CHURN", 30*time.Second)
	c.load()
	testbed.Eventually(c.t, churnSettle, "file, proxy and catalog agree before the first change", c.agree)
	stop := c.watch.start()
	defer stop()
	reloads, confgen, proxy := c.run.reloads(), processorTime(c.t, c.run.program), processorTime(c.t, c.run.haproxy)

	moments := make([]time.Duration, changes)
	for i := range moments {
		moments[i] = time.Duration(c.random.Int64N(int64(length)))
	}
	slices.Sort(moments)
	began := time.Now()
	for i, at := range moments {
		time.Sleep(time.Until(began.Add(at)))
		c.change((i+1)%structural == 0)
	}
	took := time.Since(began)
	r := churnResult{Changes: changes, Structural: c.kinds, Seconds: took.Seconds()}
	testbed.Eventually(c.t, churnSettle, "every change is live", c.watch.done)
	testbed.Eventually(c.t, churnSettle, "file, proxy and catalog agree", c.agree)
	r.Reloads = c.run.reloads() - reloads
	r.CPU = (processorTime(c.t, c.run.program) - confgen).Seconds()
	r.ProxyCPU = (processorTime(c.t, c.run.haproxy) - proxy).Seconds()
	c.rest(&r)
	loading := c.loading()
	if c.watch.kind == "nginx" { // what came live beside none only takes back what never was
		loading = []window{{until: time.Now()}}
	}
	r.live(c.watch.lived, loading)
	return r
}

// The kinds of load.
const (
	kept   = "keep their connections"
	single = "open one for each request"
	long   = "wait for long answers"
)

var loads = []string{kept, single, long}

// load starts the clients, some of each kind for each service.
func (c *churn) load() {
	c.t.Helper()
	rate := float64(number(c.t, "RATE", 600)) / 2 / churnServices
	for _, s := range c.services {
		for kind, list := range map[string][]load.Options{
			kept:   {{Path: "/", KeepAlive: 4, Rate: rate}},
			single: {{Path: "/", NewConn: 4, Rate: rate}},
			long:   {{Path: "/slow", KeepAlive: 2, NewConn: 2}, {Path: "/download", KeepAlive: 2, NewConn: 2}},
		} {
			for _, opt := range list {
				opt.Address, opt.Host = c.l.front, s.name+".test"
				run, err := load.Start(c.t.Context(), opt)
				if err != nil {
					c.t.Fatal(err)
				}
				c.runs[kind+" "+s.name] = append(c.runs[kind+" "+s.name], run)
			}
		}
	}
}

// rest ends the load and counts. Nothing may fail on HAProxy. nginx closes idle connections in a
// reload before 1.27.4, and clients that keep theirs may lose a request by that, but no others.
func (c *churn) rest(r *churnResult) {
	c.t.Helper()
	r.Clients = map[string]churnClients{}
	for _, kind := range loads {
		sum := churnClients{Sorts: map[string]int64{}}
		for _, s := range c.services {
			for _, run := range c.runs[kind+" "+s.name] {
				c.count(&sum, s, run.Stop())
			}
		}
		if sum.Requests == 0 {
			c.t.Errorf("clients that %s have asked nothing", kind)
		}
		r.Clients[kind] = sum
	}
}

func (c *churn) count(sum *churnClients, s *churnService, report load.Report) {
	c.t.Helper()
	sum.Requests += report.Requests
	sum.Failed += report.Failed
	for sort, n := range report.Errors {
		sum.Sorts[string(sort)] += n
	}
	for status, n := range report.Status {
		if status >= 400 {
			sum.Sorts[fmt.Sprint(status)] += n
		}
	}
	for by := range report.Servers {
		if by != s.name && by != "" { // an error page is counted above
			c.t.Errorf("%s answered for %s", by, s.name)
		}
	}
	for _, f := range report.Failures {
		c.t.Logf("%s: %+v", s.name, f)
	}
	bad := report.Failed
	if c.watch.kind == "nginx" {
		bad = report.Clients[load.NewConnection].Failed
	}
	if bad > 0 {
		c.t.Errorf("%d requests of %d for %s failed that must not", bad, report.Requests, s.name)
	}
}

// churnResult is what a run gave. Times are milliseconds where nothing else is said.
type churnResult struct {
	Changes    int                     `json:"changes"`
	Structural int                     `json:"structural"`
	Seconds    float64                 `json:"seconds"`
	Reloads    int                     `json:"reloads"`
	Clients    map[string]churnClients `json:"clients"`
	CPU        float64                 `json:"cpu"`       // confgen's, seconds
	ProxyCPU   float64                 `json:"proxy_cpu"` // seconds
	Servers    []float64               `json:"servers"`   // 0 %, 1 % … 100 % of the changes of servers
	Undelayed  []float64               `json:"undelayed"` // of those that no reload was made beside
	Measured   int                     `json:"measured"`  // of Servers
	Unmet      int                     `json:"unmet"`     // of Undelayed
	Structures []float64               `json:"structures"`
}

// churnClients are the requests of one kind of client.
type churnClients struct {
	Requests int64            `json:"requests"`
	Failed   int64            `json:"failed"`
	Sorts    map[string]int64 `json:"sorts"` // the failed ones, by what happened
}

var churnHead = []string{
	"changes, and structural ones among them", "reloads",
	"failed requests of clients that " + kept, "… that " + single, "… that " + long,
	"change of a server live: median", "99 %", "most",
	"… that no reload was made beside: median", "99 %", "most",
	"structural change live: median", "most", "CPU of confgen", "CPU of the proxy",
}

func (r churnResult) column() []string {
	if r.Changes == 0 {
		return make([]string, len(churnHead))
	}
	list := []string{fmt.Sprintf("%d, %d in %.1f s", r.Changes, r.Structural, r.Seconds), fmt.Sprint(r.Reloads)}
	for _, kind := range loads {
		c := r.Clients[kind]
		text := fmt.Sprintf("%d of %d", c.Failed, c.Requests)
		for _, sort := range slices.Sorted(maps.Keys(c.Sorts)) {
			text += fmt.Sprintf(", %d %s", c.Sorts[sort], sort)
		}
		list = append(list, text)
	}
	for i, q := range []float64{r.Servers[50], r.Servers[99], r.Servers[100], r.Undelayed[50], r.Undelayed[99], r.Undelayed[100], r.Structures[50], r.Structures[100]} {
		text := fmt.Sprintf("%.1f ms", q)
		switch {
		case i == 0:
			text += fmt.Sprintf(" (of %d)", r.Measured)
		case i == 3 && r.Unmet > 0:
			text += fmt.Sprintf(" (of %d)", r.Unmet)
		case i >= 3 && i <= 5 && r.Unmet == 0:
			text = "–"
		}
		list = append(list, text)
	}
	return append(list, fmt.Sprintf("%.1f s", r.CPU), fmt.Sprintf("%.1f s", r.ProxyCPU))
}

// window is a time in which confgen loaded files, from checking them to the proxy confirming them.
type window struct{ from, until time.Time }

// loading reads confgen's log.
func (c *churn) loading() (list []window) {
	c.t.Helper()
	logs, err := filepath.Glob(filepath.Join(c.l.dir, "confgen-*.log"))
	if err != nil || len(logs) != 1 {
		c.t.Fatalf("confgen's logs: %v, %v", logs, err)
	}
	text, err := os.ReadFile(logs[0])
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, " action=reload ") {
			continue
		}
		at, _, _ := strings.Cut(line, " ")
		until, err := time.Parse(time.RFC3339, at)
		_, elapsed, _ := strings.Cut(strings.TrimSpace(line), "elapsed=")
		took, tookErr := time.ParseDuration(elapsed)
		if err := errors.Join(err, tookErr); err != nil {
			c.t.Fatalf("%q: %v", line, err)
		}
		list = append(list, window{until.Add(-took), until})
	}
	return list
}

// live takes in how long changes took until they were live.
func (r *churnResult) live(list []lived, loading []window) {
	var servers, undelayed, structures []time.Duration
	for _, l := range list {
		took := l.until.Sub(l.from)
		meets := func(w window) bool { return w.from.Before(l.until) && l.from.Before(w.until) }
		switch {
		case l.structural:
			structures = append(structures, took)
		case !slices.ContainsFunc(loading, meets):
			undelayed = append(undelayed, took)
			fallthrough
		default:
			servers = append(servers, took)
		}
	}
	r.Servers, r.Undelayed, r.Structures = percents(servers), percents(undelayed), percents(structures)
	r.Measured, r.Unmet = len(servers), len(undelayed)
}

// percents are the quantiles from 0 to 100 %, in milliseconds.
func percents(list []time.Duration) []float64 {
	out := make([]float64, 101)
	slices.Sort(list)
	for i := range out {
		if len(list) > 0 {
			out[i] = float64(quantile(list, float64(i)/100).Round(time.Microsecond)) / float64(time.Millisecond)
		}
	}
	return out
}
