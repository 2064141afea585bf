package proxy

import (
	"testing"
	"time"
)

// A refusal stands for the same bytes; that the checker hung once, on a busy machine, does not.
func TestApply_F25_aHungCheckerIsAskedAgain(t *testing.T) {
	target, err := NewNginx(Options{Dir: t.TempDir(), Main: "nginx.conf"}, Nginx{Signal: Process{File: "/nowhere"}, Status: "unix:/nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	p := &pass{Target: target}
	for _, hung := range []bool{true, false} {
		p.reject(&RejectedError{By: ByCheck, Hung: hung})
		if !p.known() {
			t.Errorf("hung=%t: tried again at once", hung)
		}
		p.rejected.at = time.Now().Add(-2 * hungRetry)
		if p.known() == hung {
			t.Errorf("hung=%t: after a while known=%t", hung, p.known())
		}
	}
}

// A background check that hung says nothing of the files: they stay, while a refusal takes them
// back.
func TestApply_F25_aHungLateCheckTakesNothingBack(t *testing.T) {
	woken := 0
	target, err := NewNginx(Options{Dir: t.TempDir(), Main: "nginx.conf", Wake: func() { woken++ }}, Nginx{Signal: Process{File: "/nowhere"}, Status: "unix:/nowhere"})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	good, next := tree{generation: "good"}, tree{generation: "next"}
	l := &target.late
	l.passed(good)
	l.judge(next, &RejectedError{By: ByCheck, Hung: true})
	if refused, _ := l.verdict(next); refused != nil || woken != 0 {
		t.Errorf("hung: refused %v, woken %d times", refused, woken)
	}
	l.judge(next, &RejectedError{By: ByCheck})
	if refused, _ := l.verdict(next); refused == nil || woken != 1 {
		t.Errorf("refused: %v, woken %d times", refused, woken)
	}
}
