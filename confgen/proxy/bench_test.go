package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/templates"
)

// worker is a stats socket whose servers come from the file that it was started with and change
// by the commands that an Apply sends. A real HAProxy checks no 50,000 servers with the usual
// limit of descriptors, and its own processor time would hide ours.
type worker struct {
	mu          sync.Mutex
	description string
	backends    map[string][]string // id name address state weight port
	asked       map[string]int
}

// startWorker listens in dir and runs what lies there.
func startWorker(t testing.TB, dir string) *worker {
	t.Helper()
	w := &worker{asked: map[string]int{}}
	w.load(t, filepath.Join(dir, "haproxy.cfg"))
	l, err := net.Listen("unix", filepath.Join(dir, "stats.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); done.Wait() })
	return w
}

func (w *worker) load(t testing.TB, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.read(data)
}

func (w *worker) read(data []byte) {
	w.backends = map[string][]string{}
	backend := ""
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		switch {
		case len(f) > 1 && f[0] == "backend":
			backend = f[1]
		case len(f) > 1 && f[0] == "description":
			w.description = strings.Join(f[1:], " ")
		case len(f) > 6 && f[0] == "server" && !strings.HasPrefix(f[2], "unix@"):
			at := netip.MustParseAddrPort(f[2])
			state := "0"
			if slices.Contains(f, "disabled") {
				state = "1"
			}
			w.backends[backend] = append(w.backends[backend], fmt.Sprintf("%s %s %s %s %s %d", f[4], f[1], at.Addr(), state, f[6], at.Port()))
		}
	}
}

func (w *worker) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // A test.
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if _, err := fmt.Fprintf(conn, "%s\n> ", w.answer(lines.Text())); err != nil {
			return
		}
	}
}

func (w *worker) answer(command string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := strings.Fields(command)
	switch {
	case command == "show info":
		w.asked[command]++
		return fmt.Sprintf("Name: HAProxy\nVersion: 2.6.12\nPid: 7\nStopping: 0\ndescription: %s\nStart_time_sec: 5\n", w.description)
	case strings.HasPrefix(command, "show servers state"):
		w.asked[command]++
		only := ""
		if len(f) > 3 {
			only = f[3]
		}
		return w.state(only)
	case strings.HasPrefix(command, "set server ") && f[3] == "state":
		backend, name, _ := strings.Cut(f[2], "/")
		for i, s := range w.backends[backend] {
			if words := strings.Fields(s); words[1] == name {
				words[3] = map[string]string{"ready": "0", "maint": "1"}[f[4]]
				w.backends[backend][i] = strings.Join(words, " ")
			}
		}
	case strings.HasPrefix(command, "set server "), strings.HasPrefix(command, "add server "), strings.HasPrefix(command, "del server "):
		return "[3]: the stub only knows states"
	}
	return ""
}

func (w *worker) state(only string) string {
	var b strings.Builder
	b.WriteString("1\n# be_name srv_id srv_name srv_addr srv_admin_state srv_uweight srv_port\n")
	for name, servers := range w.backends {
		for _, s := range servers {
			if only == "" || only == name {
				b.WriteString(name + " " + s + "\n")
			}
		}
	}
	return b.String()
}

// large renders a catalog with the default templates, and changes the state of one server at a time.
type large struct {
	snapshot route.Snapshot
	renderer *render.Renderer
	settings render.Settings
	routing  route.Settings
}

func newLarge(t testing.TB, services, instances int, dir string) *large {
	t.Helper()
	r, err := render.New(templates.HAProxy()...)
	if err != nil {
		t.Fatal(err)
	}
	l := &large{snapshot: routetest.Large(services, instances), renderer: r, settings: render.DefaultSettings()}
	l.settings.Dir, l.settings.StatsSocket = dir, filepath.Join(dir, "stats.sock")
	return l
}

// files changes one server and renders everything.
func (l *large) files(t testing.TB, change int) []render.File {
	t.Helper()
	s := &l.snapshot.Services[change*37%len(l.snapshot.Services)]
	s.Instances = slices.Clone(s.Instances)
	if s.Instances[0].Status == route.Passing && change > 0 {
		s.Instances[0].Status = route.Critical
	} else {
		s.Instances[0].Status = route.Passing
	}
	files, err := l.renderer.Render(render.View{Table: route.Build(l.snapshot, l.routing), Settings: l.settings})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// applied commits, runs the stub on it and has it confirmed.
func (l *large) applied(t testing.TB, dir string) (*Target, *worker) {
	t.Helper()
	target, err := NewHAProxy(Options{Dir: dir, Main: "haproxy.cfg", Wake: func() {}}, HAProxy{StatsSocket: l.settings.StatsSocket, Signal: noSignal{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	if _, err := target.Apply(t.Context(), l.files(t, 0)); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("apply: %v, expected ErrNotRunning", err)
	}
	w := startWorker(t, dir)
	if res, err := target.Apply(t.Context(), l.files(t, 0)); err != nil || res.Action != None {
		t.Fatalf("%+v %v, expected nothing to do", res, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.asked)
	return target, w
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// BenchmarkApply applies one changed server among many: real files, a stub of a socket. Rendering
// is not part of it. Figures: processor time and time an Apply takes, and what the target keeps.
func BenchmarkApply(b *testing.B) {
	for _, size := range []struct{ services, instances int }{{1, 3}, {1000, 10}, {5000, 10}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.instances), func(b *testing.B) {
			dir, err := os.MkdirTemp("", "fw")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = os.RemoveAll(dir) })
			l := newLarge(b, size.services, size.instances, dir)
			l.files(b, 0)
			target, _ := l.applied(b, dir)
			var spent time.Duration
			var took []time.Duration
			change := 0
			for b.Loop() {
				b.StopTimer()
				change++
				files := l.files(b, change)
				runtime.GC() // What rendering left behind is not ours.
				b.StartTimer()
				began := cpu(b)
				res, err := target.Apply(b.Context(), files)
				spent += cpu(b) - began
				took = append(took, res.Elapsed)
				if err != nil || res.Action != Runtime || res.Commands != 1 {
					b.Fatalf("%+v %v, expected one command", res, err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(spent.Microseconds())/1000/float64(len(took)), "cpu-ms/op")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			kept := heap()
			runtime.KeepAlive(target)
			if err := target.Close(); err != nil {
				b.Fatal(err)
			}
			*target = Target{background: newBackground()}
			b.ReportMetric(max(kept-heap(), 0), "kept-MiB")
		})
	}
}

// noSignal is a way to reload that must not be taken.
type noSignal struct{}

func (noSignal) Signal(context.Context, syscall.Signal) error {
	return errors.New("no reload was expected")
}
