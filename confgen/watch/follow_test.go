package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"fairway/internal/consul"
	"fairway/internal/testbed"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// follower is a Watcher under test.
type follower struct {
	*Watcher
	t       testing.TB
	changes atomic.Int32
	ready   atomic.Pointer[error]
	stop    func()
}

// follow runs a Watcher against addr until the test ends.
func follow(t testing.TB, opt Options, addr ...string) *follower {
	t.Helper()
	return followWith(t, opt, consul.Config{Addresses: addr})
}

// followWith runs a Watcher against the Consul that cfg leads to.
func followWith(t testing.TB, opt Options, cfg consul.Config) *follower {
	t.Helper()
	cfg.MaxConns = opt.Connections
	client, err := consul.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{t: t}
	opt.Client = client
	opt.Log = cmp.Or[hclog.Logger](opt.Log, hclog.New(&hclog.LoggerOptions{Name: "watch", Output: testWriter{t}}))
	opt.Changed = func() { f.changes.Add(1) }
	opt.Condition = func(err error) { f.ready.Store(&err) }
	if f.Watcher, err = New(opt); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	var stopped bool
	f.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(f.stop)
	return f
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

// sees waits until the newest View satisfies ok.
func (f *follower) sees(what string, ok func(View) error) View {
	f.t.Helper()
	var v View
	testbed.Eventually(f.t, 10*time.Second, what, func() error {
		var have bool
		if v, have = f.Latest(); !have {
			return errors.New("no view yet")
		}
		return ok(v)
	})
	return v
}

// instances expects a service to have the instances given as "address:port status".
func instances(name string, want ...string) func(View) error {
	return func(v View) error {
		var got []string
		for _, s := range v.Snapshot.Services {
			if s.Name == name {
				for _, in := range s.Instances {
					got = append(got, fmt.Sprintf("%s:%d %s", in.Address, in.Port, in.Status))
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%s is %q, want %q", name, got, want)
		}
		return nil
	}
}
