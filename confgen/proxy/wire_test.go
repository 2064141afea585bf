package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/internal/reconcile"
)

// fakeHAProxy answers on both sockets as a HAProxy does whose servers only change between ready and
// maintenance, and can be told to
// fail in ways that a real one only has on a bad day, or in versions that are not at hand.
type fakeHAProxy struct {
	dir    string
	stop   func()
	worker *worker // that runs now, if it is one with servers

	mu      sync.Mutex
	pid     int
	running string // description
	asked   int    // reloads that were asked for
	failed  int
	old     int
	newer   bool   // 2.7 and newer: the reload is answered
	lose    int    // so many reloads do nothing
	busy    int    // so many reloads are refused, since another is under way: 3.1 and newer
	loads   bool   // the first worker still loads, and the master answers: 3.1 and newer
	broken  string // a configuration with this does not load
	mute    string // commands with this get no answer
	held    bool   // reloads begin, and come to their end when they are released
	begun   []byte // what one that is held has read
}

func newFakeHAProxy(t *testing.T) *fakeHAProxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeHAProxy{dir: dir, pid: 100, worker: &worker{}}
	var done sync.WaitGroup
	var listeners []net.Listener
	for name, prompt := range map[string]string{"stats.sock": "", "master.sock": "master"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		done.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				done.Go(func() { f.serve(conn, prompt) })
			}
		})
	}
	f.stop = sync.OnceFunc(func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	})
	t.Cleanup(func() {
		f.stop()
		done.Wait()
		_ = os.RemoveAll(dir)
	})
	return f
}

func (f *fakeHAProxy) serve(conn net.Conn, prompt string) {
	defer conn.Close() //nolint:errcheck // A test.
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		command := lines.Text()
		if command == "reload" {
			_, _ = conn.Write([]byte(f.reload()))
			return
		}
		answer, ok := f.answer(command)
		if !ok {
			continue
		}
		if _, err := fmt.Fprintf(conn, "%s\n%s> ", answer, prompt); err != nil {
			return
		}
	}
}

var description = regexp.MustCompile(`description (.*)`)

func (f *fakeHAProxy) reload() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy > 0 {
		f.busy--
		return "Success=0\n--\nAnother reload is still in progress.\n"
	}
	f.asked++
	if f.lose > 0 {
		f.lose--
		return ""
	}
	data, err := os.ReadFile(filepath.Join(f.dir, "haproxy.cfg"))
	if f.held {
		if f.begun == nil {
			f.begun = data
		}
		return ""
	}
	return f.load(data, err)
}

// release ends the reload that is held: with what it read when it began, or with what is there now.
func (f *fakeHAProxy) release(early bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := f.begun, error(nil)
	if !early {
		data, err = os.ReadFile(filepath.Join(f.dir, "haproxy.cfg"))
	}
	f.held, f.begun = false, nil
	f.load(data, err)
}

func (f *fakeHAProxy) load(data []byte, err error) string {
	if err != nil || f.broken != "" && strings.Contains(string(data), f.broken) {
		if f.newer {
			return "Success=0\n--\n[ALERT] (1) : config : " + f.broken + "\n"
		}
		f.failed++
		return ""
	}
	f.failed = 0
	f.pid++
	if m := description.FindStringSubmatch(string(data)); m != nil {
		f.running = m[1]
	}
	f.worker = &worker{asked: map[string]int{}}
	f.worker.read(data)
	if f.newer {
		return "Success=1\n--\n"
	}
	return ""
}

func (f *fakeHAProxy) answer(command string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mute != "" && strings.Contains(command, f.mute) {
		return "", false
	}
	switch {
	case command == "show proc":
		old := ""
		for i := range f.old {
			old += fmt.Sprintf("%d worker 1 0d00h00m39s 2.6.12\n", 10+i)
		}
		return fmt.Sprintf("#<PID> <type> <reloads> <uptime> <version>\n1 master %d [failed: %d] 0d00h00m53s 2.6.12\n# workers\n%d worker 0 0d00h00m39s 2.6.12\n# old workers\n%s# programs\n", f.asked, f.failed, f.pid, old), true
	case f.loads && strings.HasPrefix(command, "@1"):
		return "Can't find the target PID matching the prefix '@1'", true
	case strings.HasSuffix(command, "show info"):
		return fmt.Sprintf("Name: HAProxy\nVersion: 2.6.12\nPid: %d\nStopping: 0\ndescription: %s\nStart_time_sec: %d\n", f.pid, f.running, f.pid), true
	case strings.HasPrefix(command, "show servers state"), strings.HasPrefix(command, "set server"):
		return f.worker.answer(command), true
	case strings.HasPrefix(command, "add server"):
		return "[3]: 'x' option is not accepted for dynamic server", true
	}
	return "", true
}

