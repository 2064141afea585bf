package proxy

import (
	"os"
	"testing"
	"time"
)

// newLoading is a target with a reload on its way from structure one to two.
func newLoading(t *testing.T, change ...func(*Options, *HAProxy)) *slow {
	t.Helper()
	s := newSlow(t, change...)
	s.let(true)
	s.f.set(func() { s.f.held = true })
	asked := s.f.count()
	s.settleUntilLoading("two")
	for deadline := time.Now().Add(20 * time.Second); s.f.count() == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asked for a reload")
		}
	}
	return s
}

// drainMeanwhile takes the server out while the reload is on its way.
func (s *slow) drainMeanwhile() {
	s.t.Helper()
	before := s.f.instance()
	s.state = "disabled"
	if res := s.apply("two"); res.Action != Runtime || res.Deferred == "" || len(res.Written) != 1 {
		s.t.Errorf("%+v, expected the server to be changed at once", res)
	}
	if s.f.instance() != before {
		s.t.Fatal("the reload has ended, so this proves nothing")
	}
	s.serves("1", "two")
}

func (f *fakeHAProxy) instance() (pid int) {
	f.set(func() { pid = f.pid })
	return pid
}

// open reports whether a structural change is under way, as the disk says.
func (s *slow) open() bool {
	_, err := os.Stat(s.f.dir + "/" + stateDir + "/journal.json")
	return err == nil
}

// Whenever the next worker reads the file, it serves what is wanted in the end.
func TestLoading_F40_serversDoNotWaitForTheReload(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"read before": true, "read after": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoading(t)
			s.drainMeanwhile()
			before := s.f.instance()
			s.f.release(early)
			s.wait()
			res := s.apply("two")
			if res.Action != Reload || res.Reloads < 1 || res.Deferred != "" || s.f.instance() != before+1 {
				t.Errorf("%+v, expected one reload", res)
			}
			if (res.Commands > 0) != early {
				t.Errorf("%+v: what the worker read before the change has to be mended, and only that", res)
			}
			s.serves("1", "two")
			if res := s.apply("two"); res.Action != None || s.open() {
				t.Errorf("%+v, journal open: %t; expected an end", res, s.open())
			}
			l := &s.target.late
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.next == nil {
				t.Error("what was loaded is not, to the letter, what was checked, and nobody checks it")
			}
		})
	}
}

// What the checker has not seen is not put in front of HAProxy while it loads.
func TestLoading_F24_onlyWhatWasChecked(t *testing.T) {
	t.Parallel()
	s := newLoading(t)
	files := s.files("two")
	files[0].Data = append(files[0].Data, "  server t 10.0.0.2:80 id 8 weight 1 sour\n"...)
	if res, err := s.target.Apply(t.Context(), files); err != nil || res.Deferred == "" || len(res.Written) > 0 {
		t.Errorf("%+v %v, expected nothing to be written", res, err)
	}
	s.serves("0", "two")
	s.f.release(false)
	s.wait()
	if n := s.settle("two"); n != 1 {
		t.Errorf("%d reloads", n)
	}
}

// Where the worker that serves is not known, cannot be told from the next one or cannot be changed,
// and where files are not replaced as a whole, a reload is waited for.
func TestLoading_F40_onlyWhereItHelps(t *testing.T) {
	t.Parallel()
	s := newSlow(t)
	one := *s.target.loaded
	two := one
	two.generation = "two"
	for name, c := range map[string]struct {
		change func(p *pass, base *tree)
		want   bool
	}{
		"as ever":             {func(*pass, *tree) {}, true},
		"another instance":    {func(p *pass, _ *tree) { p.status.instance = "other" }, false},
		"the same generation": {func(p *pass, _ *tree) { p.want.generation = one.generation }, false},
		"no generation":       {func(p *pass, _ *tree) { p.want.marked = false }, false},
		"none before":         {func(_ *pass, base *tree) { base.marked = false }, false},
		"after a crash":       {func(p *pass, _ *tree) { p.atOnce = true }, false},
		"written in place":    {func(p *pass, _ *tree) { p.opt.InPlace = true }, false},
		"nobody comes back":   {func(p *pass, _ *tree) { p.opt.Wake = nil }, false},
		"no stats socket":     {func(p *pass, _ *tree) { p.driver.(*haproxyDriver).mute = os.ErrNotExist }, false},
	} {
		opt, mute := s.target.opt, s.target.driver.(*haproxyDriver).mute
		base := one
		p := &pass{Target: s.target, want: two, status: status{instance: s.target.instance}}
		c.change(p, &base)
		if got := p.loadsBeside(base); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		s.target.opt, s.target.driver.(*haproxyDriver).mute = opt, mute
	}
}

