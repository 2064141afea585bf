package reconcile

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// record runs a Loop whose passes take no time and returns when each began, in milliseconds.
// drive runs beside it in the bubble's fake time.
func record(t *testing.T, opt Options, fail func(pass int) error, drive func(Wake)) []int64 {
	t.Helper()
	var passes []int64
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake, began := NewWake(), time.Now()
		done := make(chan error)
		go func() {
			done <- Loop(ctx, wake, opt, func(context.Context) error {
				passes = append(passes, time.Since(began).Milliseconds())
				if fail == nil {
					return nil
				}
				return fail(len(passes))
			})
		}()
		drive(wake)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Loop: %v", err)
		}
	})
	return passes
}

func TestLoop_pace(t *testing.T) {
	at := func(w Wake, gaps ...int) {
		for _, ms := range gaps {
			time.Sleep(time.Duration(ms) * time.Millisecond)
			w.Now()
		}
	}
	for _, c := range []struct {
		name string
		opt  Options
		wake []int // gaps between wakes, in milliseconds
		want []int64
	}{
		{"first pass at once", Options{}, nil, []int64{0}},
		{"F39 an isolated wake is answered at once", Options{Interval: time.Second}, []int{5000}, []int64{0, 5000}},
		{"wakes within the interval are one pass at its end", Options{Interval: time.Second}, []int{5000, 100, 100, 100}, []int64{0, 5000, 6000}},
		{"a few wakes after a quiet time are each answered at once", Options{Interval: time.Second, Burst: 3}, []int{5000, 100, 100, 100, 100}, []int64{0, 5000, 5100, 5200, 6000}},
		{"what a burst was lent is paid back", Options{Interval: time.Second, Burst: 3}, []int{5000, 100, 100, 100, 1000, 1000, 1000}, []int64{0, 5000, 5100, 5200, 6000, 7000, 8000, 9000}},
		{"a burst settles into one pass", Options{Settle: 50 * time.Millisecond, SettleMax: time.Second}, []int{100, 40, 40, 40}, []int64{0, 270}},
		{"settling is bounded", Options{Settle: 50 * time.Millisecond, SettleMax: 100 * time.Millisecond}, []int{100, 40, 40, 40, 40}, []int64{0, 200, 310}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := record(t, c.opt, nil, func(w Wake) { at(w, c.wake...); time.Sleep(2 * time.Second) })
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("passes began at (-want +got):\n%s", d)
			}
		})
	}
}

func TestLoop_resyncs(t *testing.T) {
	got := record(t, Options{Resync: time.Minute}, nil, func(Wake) { time.Sleep(10 * time.Minute) })
	if len(got) < 10 || len(got) > 12 {
		t.Errorf("%d passes in 10 minutes with a resync of one minute", len(got))
	}
	if got[1] == 60_000 && got[2] == 120_000 {
		t.Errorf("no jitter: %v", got)
	}
}

func TestLoop_backsOffAndNeverGivesUp(t *testing.T) {
	var told int
	opt := Options{RetryMin: 100 * time.Millisecond, RetryMax: time.Second, Failed: func(err error, in time.Duration) {
		told++
		if err == nil || in < 100*time.Millisecond || in > 1500*time.Millisecond {
			t.Errorf("told of %v, again in %s", err, in)
		}
	}}
	broken := func(int) error { return errors.New("broken") }
	got := record(t, opt, broken, func(Wake) { time.Sleep(time.Minute) })
	if len(got) < 40 || len(got) > 130 {
		t.Errorf("%d passes in a minute of failure", len(got))
	}
	if told != len(got) {
		t.Errorf("told of %d failures in %d passes", told, len(got))
	}
}

func TestLoop_aStormOfWakesDoesNotShortenTheRetryBelowItsMinimum(t *testing.T) {
	opt := Options{RetryMin: 100 * time.Millisecond, RetryMax: time.Second}
	broken := func(int) error { return errors.New("broken") }
	got := record(t, opt, broken, func(w Wake) {
		for range 1000 {
			w.Now()
			time.Sleep(time.Millisecond)
		}
	})
	if len(got) > 11 {
		t.Errorf("%d passes in one second of wakes", len(got))
	}
}

func TestLoop_aWakeDuringAPassIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wake, passes, done := NewWake(), 0, make(chan error)
		go func() {
			done <- Loop(ctx, wake, Options{}, func(context.Context) error {
				if passes++; passes == 1 {
					wake.Now()
				}
				return nil
			})
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || passes != 2 {
			t.Errorf("%d passes, want 2: %v", passes, err)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithTimeout(t.Context(), 3*time.Second)
		defer end()
		began := time.Now()
		for _, c := range []struct {
			d, until time.Duration
			err      error
		}{
			{0, 0, nil},
			{-time.Second, 0, nil},
			{2 * time.Second, 2 * time.Second, nil},
			{time.Hour, 3 * time.Second, context.DeadlineExceeded},
			{0, 3 * time.Second, context.DeadlineExceeded},
		} {
			if err := Sleep(ctx, c.d); !errors.Is(err, c.err) || time.Since(began) != c.until {
				t.Errorf("for %s: until %s, %v", c.d, time.Since(began), err)
			}
		}
	})
}
