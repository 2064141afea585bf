//go:build bench

package bench

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/google/renameio/v2"
)

const (
	// storm is how many changes come within stormTime.
	storm     = 500
	stormTime = 10 * time.Second
	// patience is how long a first configuration is waited for.
	patience = time.Minute
)

// TestMeasureFollow follows catalogs of 100, 1,000 and 5,000 services with ten instances each
// (SERVICES), with a live HAProxy and under the limit of connections that Consul has by default:
// what the first configuration takes, CHANGES single changes, and 500 changes within ten seconds.
// Where consul-template is at hand it is measured beside it, also with that limit lifted, which
// it needs.
func TestMeasureFollow(t *testing.T) {
	programs := followers(t)
	var rows [][]string
	for _, services := range sizesOf(t) {
		server := testbed.Consul(t)
		c := newCatalog(t, server.Client, services, 10)
		for _, f := range programs {
			t.Run(fmt.Sprintf("%d/%s", services, f.name), func(t *testing.T) {
				c := *c
				c.b = t
				m := f.measure(t, server, &c)
				rows = append(rows, m.row(services, f.name))
				keep(t, fmt.Sprintf("follow/%d/%s", services, f.name), m)
			})
		}
		server.Stop()
	}
	table("Following a catalog, ten instances for each service", measuredHead, rows)
	draw(t)
}

// sizesOf returns the numbers of services in $SERVICES.
func sizesOf(t testing.TB) (list []int) {
	t.Helper()
	for word := range strings.FieldsSeq(cmp.Or(os.Getenv("SERVICES"), "100 1000 5000")) {
		n, err := strconv.Atoi(word)
		if err != nil {
			t.Fatalf("SERVICES: %v", err)
		}
		list = append(list, n)
	}
	return list
}

// follower is a program that follows a catalog.
type follower struct {
	name   string
	spread bool // lift Consul's limit of connections
	start  func(l *lab, consul string) atWork
}

// atWork is a follower that runs.
type atWork struct {
	program, haproxy int // process ids
	reloads          func() int
	up               func(haproxy int) // HAProxy runs; nil for nobody to be told
}

func followers(t testing.TB) []follower {
	if _, err := programs(); err != nil { // compiling is not measured
		t.Fatal(err)
	}
	all := []follower{{"Fairway", false, followFairway}}
	template := peer("PEER_CONSUL_TEMPLATE", "consul-template")
	if template == "" {
		fmt.Println("\nNo consul-template on PATH or in $PEER_CONSUL_TEMPLATE: measuring Fairway alone.")
		return all
	}
	start := func(l *lab, consul string) atWork { return followTemplate(l, consul, template) }
	return append(all, follower{"consul-template", false, start}, follower{"consul-template, no limit", true, start})
}

// measured is what following a catalog took.
type measured struct {
	First        float64 `json:"first"`       // seconds to the first configuration; 0 for none within patience
	Connections  int64   `json:"connections"` // at once, until then
	Refused      int64   `json:"refused"`     // answers of 429, until then
	Requests     int64   `json:"requests"`    // until then
	CPU          float64 `json:"cpu"`         // seconds, until then
	Memory       float64 `json:"memory"`      // MiB resident, at most, over everything
	ChangeMedian float64 `json:"change_p50"`  // milliseconds
	Change90     float64 `json:"change_p90"`
	StormReloads int     `json:"storm_reloads"`
	StormCPU     float64 `json:"storm_cpu"`         // seconds
	StormHAProxy float64 `json:"storm_haproxy_cpu"` // seconds
	StormLag     float64 `json:"storm_lag"`         // milliseconds from the last change to its answer
	StormAsked   int64   `json:"storm_requests"`
	StormLost    bool    `json:"storm_lost,omitempty"` // the last change never came
}

var measuredHead = []string{
	"services", "program", "first configuration", "connections", "refused", "requests", "CPU", "memory, most",
	"one change, median", "90 %", "500 changes in 10 s: reloads", "CPU", "HAProxy's CPU", "requests",
}

