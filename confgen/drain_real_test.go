//go:build real

package main

import (
	"errors"
	"io"
	"maps"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestRun_drain: an instance that gets nothing new finishes what it has, for as long as
// fairway.drain says and for ever without it, and nothing is reloaded for that.
func TestRun_drain(t *testing.T) {
	gone := func(r *rig, w web, _ map[string]string) { r.deregister(w) }
	maintained := func(r *rig, w web, meta map[string]string) {
		meta = maps.Clone(meta)
		meta["fairway-maintenance"] = "true"
		r.register("stream", w, "passing", meta)
	}
	for name, tt := range map[string]struct {
		leave   func(*rig, web, map[string]string)
		limited bool
	}{
		"gone, limited":        {gone, true},
		"gone":                 {gone, false},
		"maintenance, limited": {maintained, true},
		"maintenance":          {maintained, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meta := host("stream.test")
			if tt.limited {
				meta["fairway-drain"] = "2s"
			}
			r := newRig(t, "haproxy")
			leaving := streaming(t, time.Second)
			r.register("stream", leaving, "passing", meta)
			c := r.confgen()
			r.haproxy()
			c.ready()
			r.answers("stream.test", "stream")
			conn, in, err := r.socket()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			said := func() error {
				if _, err := io.WriteString(conn, "word\n"); err != nil {
					return err
				}
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				line, err := in.ReadString('\n')
				if err == nil && line != "word\n" {
					t.Fatalf("the websocket says %q", line)
				}
				return err
			}
			r.register("stream", r.web("other"), "passing", meta)
			r.answers("stream.test", "other", "stream")
			reloads := c.metric("fairway_confgen_reloads_total")

			tt.leave(r, leaving, meta)
			r.answers("stream.test", "other")
			if err := said(); err != nil {
				t.Fatalf("what it had ended with the last new request: %v", err)
			}
			if tt.limited {
				testbed.Eventually(t, 30*time.Second, "the websocket is closed", func() error {
					if said() == nil {
						return errors.New("it still speaks")
					}
					return nil
				})
			} else {
				time.Sleep(5 * time.Second) // more than twice what the others have
				if err := said(); err != nil {
					t.Errorf("nothing limits it, and it ended: %v", err)
				}
			}
			if now := c.metric("fairway_confgen_reloads_total"); now != reloads {
				t.Errorf("%g reloads", now-reloads)
			}
		})
	}
}
