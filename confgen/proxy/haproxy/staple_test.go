package haproxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"golang.org/x/crypto/ocsp"
)

// The worker's own word is held against what it was given: whether there is a response, and from
// when to when it counts.
func TestConn_staples(t *testing.T) {
	ca, now := testbed.NewAuthority(t, "ca"), time.Now().UTC().Truncate(time.Second)
	pair := ca.Pair(t, "a.test")
	answer := func(from, until time.Time) string {
		return string(ca.Answer(t, pair, ocsp.Response{Status: ocsp.Good, ThisUpdate: from, NextUpdate: until}, nil))
	}
	const form = "Jan _2 15:04:05 2006 GMT"
	f := newFake(t, "", func(_ *fake, _ net.Conn, command string, _ []string) string {
		if command != "show ssl ocsp-response 30a1" {
			return "[3]: " + command
		}
		return "OCSP Response Data:\n    This Update: " + now.Format(form) + "\n    Next Update: " + now.Add(time.Hour).Format(form) + "\n"
	})
	conn, err := f.socket.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // A test.
	const none, one = "Serial: 07\nOCSP Response Key: \n", "Serial: 07\nOCSP Response Key: 30a1\n"
	for name, c := range map[string]struct {
		shown, der string
		want       bool
	}{
		"none":             {none, "", true},
		"missing":          {none, answer(now, now.Add(time.Hour)), false},
		"too much":         {one, "", false},
		"the same":         {one, answer(now, now.Add(time.Hour)), true},
		"ends later":       {one, answer(now, now.Add(2*time.Hour)), false},
		"begins later":     {one, answer(now.Add(time.Minute), now.Add(time.Hour)), false},
		"an older HAProxy": {"Serial: 07\n", answer(now, now.Add(time.Hour)), true},
		"no end of line":   {strings.TrimSpace(none), "", true},
	} {
		if got, err := conn.staples(t.Context(), c.shown, c.der); err != nil || got != c.want {
			t.Errorf("%s: %v, want %v: %v", name, got, c.want, err)
		}
	}
}
