//go:build real

package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How a change is measured: it is in effect when as many requests in a row as window are divided as
// wanted within fit percent, and then sample requests are within sampleFit.
const (
	window, windowFit = 40, 5.0
	sample, sampleFit = 1000, 3.0
	sampleOfOne       = 200 // where one gets everything, which is exact
)

// atLast bounds the wait for an effect. It is no measure of speed, since the machine may be busy;
// and nginx is reloaded for it, which takes several processes.
var atLast = map[string]time.Duration{"haproxy": 5 * time.Second, "nginx": 15 * time.Second}

// split says how requests are to be divided, in percent: by names of services or of instances.
type split map[string]float64

// parseSplit reads "blue=90 green=10".
func parseSplit(t *testing.T, text string) split {
	t.Helper()
	s, total := split{}, 0.0
	for part := range strings.FieldsSeq(text) {
		name, number, _ := strings.Cut(part, "=")
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatal(err)
		}
		s[name] = percent
		total += percent
	}
	if total != 100 {
		t.Fatalf("%q is not everything", text)
	}
	return s
}

// fits says how looks differ from the split. All or nothing is exact: what gets nothing gets not
// one request.
func (s split) fits(looks []look, within float64) error {
	seen := map[string]int{}
	for _, l := range looks {
		seen[l.by]++
		if service, _, instance := strings.Cut(l.by, "."); instance {
			seen[service]++
		}
	}
	for name, percent := range s {
		allowed := within
		if percent == 0 || percent == 100 {
			allowed = 0
		}
		if got := 100 * float64(seen[name]) / float64(len(looks)); got < percent-allowed || got > percent+allowed {
			return fmt.Errorf("%s got %.1f %%, want %g: %v", name, got, percent, seen)
		}
	}
	return nil
}

// sample is how many requests tell whether the split is kept.
func (s split) sample() int {
	for _, percent := range s {
		if percent == 100 {
			return sampleOfOne
		}
	}
	return sample
}

// look is a request that was answered.
type look struct {
	began time.Duration // since the change was acknowledged
	by    string
}

// takesEffect waits until clients see a change that was just acknowledged, looks at many requests
// from then on, and returns how long it took. None of the requests may fail.
func (r *rig) takesEffect(t *testing.T, host string, want split) time.Duration {
	t.Helper()
	acknowledged := time.Now()
	ask := func() look {
		l := look{began: time.Since(acknowledged)}
		code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), host)
		if code != 200 {
			t.Fatalf("a request failed %s after the change: %d %q", l.began, code, body)
		}
		l.by = body
		return l
	}
	var looks []look
	for range window {
		looks = append(looks, ask())
	}
	for want.fits(looks, windowFit) != nil {
		if looks = append(looks[1:], ask()); looks[0].began > atLast[r.kind] {
			t.Fatalf("%s is not divided %v within %s: %v", host, want, atLast[r.kind], want.fits(looks, windowFit))
		}
	}
	took := looks[0].began
	for len(looks) < want.sample() {
		looks = append(looks, ask())
	}
	if err := want.fits(looks, sampleFit); err != nil {
		t.Errorf("of %d requests: %v", len(looks), err)
	}
	return took
}