func (f *fakeHAProxy) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeHAProxy) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *fakeHAProxy) target(t *testing.T, change ...func(*Options, *HAProxy)) *Target {
	t.Helper()
	opt := Options{Dir: f.dir, Main: "haproxy.cfg", ReloadInterval: time.Millisecond, ReloadTimeout: 5 * time.Second}
	h := HAProxy{StatsSocket: f.dir + "/stats.sock", MasterSocket: f.dir + "/master.sock"}
	for _, c := range change {
		c(&opt, &h)
	}
	target, err := NewHAProxy(opt, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

func marked(text string) []render.File {
	return []render.File{file("haproxy.cfg", "global\n  description "+render.Generation+"\n"+text)}
}

func TestWire_F26_verdicts(t *testing.T) {
	t.Parallel()
	for _, newer := range []bool{false, true} {
		t.Run(map[bool]string{false: "2.6", true: "2.7 and newer"}[newer], func(t *testing.T) {
			f := newFakeHAProxy(t)
			f.newer, f.broken = newer, "boom"
			target := f.target(t)
			res, err := target.Apply(t.Context(), marked("# one\nfrontend a\n"))
			if err != nil || res.Reloads != 1 || res.Action != Reload {
				t.Fatalf("%+v %v, expected one reload", res, err)
			}
			before := read(t, f.dir+"/haproxy.cfg")
			for try, reloads := range []int{1, 0} {
				res, err = target.Apply(t.Context(), marked("frontend boom\n"))
				var rejected *RejectedError
				if !errors.As(err, &rejected) || rejected.By != "reload" || res.Reloads != reloads {
					t.Errorf("try %d: %+v %v, expected a rejection after %d reloads", try, res, err, reloads)
				}
				if newer && !strings.Contains(err.Error(), "[ALERT]") {
					t.Errorf("try %d: %v, expected haproxy's words", try, err)
				}
				if now := read(t, f.dir+"/haproxy.cfg"); now != before {
					t.Errorf("try %d: not restored: %q", try, now)
				}
			}
			if res, err := target.Apply(t.Context(), marked("frontend b\n")); err != nil || res.Reloads != 1 {
				t.Errorf("%+v %v, expected one reload", res, err)
			}
		})
	}
}

// A reload that another one is in the way of has no verdict: nothing is rejected for it.
func TestWire_F26_anotherReloadIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	f.newer, f.busy = true, 3
	res, err := f.target(t).Apply(t.Context(), marked("frontend a\n"))
	if err != nil || res.Reloads != 1 || f.count() != 1 {
		t.Errorf("%+v %v, %d reloads, expected one", res, err, f.count())
	}
}

// A worker that loads while its master answers does not hang: it is waited for, not replaced.
func TestWire_F52_firstWorkerLoads(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	f.loads = true
	if err := os.Remove(f.dir + "/stats.sock"); err != nil {
		t.Fatal(err)
	}
	target := f.target(t)
	for range 3 {
		if res, err := target.Apply(t.Context(), marked("frontend a\n")); !errors.Is(err, ErrNotRunning) || res.Reloads != 0 || f.count() != 0 {
			t.Fatalf("%+v %v, expected ErrNotRunning and no reload", res, err)
		}
	}
}

func TestWire_F26_lostSignalIsSentAgain(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	f.lose = 1
	began := time.Now()
	res, err := f.target(t).Apply(t.Context(), marked("frontend a\n"))
	if err != nil || res.Reloads != 2 {
		t.Errorf("%+v %v, expected a second try", res, err)
	}
	if took := time.Since(began); took < resend || took > resend+2*time.Second {
		t.Errorf("took %s, expected about %s", took, resend)
	}
}

func TestWire_F26_timeout(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	f.lose = 100
	_, err := f.target(t, func(o *Options, _ *HAProxy) { o.ReloadTimeout = 2 * time.Second }).Apply(t.Context(), marked("frontend a\n"))
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !strings.Contains(rejected.Output, "no new worker") {
		t.Errorf("%v, expected a rejection that says what is missing", err)
	}
	if _, err := os.Stat(f.dir + "/haproxy.cfg"); err == nil {
		t.Error("there was no file before, so none may stay")
	}
}

// F52: whatever the stats socket does, a change arrives by a reload at last, and is not repeated.
func TestWire_F52_fallsBackToReload(t *testing.T) {
	t.Parallel()
	for name, mute := range map[string]string{"info hangs": "show info", "state hangs": "show servers", "refused": "nothing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeHAProxy(t)
			target := f.target(t, func(o *Options, h *HAProxy) { o.ReloadTimeout, h.Timeout = 3*time.Second, 500*time.Millisecond })
			if _, err := target.Apply(t.Context(), marked("backend a\n")); err != nil {
				t.Fatal(err)
			}
			before := f.count()
			f.set(func() { f.mute = mute })
			changed := marked("backend a\n  server s 10.0.0.1:80\n")
			var err error
			for range 4 {
				if _, err = target.Apply(t.Context(), changed); err == nil {
					break
				}
				t.Logf("apply: %v", err)
			}
			if name == "info hangs" {
				// Not even the reload can be confirmed: the old file returns, nothing is repeated.
				if _, ok := errors.AsType[*RejectedError](err); !ok {
					t.Errorf("%v, expected a rejection", err)
				}
				return
			}
			if err != nil {
				t.Errorf("%v, expected a reload at last", err)
			}
			if n := f.count() - before; n != 1 {
				t.Errorf("%d reloads, expected one", n)
			}
			for range 3 {
				if res, err := target.Apply(t.Context(), changed); err != nil || res.Reloads != 0 {
					t.Errorf("%+v %v: nothing changed, expected no reload", res, err)
				}
			}
		})
	}
}

