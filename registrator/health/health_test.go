package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"fairway/registrator/service"
)

// answers is an Exec whose exit codes the test says, by command.
type answers struct {
	mu    sync.Mutex
	codes map[string]int
	calls map[string][]time.Time
	takes time.Duration
	now   int // running
	most  int // ever at the same time
}

func (a *answers) exec(ctx context.Context, _, command string, _ []string) (int, string, error) {
	a.mu.Lock()
	a.calls[command] = append(a.calls[command], time.Now())
	a.now++
	a.most = max(a.most, a.now)
	code, takes := a.codes[command], a.takes
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.now--
		a.mu.Unlock()
	}()
	select {
	case <-time.After(takes):
		return code, "said\n" + command + "\n", nil
	case <-ctx.Done():
		return 0, "", ctx.Err()
	}
}

// ran is how many times a command was run.
func (a *answers) ran(command string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.calls[command])
}

// running is how many commands run now.
func (a *answers) running() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *answers) answer(command string, code int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.codes[command] = code
}

// bench is a runner whose clock is the test's, and the row it checks.
type bench struct {
	*Runner
	*answers
	changed atomic.Int32
}

func newBench(t *testing.T) *bench {
	b := &bench{answers: &answers{codes: map[string]int{}, calls: map[string][]time.Time{}}}
	b.Runner = New(Options{Exec: b.exec, Changed: func() { b.changed.Add(1) }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

// row is a registration with one check, which runs its own name.
func row(name string, change ...func(*service.Check)) service.Registration {
	k := service.Check{
		Kind: service.Script, Interval: 10 * time.Second, Timeout: 3 * time.Second, Status: service.Critical, Output: service.Unchecked,
		Local: service.Local{Command: name, Container: "c", SuccessBeforePassing: 1, FailuresBeforeWarning: 1, FailuresBeforeCritical: 1},
	}
	for _, do := range change {
		do(&k)
	}
	return service.Registration{
		ID: name, Name: name, Address: "192.0.2.1", Port: 80, Status: service.Passing, Checks: []service.Check{k},
		Meta: map[string]string{service.Owner: "0123456789ab:80/tcp"},
	}
}

func plan(rows ...service.Registration) service.Plan { return service.Plan{Registrations: rows} }

// is fills a plan of one row and compares its check's status.
func (b *bench) is(t *testing.T, r service.Registration, want service.Status) {
	t.Helper()
	synctest.Wait()
	p, _ := b.Fill(plan(r), nil, time.Now())
	if got := p.Registrations[0].Checks[0]; got.Status != want {
		t.Errorf("at %s: %s (%s), want %s", time.Now().Format("05.000"), got.Status, got.Output, want)
	}
}

func TestRunner_C64_firstVerdictAtOnceThenEveryInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		r := row("a")
		b.is(t, r, service.Critical)
		b.is(t, r, service.Passing)
		<-time.After(95 * time.Second)
		synctest.Wait()
		if n := b.ran("a"); n != 10 && n != 11 {
			t.Errorf("ran %d times in 95 s", n)
		}
		if n := b.changed.Load(); n != 1 {
			t.Errorf("told of %d changes", n)
		}
		b.answer("a", 2)
		<-time.After(10 * time.Second)
		b.is(t, r, service.Critical)
		b.answer("a", 1)
		<-time.After(10 * time.Second)
		b.is(t, r, service.Warning)
		if n := b.changed.Load(); n != 3 {
			t.Errorf("told of %d changes", n)
		}
	})
}

func TestRunner_thresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		r := row("a", func(k *service.Check) {
			k.SuccessBeforePassing, k.FailuresBeforeWarning, k.FailuresBeforeCritical = 2, 2, 3
		})
		b.is(t, r, service.Critical)
		b.is(t, r, service.Critical) // one success is not enough
		<-time.After(20 * time.Second)
		b.is(t, r, service.Passing)
		calls := b.ran("a")
		b.answer("a", 5)
		var seen []service.Status
		for b.ran("a") < calls+3 {
			<-time.After(time.Second)
			synctest.Wait()
			p, _ := b.Fill(plan(r), nil, time.Now())
			if s := p.Registrations[0].Checks[0].Status; len(seen) == 0 || seen[len(seen)-1] != s {
				seen = append(seen, s)
			}
		}
		if want := []service.Status{service.Passing, service.Warning, service.Critical}; !slices.Equal(seen, want) {
			t.Errorf("went through %v, want %v", seen, want)
		}
	})
}

func TestRunner_isSpreadAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.takes = time.Second
		var rows []service.Registration
		for i := range 300 {
			rows = append(rows, row(fmt.Sprintf("r%d", i)))
		}
		b.Fill(plan(rows...), nil, time.Now())
		<-time.After(20 * time.Second)
		b.answers.mu.Lock()
		if b.most != parallel {
			t.Errorf("%d at the same time, want %d when all begin at once", b.most, parallel)
		}
		b.takes = 10 * time.Millisecond
		b.answers.mu.Unlock()
		<-time.After(5 * time.Second)
		b.answers.mu.Lock()
		b.most = 0
		b.answers.mu.Unlock()
		<-time.After(30 * time.Second)
		b.answers.mu.Lock()
		defer b.answers.mu.Unlock()
		if b.most > 10 {
			t.Errorf("%d at the same time although each takes a thousandth of its interval", b.most)
		}
	})
}

