package main

import (
	"errors"
	"strings"
	"time"

	"fairway/confgen/proxy"

	"github.com/hashicorp/go-hclog"
)

// startGrace is how long a proxy that has never been seen may take to come up before its absence
// is worth a warning: it is often started together with confgen, and waits for the first files.
const startGrace = 10 * time.Second

// failure is where a pass failed; a metric is labelled with it.
type failure string

const (
	failedRender     failure = "render"
	failedRejected   failure = "rejected"
	failedNotRunning failure = "not_running"
	failedOther      failure = "failed"
)

func failureOf(err error) failure {
	switch {
	case rejected(err):
		return failedRejected
	case errors.Is(err, proxy.ErrNotRunning):
		return failedNotRunning
	}
	return failedOther
}

// trouble logs why passes fail, in one line when it begins and in one when it ends. It belongs to
// the goroutine that makes the passes.
type trouble struct {
	log   hclog.Logger
	since time.Time // the start of the program
	seen  bool      // a pass has come to its end, so the proxy has been up
	what  string    // what was logged last; "" for no trouble
}

// begin notes that a pass failed. The same trouble is told once; another rejection is another
// trouble.
func (t *trouble) begin(kind failure, err error) {
	what := string(kind)
	waiting := kind == failedNotRunning && !t.seen && time.Since(t.since) < startGrace
	var refusal *proxy.RejectedError
	switch {
	case waiting:
		what = "waiting"
	case errors.As(err, &refusal):
		what += refusal.By + refusal.Generation
	}
	if what == t.what {
		return
	}
	t.what = what
	switch {
	case waiting:
		t.log.Info("files are in place, waiting for the proxy to come up", "condition", proxyPart)
	case kind == failedNotRunning:
		t.log.Warn("not ready, files are in place for the proxy's start", "condition", proxyPart, "err", oneLine(err))
	case kind == failedRejected: // only a person can mend it
		t.log.Error("not ready, configuration rejected: the last good one stays until other files are rendered", "condition", proxyPart, "err", oneLine(err))
	case kind == failedRender:
		t.log.Warn("not ready, templates cannot be executed: files stay as they are until that is mended", "condition", proxyPart, "err", oneLine(err))
	default:
		t.log.Warn("not ready, not applied: trying again until it is", "condition", proxyPart, "err", oneLine(err))
	}
}

// end notes that files and proxy are as they should be.
func (t *trouble) end() {
	if t.what != "" || !t.seen {
		t.log.Info("ready", "condition", proxyPart)
	}
	t.what, t.seen = "", true
}

// oneLine writes an error, which may hold a checker's own words, as one line.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}