// F53: above the bound of old workers a reload waits, and says so.
func TestWire_F53_oldWorkers(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	woken := make(chan struct{}, 1)
	target := f.target(t, func(o *Options, h *HAProxy) {
		h.OldWorkers = 3
		o.Wake = func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	})
	f.set(func() { f.old = 3 })
	res, err := target.Apply(t.Context(), marked("frontend a\n"))
	if err != nil || res.Reloads != 0 || !strings.Contains(res.Deferred, "3 old workers") {
		t.Errorf("%+v %v, expected to wait for old workers", res, err)
	}
	f.set(func() { f.old = 2 })
	select {
	case <-woken:
	case <-time.After(5 * time.Second):
		t.Fatal("nobody was woken")
	}
	if res, err := target.Apply(t.Context(), marked("frontend a\n")); err != nil || res.Reloads != 1 || res.Deferred != "" {
		t.Errorf("%+v %v, expected one reload", res, err)
	}
}

// F38, F39: the first structural change goes at once, then at most one an interval, and the
// newest wins.
func TestWire_F38_F39_pace(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	woken := make(chan struct{}, 1)
	const interval = 300 * time.Millisecond
	target := f.target(t, func(o *Options, _ *HAProxy) {
		o.ReloadInterval = interval
		o.Wake = func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	})
	// With an interval that no test waits for, the first goes and the second is put off.
	slow := newFakeHAProxy(t).target(t, func(o *Options, _ *HAProxy) { o.ReloadInterval, o.Wake = time.Hour, func() {} })
	for i, reloads := range []int{1, 0} {
		res, err := slow.Apply(t.Context(), marked(fmt.Sprintf("frontend f%d\n", i)))
		if err != nil || res.Reloads != reloads || (res.Deferred == "") != (reloads == 1) {
			t.Errorf("F39: change %d: %+v %v, expected %d reloads", i, res, err, reloads)
		}
	}
	began := time.Now()
	last, deferred := Result{}, 0
	for i := range 60 {
		res, err := target.Apply(t.Context(), marked(fmt.Sprintf("frontend f%d\n", i)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && res.Reloads != 1 {
			t.Errorf("F39: %+v, expected a reload at once", res)
		}
		if res.Deferred != "" {
			deferred++
		}
		last = res
		_ = reconcile.Sleep(t.Context(), 10*time.Millisecond)
	}
	for last.Deferred != "" {
		<-woken
		var err error
		if last, err = target.Apply(t.Context(), marked("frontend f59\n")); err != nil {
			t.Fatal(err)
		}
	}
	if most := 2 + int(time.Since(began)/interval); f.count() > most || deferred < 60-most {
		t.Errorf("F38: %d reloads and %d put off in %s, expected at most %d", f.count(), deferred, time.Since(began), most)
	}
	if !strings.Contains(read(t, f.dir+"/haproxy.cfg"), "frontend f59\n") {
		t.Error("F38: the newest state did not win")
	}
}

// A change that was applied without a check, and that the checker then refuses, leaves the disk.
func TestWire_F24_lateCheck(t *testing.T) {
	t.Parallel()
	f := newFakeHAProxy(t)
	woken := make(chan struct{}, 1)
	target := f.target(t, func(o *Options, _ *HAProxy) {
		o.Check = Check{Command: []string{"/bin/sh", "-c", `echo checked; ! grep -q sour "$1"`, "check", "{{file}}"}}
		o.Wake = func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		}
	})
	sweet, sour := marked("frontend a\n# sweet\n"), marked("frontend a\n# sour\n")
	for res := (Result{Deferred: "not begun"}); res.Deferred != ""; <-woken {
		var err error
		if res, err = target.Apply(t.Context(), sweet); err != nil {
			t.Fatal(err)
		}
		if res.Deferred == "" {
			break
		}
	}
	before := read(t, f.dir+"/haproxy.cfg")
	if res, err := target.Apply(t.Context(), sour); err != nil || res.Reloads != 0 || len(res.Written) != 1 {
		t.Errorf("%+v %v, expected the file to be written without a reload", res, err)
	}
	select {
	case <-woken:
	case <-time.After(10 * time.Second):
		t.Fatal("the late check did not report")
	}
	for range 2 {
		res, err := target.Apply(t.Context(), sour)
		var rejected *RejectedError
		if !errors.As(err, &rejected) || !strings.Contains(rejected.Output, "checked") || res.Reloads != 0 {
			t.Errorf("%+v %v, expected a rejection by the checker", res, err)
		}
		if now := read(t, f.dir+"/haproxy.cfg"); now != before {
			t.Errorf("disk holds %q, expected what passed last", now)
		}
	}
	if _, err := target.Apply(t.Context(), marked("frontend a\n# sweeter\n")); err != nil {
		t.Errorf("another file: %v", err)
	}
}
