package proxy

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"
)

// slow is a target whose checker ends when it is let go. It refuses what has "sour" in it.
type slow struct {
	t      *testing.T
	f      *fakeHAProxy
	target *Target
	wakes  chan struct{}
	state  string // of the one server
}

func newSlow(t *testing.T, change ...func(*Options, *HAProxy)) *slow {
	t.Helper()
	s := &slow{t: t, f: newFakeHAProxy(t), wakes: make(chan struct{}, 1)}
	script := `cp "$1" "$2/.begun.tmp$$"; echo $$ >"$2/.pid"; mv "$2/.begun.tmp$$" "$2/begun-$$"
while ! [ -e "$2/go" ]; do sleep 0.02; done
echo ended >>"$2/ended"; echo checked; ! grep -q sour "$1"`
	s.target = s.f.target(t, append([]func(*Options, *HAProxy){func(o *Options, _ *HAProxy) {
		o.ReloadInterval = time.Nanosecond // Only the checker puts anything off.
		o.Check = Check{Command: []string{"/bin/sh", "-c", script, "check", "{{file}}", s.f.dir}}
		o.Wake = func() {
			select {
			case s.wakes <- struct{}{}:
			default:
			}
		}
	}}, change...)...)
	s.let(true)
	s.settle("one")
	s.let(false)
	return s
}

// let has the checker end, or not.
func (s *slow) let(end bool) {
	s.t.Helper()
	var err error
	if name := s.f.dir + "/go"; end {
		err = os.WriteFile(name, nil, 0o600)
	} else {
		err = os.Remove(name)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *slow) files(frontend string) []render.File {
	return marked("frontend " + frontend + "\nbackend a\n  server s 10.0.0.1:80 id 7 weight 1 " + s.state + "\n")
}

// apply applies once and expects that nobody refuses anything.
func (s *slow) apply(frontend string) Result {
	s.t.Helper()
	res, err := s.target.Apply(s.t.Context(), s.files(frontend))
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

// refused applies once and expects a refusal.
func (s *slow) refused(frontend string) (Result, *RejectedError) {
	s.t.Helper()
	res, err := s.target.Apply(s.t.Context(), s.files(frontend))
	rejected, is := errors.AsType[*RejectedError](err)
	if !is || res.Deferred != "" {
		s.t.Fatalf("%s: %+v %v, expected a refusal", frontend, res, err)
	}
	return res, rejected
}

// wait waits to be woken.
func (s *slow) wait() {
	s.t.Helper()
	select {
	case <-s.wakes:
	case <-time.After(20 * time.Second):
		s.t.Fatal("nobody was woken")
	}
}

// settle applies until nothing is put off, and returns how many reloads that took. What was refused
// before stands until then.
func (s *slow) settle(frontend string) (reloads int) {
	s.t.Helper()
	for {
		res, err := s.target.Apply(s.t.Context(), s.files(frontend))
		if _, is := errors.AsType[*RejectedError](err); err != nil && (!is || res.Deferred == "") {
			s.t.Fatal(err)
		}
		reloads += res.Reloads
		if res.Deferred == "" {
			return reloads
		}
		s.wait()
	}
}

// drain takes the server out, in front of an open check, and expects that it is out at once.
func (s *slow) drain(frontend, runs string) {
	s.t.Helper()
	before := s.ended()
	s.state = "disabled"
	if res := s.apply(frontend); res.Action != Runtime || res.Reloads != 0 || res.Deferred == "" {
		s.t.Errorf("%+v, expected a runtime command while the reload waits", res)
	}
	if s.ended() != before {
		s.t.Fatal("the checker has ended, so this proves nothing")
	}
	s.serves("1", runs)
}

// serves expects a server's state in the proxy and on disk, and a structure there.
func (s *slow) serves(state, runs string, onDisk ...string) {
	s.t.Helper()
	s.f.set(func() {
		if now := s.f.worker.backends["a"]; len(now) != 1 || strings.Fields(now[0])[3] != state {
			s.t.Errorf("servers %q, expected state %s", now, state)
		}
	})
	main := read(s.t, s.f.dir+"/haproxy.cfg")
	if !strings.Contains(main, "frontend "+runs+"\n") || strings.Contains(main, "disabled") != (state == "1" || len(onDisk) > 0) {
		s.t.Errorf("disk holds %s, expected frontend %s and a server in state %s", main, runs, state)
	}
}

// begun returns the files that checkers were started with, each once it has read them.
func (s *slow) begun(atLeast int) []string {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		names, err := filepath.Glob(s.f.dir + "/begun-*")
		if err != nil {
			s.t.Fatal(err)
		}
		if len(names) >= atLeast || time.Now().After(deadline) {
			return names
		}
	}
}

func (s *slow) ended() int {
	data, _ := os.ReadFile(s.f.dir + "/ended")
	return strings.Count(string(data), "ended")
}

// takeOver locks the folder for a new target, of no Wake and without a checker.
func (s *slow) takeOver() {
	s.t.Helper()
	s.target = s.f.target(s.t)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := s.target.Lock()
		if err == nil {
			return
		}
		// A program that another test starts has the lock's descriptor until it executes itself.
		if !errors.Is(err, ErrLocked) || time.Now().After(deadline) {
			s.t.Fatal(err)
		}
	}
}

