package haproxy

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/reconcile"
)

func TestConn_F52_faultsOnTheWire(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(f *fake, conn net.Conn, command string, payload []string) string
		want   string // part of the error
	}{
		"cut before anything": {func(_ *fake, c net.Conn, _ string, _ []string) string { _ = c.Close(); return "" }, "cut after 0 bytes"},
		"cut in the middle": {func(_ *fake, c net.Conn, _ string, _ []string) string {
			_, _ = c.Write([]byte("1\n# be_id be_name\n"))
			_ = c.Close()
			return ""
		}, "cut after 18 bytes"},
		"cut after a whole line that looks like an end": {func(_ *fake, c net.Conn, _ string, _ []string) string {
			_, _ = c.Write([]byte("0x1 key > value\n"))
			_ = c.Close()
			return ""
		}, "cut after 16 bytes"},
		"hangs": {func(f *fake, _ net.Conn, _ string, _ []string) string { <-f.t.Context().Done(); return "" }, "i/o timeout"},
		"unknown command has severity 6": {func(*fake, net.Conn, string, []string) string {
			return "[6]: Unknown command, but maybe one of the following ones is a better match:\n  help"
		}, "Unknown command"},
		"refused":           {func(*fake, net.Conn, string, []string) string { return "[3]: No such server." }, "No such server"},
		"permission denied": {func(*fake, net.Conn, string, []string) string { return "[3]: Permission denied" }, "Permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "", tt.answer)
			f.socket.Timeout = 100 * time.Millisecond
			conn, err := f.socket.Worker(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close() //nolint:errcheck // A test.
			answer, err := conn.Do(t.Context(), "set server a/b state ready")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("answer %q, error %v; expected one about %q", answer, err, tt.want)
			}
			var refusal *CommandError
			if isRefusal := errors.As(err, &refusal); isRefusal != strings.Contains("Unknown command No such server Permission denied", tt.want) {
				t.Errorf("%v: refusal %t", err, isRefusal)
			}
		})
	}
}

func TestConn_contextReachesTheWire(t *testing.T) {
	f := newFake(t, "", func(f *fake, _ net.Conn, _ string, _ []string) string { <-f.t.Context().Done(); return "" })
	f.socket.Timeout = time.Minute
	conn, err := f.socket.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // A test.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := conn.Ask(ctx, "show info"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, expected the context's end", err)
	}
}

func TestSocket_absentAndForbidden(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if _, err := (Socket{Path: path}).Worker(t.Context()); !Absent(err) {
		t.Errorf("no file: %v, expected absent", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := (Socket{Path: path}).Worker(t.Context()); !Absent(err) {
		t.Errorf("nobody listens: %v, expected absent", err)
	}
	forbidden := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}
	if Absent(forbidden) {
		t.Error("a forbidden socket is not an absent one")
	}
}

func TestConn_answerInPieces(t *testing.T) {
	f := newFake(t, "", func(_ *fake, c net.Conn, _ string, _ []string) string {
		for _, piece := range []string{"fir", "st\nsec", "ond\n", "third\n>", "> "} {
			_, _ = c.Write([]byte(piece))
			_ = reconcile.Sleep(context.Background(), 20*time.Millisecond)
		}
		return "last"
	})
	conn, err := f.socket.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // A test.
	if answer, err := conn.Ask(t.Context(), "show x"); err != nil || answer != "first\nsecond\nthird\n>> last" {
		t.Errorf("%q %v", answer, err)
	}
}

func TestFrame(t *testing.T) {
	for name, tt := range map[string]struct {
		command string
		payload []string
		want    string
		ok      bool
	}{
		"command":            {"show info", nil, "show info\n", true},
		"payload":            {"add map @1 m", []string{"a b", "c d"}, "add map @1 m <<\na b\nc d\n\n", true},
		"second command":     {"show info\ndel server a/b", nil, "", false},
		"payload ends early": {"add map @1 m", []string{"a b", ""}, "", false},
		"line break inside":  {"add map @1 m", []string{"a b\n\ndel map m"}, "", false},
		"NUL":                {"show info\x00", nil, "", false},
		"just fits":          {strings.Repeat("x", MaxMessage-1), nil, strings.Repeat("x", MaxMessage-1) + "\n", true},
		"too long":           {strings.Repeat("x", MaxMessage), nil, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := frame(tt.command, tt.payload)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("%.80q %v", got, err)
			}
		})
	}
}

func TestMaster_processes(t *testing.T) {
	const answer = `#<PID>          <type>          <reloads>       <uptime>        <version>      
32735           master          4 [failed: 2]   0d00h00m53s     2.6.12-1+deb12u4
# workers
1911            worker          0               0d00h00m39s     2.6.12-1+deb12u4
# old workers
1800            worker          3               0d00h01m39s     2.6.12-1+deb12u4
1700            worker          4               0d00h02m39s     2.6.12-1+deb12u4
# programs
55              dataplane       0               0d00h02m39s     -`
	for _, prompt := range []string{"master", "master[ReloadFailed]"} {
		f := newFake(t, prompt, func(*fake, net.Conn, string, []string) string { return answer })
		f.socket.Timeout = time.Second
		conn, err := f.socket.Master(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p, err := conn.Processes(t.Context())
		_ = conn.Close()
		if err != nil || p.Reloads != 4 || p.Failed != 2 || len(p.Workers) != 1 || p.Workers[0] != 1911 || len(p.Old) != 2 {
			t.Errorf("prompt %s: %+v %v", prompt, p, err)
		}
	}
	for _, bad := range []string{"", "nonsense", "#<PID>\n# workers\n1 worker 0\n"} {
		if p, err := parseProcesses(bad); err == nil {
			t.Errorf("%q: %+v, expected an error", bad, p)
		}
	}
}

func TestMaster_reloadVerdicts(t *testing.T) {
	for name, tt := range map[string]struct {
		answer string
		want   Verdict
		ok     bool
	}{
		"2.6 closes":        {"", Verdict{}, true},
		"2.7 success":       {"Success=1\n", Verdict{Known: true, Success: true}, true},
		"3.0 with logs":     {"Success=1\n--\n[NOTICE] loading\n", Verdict{Known: true, Success: true}, true},
		"2.7 failure":       {"Success=0\n--\n[ALERT] (1) : config : boom\n", Verdict{Known: true, Log: "[ALERT] (1) : config : boom"}, true},
		"3.1 in another":    {"Success=0\n--\nAnother reload is still in progress.\n", Verdict{Busy: true}, true},
		"permission denied": {"Permission denied\n", Verdict{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "m")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close() //nolint:errcheck // A test.
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				buf := make([]byte, 100)
				n, _ := c.Read(buf)
				if string(buf[:n]) == "reload\n" {
					_, _ = c.Write([]byte(tt.answer))
				}
				_ = c.Close()
			}()
			v, err := Socket{Path: path}.Reload(t.Context(), time.Second)
			if v != tt.want || (err == nil) != tt.ok {
				t.Errorf("%+v %v, expected %+v", v, err, tt.want)
			}
		})
	}
}
