package load

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Client is a kind of worker.
type Client string

// The kinds of worker.
const (
	KeepAlive     Client = "keep-alive"
	NewConnection Client = "new-connection"
)

// Kind is a kind of failure without a complete answer.
type Kind string

// The kinds of failure.
const (
	Refused     Kind = "refused"      // nobody listens
	Reset       Kind = "reset"        // the connection was broken off
	EOF         Kind = "eof"          // the connection was closed before any byte of the answer
	Cut         Kind = "cut"          // the connection was closed in the middle of the answer
	Timeout     Kind = "timeout"      // no connection or no answer in time
	Unreachable Kind = "unreachable"  // no route to the address
	Malformed   Kind = "malformed"    // what came is not HTTP
	NoPort      Kind = "no-free-port" // our own side ran out of ports: lower the rate
	Other       Kind = "other"
)

// maxFailures bounds the failures that a Report describes one by one.
const maxFailures = 20

// Report is what a run counted. Times are milliseconds.
type Report struct {
	ElapsedMS float64 `json:"elapsed_ms"`
	Requests  int64   `json:"requests"`
	// Failed counts the requests without a complete answer and those answered
	// with a status of 400 or more.
	Failed int64 `json:"failed"`

	Status  map[int]int64     `json:"status"`  // complete answers by status
	Errors  map[Kind]int64    `json:"errors"`  // the other requests by what went wrong
	Servers map[string]int64  `json:"servers"` // complete answers by who gave them; "" where the answer does not say
	Clients map[Client]Counts `json:"clients"` // requests by kind of worker

	Connections int64 `json:"connections"` // opened
	// IdleClosed counts the kept connections that the server had closed between
	// two requests. The next request went over a new one; none was lost.
	IdleClosed int64 `json:"idle_closed"`

	Latency  Latency   `json:"latency_ms"`         // of complete answers
	Failures []Failure `json:"failures,omitempty"` // the first of them, one by one
}

// Counts are the requests of one kind of worker.
type Counts struct {
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
}

// Latency says how long complete answers took, in milliseconds. Quantiles are
// right to two per cent, the maximum is exact.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Failure describes one failed request.
type Failure struct {
	AtMS   float64 `json:"at_ms"` // when it was begun, since the start of the run
	TookMS float64 `json:"took_ms"`
	Client Client  `json:"client"`
	Kind   Kind    `json:"kind,omitempty"`
	Status int     `json:"status,omitempty"`
	Server string  `json:"server,omitempty"`
	Detail string  `json:"detail,omitempty"`
}

// tally collects results.
type tally struct {
	mu      sync.Mutex
	began   time.Time
	ended   time.Time // of the last result
	counted Report
	times   histogram
}

func (t *tally) begin(now time.Time) {
	t.began, t.ended = now, now
	t.counted = Report{
		Status: map[int]int64{}, Errors: map[Kind]int64{}, Servers: map[string]int64{}, Clients: map[Client]Counts{},
	}
}

func (t *tally) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &t.counted
	c.Requests++
	if r.dialled {
		c.Connections++
	}
	if r.idleClosed {
		c.IdleClosed++
	}
	if r.kind == "" {
		c.Status[r.status]++
		c.Servers[r.server]++
		t.times.add(r.took)
	} else {
		c.Errors[r.kind]++
	}
	counts := c.Clients[r.client]
	counts.Requests++
	if r.failed() {
		counts.Failed++
		c.Failed++
		t.describe(r)
	}
	c.Clients[r.client] = counts
	if end := r.began.Add(r.took); end.After(t.ended) {
		t.ended = end
	}
}

// describe keeps the particulars of a failure while there is room.
func (t *tally) describe(r result) {
	if len(t.counted.Failures) == maxFailures {
		return
	}
	f := Failure{
		AtMS: milliseconds(r.began.Sub(t.began)), TookMS: milliseconds(r.took),
		Client: r.client, Kind: r.kind, Status: r.status, Server: r.server,
	}
	if r.err != nil {
		f.Detail = r.err.Error()
	}
	t.counted.Failures = append(t.counted.Failures, f)
}

func (t *tally) requests() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counted.Requests
}

// report copies what was counted by a run that is over. Its time ends with its last answer.
func (t *tally) report() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counted
	c.ElapsedMS = milliseconds(t.ended.Sub(t.began))
	c.Status, c.Errors = maps.Clone(c.Status), maps.Clone(c.Errors)
	c.Servers, c.Clients = maps.Clone(c.Servers), maps.Clone(c.Clients)
	c.Failures = slices.Clone(c.Failures)
	c.Latency = t.times.latency()
	return c
}

// histogram counts durations in buckets, each two per cent wider than the last.
type histogram struct {
	buckets [1800]int64
	count   int64
	max     time.Duration
}

var growth = math.Log(1.02)

func (h *histogram) add(d time.Duration) {
	h.count++
	h.max = max(h.max, d)
	bucket := int(math.Log(float64(max(d, 1))) / growth)
	h.buckets[min(bucket, len(h.buckets)-1)]++
}

// quantile is the upper end of the bucket below which the share q of all lies.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.count)))
	var seen int64
	for bucket, n := range h.buckets {
		if seen += n; n > 0 && seen >= rank {
			return min(time.Duration(math.Exp(float64(bucket+1)*growth)), h.max)
		}
	}
	return 0
}

func (h *histogram) latency() Latency {
	return Latency{
		P50: milliseconds(h.quantile(.50)), P90: milliseconds(h.quantile(.90)),
		P99: milliseconds(h.quantile(.99)), Max: milliseconds(h.max),
	}
}

// milliseconds rounds to microseconds, which is as fine as anybody reads.
func milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// WriteText prints the report for a person.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	rate := 0.0
	if r.ElapsedMS > 0 {
		rate = float64(r.Requests) / r.ElapsedMS * 1000
	}
	fmt.Fprintf(&b, "requests   %d in %.1f s (%.0f/s), failed %d\n", r.Requests, r.ElapsedMS/1000, rate, r.Failed)
	for _, client := range slices.Sorted(maps.Keys(r.Clients)) {
		c := r.Clients[client]
		fmt.Fprintf(&b, "           %s: %d, failed %d\n", client, c.Requests, c.Failed)
	}
	fmt.Fprintf(&b, "latency    p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms\n",
		r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max)
	fmt.Fprintf(&b, "opened     %d connections, %d closed by the server while idle\n", r.Connections, r.IdleClosed)
	counts(&b, "status    ", r.Status)
	counts(&b, "errors    ", r.Errors)
	servers := maps.Clone(r.Servers)
	if n, ok := servers[""]; ok {
		delete(servers, "")
		servers["(unnamed)"] = n
	}
	counts(&b, "served by ", servers)
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  failed at %.0f ms after %.1f ms, %s: ", f.AtMS, f.TookMS, f.Client)
		if f.Kind == "" {
			fmt.Fprintf(&b, "status %d %s\n", f.Status, f.Server)
		} else {
			fmt.Fprintf(&b, "%s: %s\n", f.Kind, f.Detail)
		}
	}
	if more := r.Failed - int64(len(r.Failures)); more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// counts prints one line per key, in the order of the keys.
func counts[K int | string | Kind](b *strings.Builder, title string, m map[K]int64) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(b, "%s %v: %d\n", title, key, m[key])
		title = "          "
	}
}
