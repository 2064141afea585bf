package haproxy

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The servers of the fake have been as they are for 9 seconds.
func TestSync_drain(t *testing.T) {
	const (
		listed = "server s1 10.0.0.1:80 id 1 weight 100 disabled\n"
		busy   = "# pxname,svname,qcur,qmax,scur,smax\na,s1,0,0,2,5,\n"
		idle   = "# pxname,svname,qcur,qmax,scur,smax\na,s1,0,0,0,5,\n"
		cut    = "shutdown sessions server a/s1"
	)
	for name, tt := range map[string]struct {
		file, stat string
		refuses    bool // to delete
		commands   []string
		garbage    int
	}{
		"gone and idle":                  {"# drain 30s\n", "", false, []string{"del server a/s1"}, 0},
		"gone, busy for too long":        {"# drain 9s\n", "", true, []string{"del server a/s1", cut}, 1},
		"gone, busy as long as it may":   {"# drain 10s\n", "", true, []string{"del server a/s1"}, 1},
		"gone, without limit":            {"", "", true, []string{"del server a/s1"}, 1},
		"maintenance, too long":          {"# drain 9s\n" + listed, busy, true, []string{cut}, 1},
		"maintenance, as long as it may": {"# drain 10s\n" + listed, busy, true, nil, 1},
		"maintenance, idle":              {"# drain 5s\n" + listed, idle, true, nil, 0},
		"maintenance, removed meanwhile": {"# drain 5s\n" + listed, "# pxname,svname,qcur,qmax,scur,smax\n", true, nil, 0},
		"maintenance, without limit":     {listed, "not asked for", true, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorker()
			w.servers = []string{"1 s1 10.0.0.1 80 100 1"}
			w.refuse = func(command string) string {
				switch {
				case command == "show stat a 4 1":
					return tt.stat
				case strings.HasPrefix(command, "del ") && tt.refuses:
					return "[3]: Server still has connections attached to it, cannot remove it."
				}
				return ""
			}
			f := newFake(t, "", func(f *fake, conn net.Conn, command string, payload []string) string {
				if command == cut {
					return ""
				}
				return w.answer(f, conn, command, payload)
			})
			report, err := Sync(t.Context(), f.socket, desired(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.commands, f.sent()); diff != "" {
				t.Errorf("commands:\n%s", diff)
			}
			if report.Garbage != tt.garbage {
				t.Errorf("%d servers to look after, want %d", report.Garbage, tt.garbage)
			}
		})
	}
}

func TestSync_drainNeedsToKnowTheSessions(t *testing.T) {
	w := newWorker()
	w.servers = []string{"1 s1 10.0.0.1 80 100 1"}
	w.refuse = func(command string) string {
		if strings.HasPrefix(command, "show stat") {
			return "# pxname,svname,sessions\na,s1,2\n"
		}
		return ""
	}
	f := newFake(t, "", w.answer)
	_, err := Sync(t.Context(), f.socket, desired("# drain 30s\nserver s1 10.0.0.1:80 id 1 weight 100 disabled\n"))
	if err == nil || !strings.Contains(err.Error(), "a/s1") {
		t.Errorf("a table without sessions: %v", err)
	}
}

func TestParse_drain(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"backend a\n    # drain 1m30s\n":          90 * time.Second,
		"listen a\n#  drain  30s\n":               30 * time.Second,
		"backend a\n    # drain 30s of it\n":      0,
		"backend a\n    # drain soon\n":           0,
		"backend a\n    # drain -30s\n":           0,
		"backend a\n    # drained 30s\n":          0,
		"backend b\n    # drain 30s\nbackend a\n": 0,
	} {
		if b, _ := Parse([]byte(text)).Backend("a"); b.Drain != want {
			t.Errorf("%q: %s, want %s", text, b.Drain, want)
		}
	}
	with, without := Parse([]byte("backend a\n# drain 30s\nserver s 10.0.0.1:80\n")), Parse([]byte("backend a\nserver s 10.0.0.1:80\n"))
	if with.Structure != without.Structure {
		t.Error("another time is a reason to reload")
	}
	if touched := Touched(without, with); len(touched) != 1 || touched[0].Drain != 30*time.Second {
		t.Errorf("another time is nothing to look at: %+v", touched)
	}
}
