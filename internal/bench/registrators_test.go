//go:build bench

package bench

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// contender is one registrator that is measured.
type contender struct {
	name string
	args func(l *lab, consul string) (program string, args []string)
}

// contenders are Fairway's registrator and, where $PEER_REGISTRATOR or PATH has it,
// gliderlabs/registrator. resync adds it a second time with the periodic comparison that Fairway's
// always makes.
func contenders(t testing.TB, resync bool) []contender {
	all := []contender{{"fairway", func(l *lab, consul string) (string, []string) {
		bin, err := programs()
		if err != nil {
			l.b.Fatal(err)
		}
		return filepath.Join(bin, "registrator"), []string{
			"--consul-addr", consul, "--node-name", "bench-node", "--ip", l.engine.Address, "--http-addr", "off",
		}
	}}}
	path := peer("PEER_REGISTRATOR", "registrator")
	if path == "" {
		fmt.Println("\nNo gliderlabs/registrator on PATH or in $PEER_REGISTRATOR: measuring Fairway alone.")
		return all
	}
	theirs := func(extra ...string) func(*lab, string) (string, []string) {
		return func(l *lab, consul string) (string, []string) {
			return path, append(append([]string{"-ip", l.engine.Address}, extra...), "consul://"+consul)
		}
	}
	all = append(all, contender{"gliderlabs", theirs()})
	if resync {
		all = append(all, contender{"gliderlabs -resync 60", theirs("-resync", "60")})
	}
	return all
}

// counter is a way to Consul that counts what passes.
type counter struct {
	addr                  string
	requests, puts, beats atomic.Int64
}

func newCounter(t testing.TB, consul string) *counter {
	c := &counter{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: consul})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	proxy.Transport = transport
	proxy.ErrorLog = log.New(io.Discard, "", 0) // a blocking query that is given up at the end
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		switch {
		case strings.HasPrefix(r.URL.Path, "/v1/session/renew/"): // no raft write
			c.beats.Add(1)
		case r.Method != http.MethodGet:
			c.puts.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close(); transport.CloseIdleConnections() })
	c.addr = server.Listener.Addr().String()
	return c
}

// usage is what a process has cost so far.
type usage struct {
	cpu       time.Duration
	rss, peak int // KiB
}

func usageOf(t testing.TB, pid int) usage {
	t.Helper()
	var u usage
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, field := range fields[11:13] { // utime and stime, in ticks of 10 ms
		ticks, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		for key, to := range map[string]*int{"VmRSS:": &u.rss, "VmHWM:": &u.peak} {
			if rest, found := strings.CutPrefix(line, key); found {
				if _, err := fmt.Sscan(rest, to); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return u
}

// table prints what was measured as a table of a document, ready to be pasted.
func table(title string, head []string, rows [][]string) {
	fmt.Printf("\n### %s\n\n| %s |\n|%s\n", title, strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, row := range rows {
		fmt.Printf("| %s |\n", strings.Join(row, " | "))
	}
	fmt.Println()
}

// number reads a number from the environment.
func number(t testing.TB, name string, fallback int) int {
	t.Helper()
	s := os.Getenv(name)
	n, err := strconv.Atoi(cmp.Or(s, strconv.Itoa(fallback)))
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: write a number from 1 on", name, s)
	}
	return n
}

// span reads a duration from the environment.
func span(t testing.TB, name string, fallback time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv(name)
	d, err := time.ParseDuration(cmp.Or(s, fallback.String()))
	if err != nil || d <= 0 {
		t.Fatalf("%s=%q: write a duration such as 10m", name, s)
	}
	return d
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", milliseconds(d)) }

func mib(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// pauseImage imports an image called pause, which does nothing and needs next to no memory.
func (l *lab) pauseImage() {
	l.b.Helper()
	l.engine.Import("pause", testbed.Program(l.b, "busybox"), `CMD ["/busybox","sleep","1000000"]`, "EXPOSE 8080")
}