func (m measured) row(services int, name string) []string {
	if m.First == 0 {
		return []string{strconv.Itoa(services), name, "never", strconv.FormatInt(m.Connections, 10), strconv.FormatInt(m.Refused, 10)}
	}
	reloads := strconv.Itoa(m.StormReloads)
	if m.StormLost {
		reloads += ", and the last change never came"
	}
	return []string{
		strconv.Itoa(services), name, fmt.Sprintf("%.2f s", m.First), strconv.FormatInt(m.Connections, 10), strconv.FormatInt(m.Refused, 10),
		strconv.FormatInt(m.Requests, 10), fmt.Sprintf("%.1f s", m.CPU), fmt.Sprintf("%.0f MiB", m.Memory),
		fmt.Sprintf("%.0f ms", m.ChangeMedian), fmt.Sprintf("%.0f ms", m.Change90),
		reloads, fmt.Sprintf("%.1f s", m.StormCPU), fmt.Sprintf("%.1f s", m.StormHAProxy), strconv.FormatInt(m.StormAsked, 10),
	}
}

func (f follower) measure(t testing.TB, server *testbed.ConsulServer, c *catalog) (m measured) {
	l := &lab{b: t, consul: server, dir: shortDir(t), front: fmt.Sprintf("127.0.0.1:%d", testbed.Port(t))}
	w := newWire(t, server.Addr, f.spread)
	began := time.Now()
	run := f.start(l, w.addr)
	config := filepath.Join(l.dir, "haproxy.cfg")
	first := l.appears(config, patience)
	m.Connections, m.Refused, m.Requests = w.most.Load(), w.refused.Load(), w.requests.Load()
	if first.IsZero() {
		return m
	}
	m.First, m.CPU = first.Sub(began).Seconds(), processorTime(t, run.program).Seconds()
	_, atFirst := memory(t, run.program)
	run.haproxy = l.haproxy(config)
	l.host = hostOf(0)
	l.ask(time.Minute, func(by string) bool { return by != "" })
	if run.up != nil {
		run.up(run.haproxy)
	}

	took := l.singleChanges(c)
	_, atChanges := memory(t, run.program)
	m.ChangeMedian, m.Change90 = milliseconds(quantile(took, .5)), milliseconds(quantile(took, .9))

	l.storm(c, w, run, &m)
	_, m.Memory = memory(t, run.program)
	t.Logf("memory, most: %.0f MiB for the first configuration, %.0f after single changes, %.0f at the end", atFirst, atChanges, m.Memory)
	return m
}

// singleChanges adds an instance and takes it away again, again and again, each long enough after
// the last to be one by itself. What is measured ends with the first answer by the new instance.
func (l *lab) singleChanges(c *catalog) []time.Duration {
	var took []time.Duration
	for i := range number(l.b, "CHANGES", 30) {
		s := i * 37 % c.services
		l.host = hostOf(s)
		want := address(s, c.instances)
		began := time.Now()
		c.add(s, c.instances)
		l.ask(time.Minute, func(by string) bool { return by == want })
		took = append(took, time.Since(began))
		time.Sleep(500 * time.Millisecond) // HAProxy 2.6 loses the signal that comes while it reloads
		c.drop(s, c.instances)
		last := time.Now()
		l.ask(time.Minute, func(by string) bool {
			if by == want {
				last = time.Now()
			}
			return time.Since(last) > 500*time.Millisecond
		})
	}
	slices.Sort(took)
	return took
}

// storm adds an instance to one service after the other, and notes what that costs.
func (l *lab) storm(c *catalog, w *wire, run atWork, m *measured) {
	program, haproxy := processorTime(l.b, run.program), processorTime(l.b, run.haproxy)
	requests, reloads := w.requests.Load(), run.reloads()
	tick := time.NewTicker(stormTime / storm)
	defer tick.Stop()
	for i := range storm {
		c.add(i%c.services, c.instances+i/c.services)
		<-tick.C
	}
	last := storm - 1
	l.host = hostOf(last % c.services)
	want := address(last%c.services, c.instances+last/c.services)
	began := time.Now()
	m.StormLost = !l.answers(time.Minute, func(by string) bool { return by == want })
	m.StormLag = milliseconds(time.Since(began))
	if m.StormLost && run.up == nil {
		l.b.Error("the last of many changes never came")
	}
	m.StormReloads, m.StormAsked = run.reloads()-reloads, w.requests.Load()-requests
	m.StormCPU = (processorTime(l.b, run.program) - program).Seconds()
	m.StormHAProxy = (processorTime(l.b, run.haproxy) - haproxy).Seconds()
	for i := range storm {
		c.drop(i%c.services, c.instances+i/c.services)
	}
}