// Another structure waits for the reload that is on its way, and is not forgotten.
func TestLoading_F40_theNextStructureFollows(t *testing.T) {
	t.Parallel()
	s := newLoading(t)
	s.state = "disabled"
	if res := s.apply("three"); res.Action != Runtime || res.Deferred == "" {
		t.Errorf("%+v, expected the server alone to be changed", res)
	}
	s.serves("1", "two")
	s.f.release(false)
	s.wait()
	if n := s.settle("three"); n < 2 {
		t.Errorf("%d reloads, expected two", n)
	}
	s.serves("1", "three")
}

// A reload that is refused, or never confirmed, is taken back, and the servers stay as they are now.
func TestLoading_F26_refused(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*slow){
		"refused": func(s *slow) {
			s.f.set(func() { s.f.broken = "frontend two" })
			s.f.release(false)
		},
		"not confirmed": func(*slow) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoading(t, func(o *Options, _ *HAProxy) { o.ReloadTimeout = resend - 500*time.Millisecond })
			s.drainMeanwhile()
			fail(s)
			s.wait()
			if _, rejected := s.refused("two"); rejected.By != "reload" {
				t.Errorf("%+v, expected the reload to refuse", rejected)
			}
			s.serves("1", "one")
			if s.open() {
				t.Error("the journal is still open")
			}
			asked := s.f.count()
			s.state = ""
			if _, rejected := s.refused("two"); rejected.By != "reload" || s.f.count() != asked {
				t.Errorf("%+v, %d reloads; expected that it is not tried again", rejected, s.f.count()-asked)
			}
			s.serves("0", "one")
		})
	}
}

// F27: confgen ends in the middle of a reload, after servers were changed in it.
func TestLoading_F27_ended(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		loaded  bool   // HAProxy comes to the end of its reload
		want    string // by the time confgen is back
		reloads int
	}{
		"finished, it was loaded":     {true, "two", 0},
		"finished, it was not loaded": {false, "two", 1},
		"undone, it was loaded":       {true, "one", 1},
		"undone, it was not loaded":   {false, "one", 1}, // who asked is gone, and it may load yet
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newLoading(t)
			s.drainMeanwhile()
			if err := s.target.Close(); err != nil {
				t.Fatal(err)
			}
			if !s.open() {
				t.Fatal("the journal was closed before the reload was confirmed")
			}
			if c.loaded {
				s.f.release(true)
			}
			s.f.set(func() { s.f.held, s.f.begun = false, nil })
			before := s.f.instance()
			s.takeOver()
			s.serves(map[bool]string{true: "0", false: "1"}[c.loaded], "two", "disabled")
			if res := s.apply(c.want); res.Deferred != "" {
				t.Errorf("%+v", res)
			}
			if n := s.f.instance() - before; n != c.reloads {
				t.Errorf("%d reloads, expected %d", n, c.reloads)
			}
			s.serves("1", c.want)
			if s.open() {
				t.Error("the journal is still open")
			}
		})
	}
}

// Where nothing can be applied, since a template is broken, a reload that is on its way comes to its
// end all the same.
func TestLoading_F41_attended(t *testing.T) {
	t.Parallel()
	s := newLoading(t)
	s.drainMeanwhile()
	if res, err := s.target.Attend(t.Context()); err != nil || res.Action != None || !s.open() {
		t.Errorf("%+v %v, journal open: %t; expected that it is still on its way", res, err, s.open())
	}
	s.f.release(true)
	s.wait()
	if res, err := s.target.Attend(t.Context()); err != nil || res.Action != Reload || res.Deferred == "" || s.open() {
		t.Errorf("%+v %v, journal open: %t; expected an end, and that more may be wanted", res, err, s.open())
	}
	s.serves("1", "two")
	if res, err := s.target.Attend(t.Context()); err != nil || res.Action != None {
		t.Errorf("%+v %v, expected nothing to do", res, err)
	}
	s.f.set(func() { s.f.held, s.f.broken = true, "frontend three" })
	s.settleUntilLoading("three")
	s.state = ""
	if res := s.apply("three"); res.Action != Runtime {
		t.Errorf("%+v, expected the server to be changed at once", res)
	}
	s.f.release(false)
	s.wait()
	if _, err := s.target.Attend(t.Context()); err == nil || s.open() {
		t.Errorf("%v, journal open: %t; expected a refusal", err, s.open())
	}
	s.serves("0", "two") // as the catalog was when it could be read last
}

// settleUntilLoading applies until a reload is on its way.
func (s *slow) settleUntilLoading(frontend string) {
	s.t.Helper()
	for s.apply(frontend); s.target.loading == nil; s.apply(frontend) {
		s.wait()
	}
}

// F42, F43: a reload that ends in time is confirmed before the folder is given free.
func TestLoading_F43_closed(t *testing.T) {
	t.Parallel()
	s := newLoading(t)
	s.f.release(false)
	if err := s.target.Close(); err != nil {
		t.Error(err)
	}
	s.serves("0", "two")
	if s.open() {
		t.Error("the journal is still open")
	}
}