func TestRunner_C104_aRestartChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := row("a", func(k *service.Check) { k.Status, k.Output = service.Passing, "exit code 0" })
		status := func(r service.Registration) service.Status {
			p, _ := New(Options{}).Fill(plan(r), []service.Registration{held}, time.Now())
			return p.Registrations[0].Checks[0].Status
		}
		if got := status(row("a")); got != service.Passing {
			t.Errorf("the same check is %s", got)
		}
		if got := status(row("a", func(k *service.Check) { k.Interval++ })); got != service.Critical {
			t.Errorf("another check is %s", got)
		}
		other := row("a")
		other.Meta = map[string]string{service.Owner: "ba9876543210:80/tcp"}
		if got := status(other); got != service.Critical {
			t.Errorf("the check of another container is %s", got)
		}
	})
}

func TestRunner_C74_goneAfterItsDeregisterTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.answer("a", 2)
		r := row("a", func(k *service.Check) { k.Status, k.DeregisterAfter = service.Passing, 10*time.Minute })
		p, again := b.Fill(plan(r), nil, time.Now())
		if p.Registrations[0].Checks[0].Status != service.Passing || again != 0 {
			t.Errorf("at first %+v, again %s", p, again)
		}
		b.is(t, r, service.Critical)
		_, again = b.Fill(plan(r), nil, time.Now())
		if again != 10*time.Minute {
			t.Errorf("again in %s", again)
		}
		<-time.After(again - 1)
		if p, _ = b.Fill(plan(r), nil, time.Now()); len(p.Registrations) != 1 {
			t.Error("gone too early")
		}
		<-time.After(1)
		if p, again = b.Fill(plan(r), nil, time.Now()); len(p.Registrations) != 0 || again != 0 {
			t.Errorf("still there, again %s", again)
		}
		b.answer("a", 0)
		<-time.After(10 * time.Second)
		b.is(t, r, service.Passing)
	})
}

// TestRunner_C74_aRestartCountsOn hands what the catalog holds of one runner to another.
func TestRunner_C74_aRestartCountsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := row("a", func(k *service.Check) { k.DeregisterAfter = 10 * time.Minute })
		first, again := New(Options{}).Fill(plan(r), nil, time.Now())
		if again != 10*time.Minute {
			t.Fatalf("at first again in %s", again)
		}
		<-time.After(7 * time.Minute)
		p, again := New(Options{}).Fill(plan(r), first.Registrations, time.Now())
		if len(p.Registrations) != 1 || again != 3*time.Minute {
			t.Errorf("after a restart %d rows, again in %s", len(p.Registrations), again)
		}
		<-time.After(3 * time.Minute)
		if p, _ = New(Options{}).Fill(plan(r), first.Registrations, time.Now()); len(p.Registrations) != 0 {
			t.Error("a restart at the end keeps the row")
		}
		first.Registrations[0].Checks[0].CriticalSince = time.Now().Add(time.Hour) // another clock, or another hand
		if _, again = New(Options{}).Fill(plan(r), first.Registrations, time.Now()); again != 10*time.Minute {
			t.Errorf("critical since tomorrow: again in %s", again)
		}
	})
}

func TestRunner_whatIsPausedIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		suspended := row("a", func(k *service.Check) { k.Suspended = true })
		b.is(t, row("a"), service.Critical)
		b.is(t, row("a"), service.Passing)
		b.is(t, suspended, service.Passing)
		calls := b.ran("a")
		<-time.After(time.Minute)
		synctest.Wait()
		if n := b.ran("a"); n != calls {
			t.Errorf("asked %d times", n-calls)
		}
		b.answer("a", 2)
		b.is(t, row("a"), service.Passing)
		b.is(t, row("a"), service.Critical) // asked again at once
	})
}

func TestRunner_aTimeoutIsCriticalAndRemovalEndsARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.takes = time.Hour // nothing runs yet
		r := row("a", func(k *service.Check) { k.Status = service.Passing })
		b.is(t, r, service.Passing)
		<-time.After(3 * time.Second)
		synctest.Wait()
		p, _ := b.Fill(plan(r), nil, time.Now())
		if k := p.Registrations[0].Checks[0]; k.Status != service.Critical || k.Output != "no answer within 3s" {
			t.Errorf("%s: %s", k.Status, k.Output)
		}
		other := row("b", func(k *service.Check) { k.Timeout = time.Hour })
		b.Fill(plan(other), nil, time.Now())
		synctest.Wait()
		b.Fill(plan(), nil, time.Now())
		synctest.Wait()
		if n := b.running(); n != 0 {
			t.Errorf("%d still run", n)
		}
	})
}

func TestRunner_whatCannotBeRunSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.opt.Exec = func(context.Context, string, string, []string) (int, string, error) {
			return 0, "", errors.New("no\nshell")
		}
		r := row("a")
		b.is(t, r, service.Critical)
		synctest.Wait()
		p, _ := b.Fill(plan(r), nil, time.Now())
		if got := p.Registrations[0].Checks[0].Output; got != "no shell" || b.changed.Load() != 1 {
			t.Errorf("said %q, told of %d changes", got, b.changed.Load())
		}
	})
}

func TestOneLine(t *testing.T) {
	if got := oneLine(" a\x00b\n\xff" + strings.Repeat("é", 200)); len(got) > maxOutput+4 || strings.ContainsAny(got, "\x00\n") || !utf8.ValidString(got) {
		t.Errorf("%q", got)
	}
}
