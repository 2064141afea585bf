package haproxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func desired(text string) Desired {
	return Desired{Description: "gen1", Backends: Parse([]byte("backend a\n" + text)).Backends, All: true}
}

func newWorker() *worker {
	return &worker{pid: 7, description: "fairway gen1", maps: map[string][]string{}, servers: []string{"1 s1 10.0.0.1 80 100 0"}}
}

func TestSync_changesAndReadsBack(t *testing.T) {
	w := newWorker()
	f := newFake(t, "", w.answer)
	report, err := Sync(t.Context(), f.socket, desired("server s2 10.0.0.2:80 id 2 weight 30 check\nserver s3 10.0.0.3:80 id 3 disabled\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"add server a/s2 10.0.0.2:80 id 2 weight 30 check",
		"enable health a/s2",
		"set server a/s2 state ready",
		"add server a/s3 10.0.0.3:80 id 3 weight 1",
		"set server a/s1 state maint",
		"del server a/s1",
	}
	if diff := cmp.Diff(want, f.sent()); diff != "" {
		t.Errorf("commands:\n%s", diff)
	}
	if report.Commands != len(want)-1 || report.PID != 7 || report.Garbage != 0 || f.conns != 2 {
		t.Errorf("%+v over %d connections, expected a second one to verify", report, f.conns)
	}
}

func TestSync_F52_refusals(t *testing.T) {
	for name, tt := range map[string]struct {
		refuse func(w *worker) func(command string) string
		want   error
		says   string
	}{
		"refused for good": {func(*worker) func(string) string {
			return func(c string) string {
				if strings.HasPrefix(c, "add server") {
					return "[3]: 'cookie' option is not accepted for dynamic server"
				}
				return ""
			}
		}, ErrReload, "cookie"},
		"the world moved between look and command": {func(w *worker) func(string) string {
			return func(c string) string {
				if strings.HasPrefix(c, "add server") && len(w.servers) == 1 {
					w.servers = append(w.servers, "2 s2 10.0.0.2 80 1 0")
					return "[3]: Already exists a server with the same name in backend."
				}
				return ""
			}
		}, nil, ""},
		"accepted but not done": {func(*worker) func(string) string {
			return func(c string) string {
				if strings.HasPrefix(c, "add server") {
					return "[6]: New server registered." // As an old worker says.
				}
				return ""
			}
		}, ErrReload, "a/s2"},
		"another structure": {func(w *worker) func(string) string {
			w.description = "fairway gen2"
			return nil
		}, ErrOther, "gen2"},
		"an old worker at first": {func(w *worker) func(string) string {
			w.stopping = 1
			looks := 0
			return func(c string) string {
				if looks++; looks == 2 {
					w.stopping = 0
				}
				return ""
			}
		}, nil, ""},
		"an old worker for ever": {func(w *worker) func(string) string {
			w.stopping = 1
			return nil
		}, ErrReload, "old worker"},
		"unknown command": {func(*worker) func(string) string {
			return func(c string) string {
				if strings.HasPrefix(c, "add server") {
					return "[6]: Unknown command: add"
				}
				return ""
			}
		}, ErrReload, "Unknown command"},
		"cannot be deleted yet": {func(*worker) func(string) string {
			return func(c string) string {
				if strings.HasPrefix(c, "del server") {
					return "[3]: Server still has connections attached to it, cannot remove it."
				}
				return ""
			}
		}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker()
			w.servers = append(w.servers, "9 old 10.0.0.9 80 1 1")
			w.refuse = tt.refuse(w)
			if name == "the world moved between look and command" {
				w.servers = w.servers[:1]
			}
			f := newFake(t, "", w.answer)
			report, err := Sync(t.Context(), f.socket, desired("server s1 10.0.0.1:80 id 1 weight 100\nserver s2 10.0.0.2:80 id 2\n"))
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%+v %v, expected %v saying %q", report, err, tt.want, tt.says)
			}
			if wantGarbage := map[bool]int{true: 1}[name == "cannot be deleted yet"]; report.Garbage != wantGarbage {
				t.Errorf("%d left to delete, expected %d", report.Garbage, wantGarbage)
			}
		})
	}
}

func TestSync_F52_cutAnswerIsNoSuccess(t *testing.T) {
	w := newWorker()
	f := newFake(t, "", func(f *fake, c net.Conn, command string, payload []string) string {
		if strings.HasPrefix(command, "show servers") {
			_, _ = c.Write([]byte("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_port srv_check_state\n"))
			_ = c.Close()
			return ""
		}
		return w.answer(f, c, command, payload)
	})
	if report, err := Sync(t.Context(), f.socket, desired("server s1 10.0.0.1:80 id 1 weight 100\n")); err == nil || report.Commands != 0 {
		t.Errorf("%+v %v: half a table must not count as a world without servers", report, err)
	}
}

// A payload goes out in messages far below what HAProxy can take.
func TestSync_mapsInChunks(t *testing.T) {
	w := newWorker()
	w.maps["/etc/haproxy/maps/hosts.map"] = []string{"old.test a"}
	f := newFake(t, "", w.answer)
	var text strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, "host-%d.%s.test   a\n", i, strings.Repeat("x", i%90))
	}
	want := desired("server s1 10.0.0.1:80 id 1 weight 100\n")
	want.Maps = []Map{ParseMap("maps/hosts.map", []byte(text.String())), ParseMap("maps/unused.map", []byte("a b\n"))}
	report, err := Sync(t.Context(), f.socket, want)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Maps[0].Entries, w.maps["/etc/haproxy/maps/hosts.map"]); diff != "" {
		t.Errorf("map differs:\n%s", diff)
	}
	if f.longest > MaxMessage || f.longest < MaxMessage/2 {
		t.Errorf("longest message %d bytes", f.longest)
	}
	if report.Commands < 3000/linesAtOnce || report.Commands > 60 {
		t.Errorf("%d commands", report.Commands)
	}
	if _, err := Sync(t.Context(), f.socket, want); err != nil || len(f.sent()) != report.Commands {
		t.Errorf("%v: an equal map must not be sent again", err)
	}
	want.Maps[0].Entries = append(want.Maps[0].Entries, strings.Repeat("y", MaxMessage)+" a")
	f.socket.Timeout = time.Second
	if _, err := Sync(t.Context(), f.socket, want); err == nil {
		t.Error("an entry of 8 KiB must be refused")
	}
}
