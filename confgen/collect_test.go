package main

import (
	"errors"
	"fmt"
	"runtime"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"
)

func TestPercentOf(t *testing.T) {
	for live, want := range map[uint64]int{0: 800, 1 << 20: 800, 4 << 20: 400, 6 << 20: 260, 16 << 20: 100, 32 << 20: 50, 85 << 20: 50, 1 << 40: 50} {
		if got := percentOf(live); got != want {
			t.Errorf("%d bytes: %d %%, want %d %%", live, got, want)
		}
	}
}

func TestCollectLess_followsWhatIsInUse(t *testing.T) {
	t.Setenv("GOGC", "")
	collectLess()
	hold := make([]byte, 64<<20)
	collected(t, func(percent uint64) bool { return percent == gcPercent })
	runtime.KeepAlive(hold)
	collected(t, func(percent uint64) bool { return percent > gcPercent })
}

// collected collects until the pace is as wanted.
func collected(t *testing.T, wanted func(percent uint64) bool) {
	t.Helper()
	err := errors.New("never looked")
	for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); runtime.Gosched() {
		runtime.GC()
		sample := []runtimemetrics.Sample{{Name: "/gc/gogc:percent"}}
		runtimemetrics.Read(sample)
		if err = nil; !wanted(sample[0].Value.Uint64()) {
			err = fmt.Errorf("the pace is %d %%", sample[0].Value.Uint64())
		}
	}
	if err != nil {
		t.Error(err)
	}
}