func TestBeside_F24_serversDoNotWaitForTheChecker(t *testing.T) {
	t.Parallel()
	s := newSlow(t)
	before := s.ended()
	if res := s.apply("two"); res.Deferred == "" || res.Reloads != 0 {
		t.Errorf("%+v, expected to come back when the checker has ended", res)
	}
	s.drain("two", "one")
	s.let(true)
	s.wait()
	if n := s.settle("two"); n != 1 {
		t.Errorf("%d reloads", n)
	}
	s.serves("1", "two")
	if n := s.ended() - before; n != 1 {
		t.Errorf("%d checks, expected one: a server more or less needs none", n)
	}
	// What was loaded is not, to the letter, what was checked.
	l := &s.target.late
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil || !strings.Contains(string(l.next.want.text("haproxy.cfg").bytes()), "disabled") || l.good == nil || strings.Contains(string(l.good.text("haproxy.cfg").bytes()), "disabled") {
		t.Errorf("next %v, good %v: expected a late check of what was loaded, and to go back to what was checked", l.next, l.good)
	}
}

func TestBeside_F24_refusal(t *testing.T) {
	t.Parallel()
	for name, drained := range map[string]bool{"of what is wanted": false, "of what was wanted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSlow(t)
			before := s.ended()
			if res := s.apply("sour"); res.Deferred == "" {
				t.Errorf("%+v, expected to come back when the checker has ended", res)
			}
			state, checks := "0", 1
			if drained {
				s.drain("sour", "one")
				state, checks = "1", 2 // whom it blames is looked for in the newest
			}
			s.let(true)
			s.wait()
			for range 2 { // The second time it is known.
				if _, rejected := s.refused("sour"); rejected.By != ByCheck || rejected.Output != "checked" {
					t.Errorf("%+v, expected the checker's words", rejected)
				}
				s.serves(state, "one")
			}
			if n := s.ended() - before; n != checks {
				t.Errorf("%d checks, expected %d", n, checks)
			}
			s.state = map[string]string{"": "disabled", "disabled": ""}[s.state]
			state = map[string]string{"0": "1", "1": "0"}[state]
			if res, err := s.target.Apply(t.Context(), s.files("sour")); res.Deferred == "" || err == nil {
				t.Errorf("%+v %v, expected other bytes to be looked at again, and that the refusal stands meanwhile", res, err)
			}
			if n := s.settle("sweet"); n != 1 {
				t.Errorf("%d reloads for something better", n)
			}
			s.serves(state, "sweet")
		})
	}
}

// What changes while it is checked is checked again; what changes again is loaded as it was when it
// was checked, with the servers of now, and then follows.
func TestBeside_F38_overtaken(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"three", "four"} {
		t.Run("and then "+then, func(t *testing.T) {
			t.Parallel()
			overtake(t, then)
		})
	}
}

func overtake(t *testing.T, then string) {
	t.Helper()
	s := newSlow(t)
	s.apply("two")
	first := s.begun(2)
	s.apply("three")
	all := s.begun(3)
	if len(all) != 3 {
		t.Fatalf("%d checks begun, expected that of the newest", len(all)-1)
	}
	for _, name := range first {
		pid, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the checker of what nobody wants any more goes on")
			}
		}
	}
	s.drain("four", "one")
	if n := len(s.begun(3)); n != 3 {
		t.Errorf("%d checks begun: a structure that never rests is never loaded", n-1)
	}
	s.let(true)
	s.wait()
	s.apply("four")
	s.wait()
	s.let(false)
	if res := s.apply(then); res.Reloads != 1 || (res.Deferred == "") != (then == "three") {
		t.Errorf("%+v, expected the reload of what was checked, and the newest to follow", res)
	}
	s.serves("1", "three")
	s.let(true)
	if n := s.settle("four"); n != 1 {
		t.Errorf("%d reloads", n)
	}
	s.serves("1", "four")
}

// A refusal of what nobody wants any more refuses nothing.
func TestBeside_F24_overtakenRefusal(t *testing.T) {
	t.Parallel()
	s := newSlow(t)
	s.apply("two")
	s.begun(2)
	s.apply("sour")
	s.begun(3)
	s.apply("four")
	s.let(true)
	s.wait()
	if n := s.settle("four"); n != 1 {
		t.Errorf("%d reloads, expected the newest to be checked and loaded", n)
	}
	s.serves("0", "four")
}

