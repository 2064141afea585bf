package consul

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// answer is one scripted answer of Consul.
type answer struct {
	index uint64
	err   error
	after time.Duration
}

// follow runs Watch over the scripted answers and returns the indexes it asked with and those it
// handed on. When the script is over the query blocks, as Consul's does.
func follow(t *testing.T, script []answer) (asked, got []uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		query := func(q *api.QueryOptions) (int, *api.QueryMeta, error) {
			asked = append(asked, q.WaitIndex)
			if q.RequireConsistent != (q.WaitIndex == 0) {
				t.Errorf("index %d: consistent is %t", q.WaitIndex, q.RequireConsistent)
			}
			if len(script) == 0 {
				close(over)
				<-q.Context().Done()
				return 0, nil, q.Context().Err()
			}
			a := script[0]
			script = script[1:]
			time.Sleep(a.after)
			return 0, &api.QueryMeta{LastIndex: a.index}, a.err
		}
		done := make(chan error)
		go func() {
			done <- Watch(ctx, query, WatchOptions{}, func(_ int, m *api.QueryMeta) { got = append(got, m.LastIndex) })
		}()
		<-over
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch returned %v", err)
		}
	})
	return asked, got
}

func TestWatch_F14_indexRules(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name       string
		script     []answer
		asked, got []uint64
	}{
		{"a new index is handed on", []answer{{index: 5}, {index: 7}}, []uint64{0, 5, 7}, []uint64{5, 7}},
		{"a timeout is not", []answer{{index: 5}, {index: 5, after: time.Minute}}, []uint64{0, 5, 5}, []uint64{5}},
		{"an early answer without news means a full read", []answer{{index: 5}, {index: 5}, {index: 5}}, []uint64{0, 5, 0, 5}, []uint64{5}},
		{"which is news where a snapshot was restored", []answer{{index: 50}, {index: 50}, {index: 3}, {index: 3}}, []uint64{0, 50, 0, 3, 3}, []uint64{50, 3}},
		{"not again and again", []answer{{index: 5}, {index: 5}, {index: 5}, {index: 5}}, []uint64{0, 5, 0, 5, 5}, []uint64{5}},
		{"backwards means a full read, which brings it", []answer{{index: 50}, {index: 3}, {index: 3}}, []uint64{0, 50, 0, 3}, []uint64{50, 3}},
		{"or that it was not true", []answer{{index: 50}, {index: 3}, {index: 50}}, []uint64{0, 50, 0, 50}, []uint64{50}},
		{"zero is asked as one", []answer{{index: 0}, {index: 0, after: time.Minute}, {index: 2}}, []uint64{0, 1, 1, 2}, []uint64{0, 2}},
		{"an error means a full read", []answer{{index: 9}, {err: broken}, {index: 9}}, []uint64{0, 9, 0, 9}, []uint64{9, 9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked, got := follow(t, c.script)
			if d := cmp.Diff(c.asked, asked); d != "" {
				t.Errorf("asked with (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.got, got); d != "" {
				t.Errorf("handed on (-want +got):\n%s", d)
			}
		})
	}
}

func TestWatch_F18_answersAtOnceAreAskedForAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		asked, got := 0, 0
		query := func(*api.QueryOptions) (int, *api.QueryMeta, error) {
			asked++
			return 0, &api.QueryMeta{LastIndex: 5}, nil
		}
		_ = Watch(ctx, query, WatchOptions{MinInterval: 100 * time.Millisecond}, func(int, *api.QueryMeta) { got++ })
		if asked > 100+burst || got != 1 {
			t.Errorf("%d queries in 10 s at a tenth of a second, %d handed on", asked, got)
		}
	})
}

func TestWatch_aSilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		failures := 0
		query := func(q *api.QueryOptions) (int, *api.QueryMeta, error) {
			<-q.Context().Done()
			return 0, nil, q.Context().Err()
		}
		_ = Watch(ctx, query, WatchOptions{Failed: func(error, time.Duration) { failures++ }}, func(int, *api.QueryMeta) {})
		if failures < 3 {
			t.Errorf("%d failures in 5 minutes of silence", failures)
		}
	})
}
