package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fairway/confgen/proxy"

	"github.com/hashicorp/go-hclog"
)

// Each trouble is one line when it begins, and one when it is over.
func TestTrouble_oneLineEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tr := trouble{log: hclog.New(&hclog.LoggerOptions{Output: &log}), since: time.Now()}
		away := fmt.Errorf("%w: no socket\nand no other", proxy.ErrNotRunning)
		refused := func(generation string) error {
			return &proxy.RejectedError{By: "check", Generation: generation, Output: "line 1\n  line 2\n"}
		}
		begin := func(err error) { tr.begin(failureOf(err), err) }
		for _, step := range []struct {
			name string
			do   func()
			want string // a level and words; "" for nothing
		}{
			{"a proxy that is coming up", func() { begin(away) }, "[INFO]  files are in place, waiting"},
			{"still", func() { begin(away) }, ""},
			{"too long", func() { time.Sleep(startGrace); begin(away) }, "[WARN]  not ready"},
			{"up", tr.end, "[INFO]  ready"},
			{"quiet", tr.end, ""},
			{"gone later", func() { begin(away) }, "[WARN]  not ready"},
			{"refused", func() { begin(refused("a")) }, "line 1; line 2"},
			{"again", func() { begin(refused("a")) }, ""},
			{"another one", func() { begin(errors.Join(refused("b"), away)) }, "[ERROR] not ready, configuration rejected"},
			{"mended", tr.end, "[INFO]  ready"},
			{"full disk", func() { begin(errors.New("no space")) }, "[WARN]  not ready, not applied: trying again"},
		} {
			log.Reset()
			step.do()
			lines := strings.Count(log.String(), "\n")
			if step.want == "" && lines > 0 || step.want != "" && (lines != 1 || !strings.Contains(log.String(), step.want)) {
				t.Errorf("%s: want %q\n%s", step.name, step.want, log.String())
			}
		}
	})
}