// appears returns when a file was there, or zero when it did not come.
func (l *lab) appears(file string, within time.Duration) time.Time {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return time.Now()
		}
	}
	return time.Time{}
}

// shortDir is a folder whose sockets have short enough names.
func shortDir(b testing.TB) string {
	b.Helper()
	dir, err := os.MkdirTemp("", "fwb")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// haproxy starts HAProxy with a master socket and a pid file in the lab's folder.
func (l *lab) haproxy(config string) (pid int) {
	l.b.Helper()
	cmd := l.spawn(testbed.Program(l.b, "haproxy"), "-W", "-p", filepath.Join(l.dir, "haproxy.pid"),
		"-S", filepath.Join(l.dir, "master.sock")+",mode,600", "-f", config)
	return cmd.Process.Pid
}

func followFairway(l *lab, consul string) atWork { return startConfgen(l, consul) }

// startConfgen starts confgen for the lab's front end.
func startConfgen(l *lab, consul string, args ...string) atWork {
	l.b.Helper()
	bin, err := programs()
	if err != nil {
		l.b.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.front)
	admin := fmt.Sprintf("127.0.0.1:%d", testbed.Port(l.b))
	cmd := l.spawn(filepath.Join(bin, "confgen"), append([]string{
		"--consul-addr", consul, "--dir", l.dir, "--entrypoint", "web=127.0.0.1:" + port, "--http-addr", admin,
	}, args...)...)
	return atWork{program: cmd.Process.Pid, reloads: func() int { return metric(l.b, admin, "fairway_confgen_reloads_total") }}
}

// metric reads one of a program's metrics.
func metric(b testing.TB, admin, name string) int {
	b.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("no metric %s", name)
	return 0
}

// followTemplate is consul-template with a template that asks for as little as it can: the route
// is the host's first label, so that HAProxy needs no list of routes.
func followTemplate(l *lab, consul, template string) atWork {
	_, port, _ := net.SplitHostPort(l.front)
	source, config := filepath.Join(l.dir, "peer.ctmpl"), filepath.Join(l.dir, "haproxy.cfg")
	count := filepath.Join(l.dir, "reloads")
	text := strings.ReplaceAll(manyTemplate, "PORT", port)
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		l.b.Fatal(err)
	}
	if err := os.WriteFile(count, nil, 0o600); err != nil {
		l.b.Fatal(err)
	}
	// Not HAProxy's own pid file, which is empty for a moment in a reload: the next would be lost. It is
	// there once HAProxy runs: before, the signal would end it.
	pid := filepath.Join(l.dir, "master.pid")
	reload := fmt.Sprintf("sh -c 'test ! -e %[1]s || { echo >> %[2]s; kill -USR2 $(cat %[1]s); }'", pid, count)
	cmd := l.spawn(template, "-consul-addr", consul, "-template", source+":"+config+":"+reload)
	up := func(haproxy int) {
		if err := renameio.WriteFile(pid, []byte(strconv.Itoa(haproxy)), 0o600); err != nil {
			l.b.Fatal(err)
		}
	}
	return atWork{program: cmd.Process.Pid, up: up, reloads: func() int {
		data, err := os.ReadFile(count)
		if err != nil {
			l.b.Fatal(err)
		}
		return len(data)
	}}
}

const manyTemplate = peerFront + `    use_backend %[req.hdr(host),field(1,.)]
{{range services}}{{if .Tags | contains "v1"}}backend {{.Name}}
    balance roundrobin
{{range service .Name}}    server {{.ID | replaceAll ":" "_"}} {{.Address}}:{{.Port}}
{{end}}{{end}}{{end}}`