// A verdict is on servers whichever there are, and not on what else may be wrong.
func TestBeside_F24_aVerdictCoversOnlyWhatItSaw(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]render.File) []render.File{
		"map": func(files []render.File) []render.File { files[1].Data = []byte("a sour\n"); return files },
		"option of a server": func(files []render.File) []render.File {
			files[0].Data = append(files[0].Data, "  server t 10.0.0.2:80 id 8 weight 1 sour\n"...)
			return files
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSlow(t)
			files := func() []render.File { return append(s.files("two"), file("a.map", "a sweet\n")) }
			if res, err := s.target.Apply(t.Context(), files()); err != nil || res.Deferred == "" {
				t.Fatalf("%+v %v", res, err)
			}
			s.begun(2)
			s.let(true)
			s.wait()
			s.let(false)
			for range 2 { // It is checked beside as well.
				if res, err := s.target.Apply(t.Context(), change(files())); err != nil || res.Reloads != 0 || res.Deferred == "" {
					t.Errorf("%+v %v, expected another check", res, err)
				}
			}
			if n := len(s.begun(3)); n != 3 {
				t.Errorf("%d checks begun", n-1)
			}
		})
	}
}

// F25: a checker that hangs keeps nobody but what it should look at.
func TestBeside_F25_hangs(t *testing.T) {
	t.Parallel()
	s := newSlow(t, func(o *Options, _ *HAProxy) { o.Check.Timeout = 3 * time.Second })
	s.apply("two")
	s.drain("two", "one")
	s.wait()
	if _, rejected := s.refused("two"); !rejected.Hung {
		t.Errorf("%+v, expected no verdict", rejected)
	}
	s.state = ""
	if res, err := s.target.Apply(t.Context(), s.files("three")); res.Action != Runtime || res.Deferred == "" || err == nil {
		t.Errorf("%+v %v, expected a runtime command, and that the checker still stands in the way", res, err)
	}
	s.serves("0", "one")
	s.let(true)
	if n := s.settle("three"); n != 1 { // Other bytes are looked at again.
		t.Errorf("%d reloads", n)
	}
	s.serves("0", "three")
}

func TestBeside_F43_closedDuringACheck(t *testing.T) {
	t.Parallel()
	s := newSlow(t)
	s.apply("two")
	s.begun(2)
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, s.f.dir+"/.pid")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.target.Close(); err != nil {
		t.Error(err)
	}
	if syscall.Kill(pid, 0) == nil {
		t.Error("the checker outlives its target")
	}
	select {
	case <-s.wakes:
		t.Error("somebody was woken for a target that is closed")
	default:
	}
	if left, _ := filepath.Glob(s.f.dir + "/" + stateDir + "/stage*"); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
	// Who is killed leaves stages, which the next one clears away.
	if err := os.MkdirAll(s.f.dir+"/"+stateDir+"/stage-9/maps", 0o700); err != nil {
		t.Fatal(err)
	}
	s.takeOver()
	if left, _ := filepath.Glob(s.f.dir + "/" + stateDir + "/stage*"); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
}

// Where nothing can be changed meanwhile, or nobody would come back, the checker is waited for.
func TestBeside_F24_onlyWhereItHelps(t *testing.T) {
	t.Parallel()
	opt := Options{Dir: t.TempDir(), Main: "main", Check: Check{Command: []string{"true"}}, Wake: func() {}}
	haproxy := func(opt Options, stats string) (*Target, error) {
		return NewHAProxy(opt, HAProxy{StatsSocket: stats, MasterSocket: "/nowhere"})
	}
	unwoken, unchecked := opt, opt
	unwoken.Wake, unchecked.Check = nil, Check{}
	for name, c := range map[string]struct {
		target func() (*Target, error)
		change func(*pass)
		want   bool
	}{
		"haproxy":                     {func() (*Target, error) { return haproxy(opt, "/stats") }, nil, true},
		"nobody comes back":           {func() (*Target, error) { return haproxy(unwoken, "/stats") }, nil, false},
		"no checker":                  {func() (*Target, error) { return haproxy(unchecked, "/stats") }, nil, false},
		"no stats socket":             {func() (*Target, error) { return haproxy(opt, "") }, nil, false},
		"the stats socket is no good": {func() (*Target, error) { return haproxy(opt, "/stats") }, func(p *pass) { p.driver.(*haproxyDriver).mute = errors.New("gone") }, false},
		"after a crash":               {func() (*Target, error) { return haproxy(opt, "/stats") }, func(p *pass) { p.atOnce = true }, false},
		"nginx":                       {func() (*Target, error) { return NewNginx(opt, Nginx{Signal: Process{File: "/nowhere"}}) }, nil, false},
	} {
		target, err := c.target()
		if err != nil {
			t.Fatal(err)
		}
		p := &pass{Target: target}
		if c.change != nil {
			c.change(p)
		}
		if got := p.checksBeside(); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		if err := target.Close(); err != nil {
			t.Error(err)
		}
		if p.checksBeside() {
			t.Errorf("%s: a closed target checks beside", name)
		}
	}
}
