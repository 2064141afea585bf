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
