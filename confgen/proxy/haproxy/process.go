package haproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Info is what a worker says of itself.
type Info struct {
	Version     string // "2.6.12-1+deb12u4"
	PID         int    // in the process id namespace of HAProxy: never signal it
	Stopping    bool   // an old worker that only ends what it has
	Description string // `description` of the global section
	Started     string // seconds since 1970
}

// Info asks a worker who it is.
func (c *Conn) Info(ctx context.Context) (Info, error) {
	return c.info(ctx, "show info")
}

// ErrNoWorker means that who was asked is no worker: since HAProxy 3.1 a master answers before its
// first worker has loaded.
var ErrNoWorker = errors.New("haproxy's worker does not answer yet")

// WorkerInfo asks the newest worker through the master who it is.
func (c *Conn) WorkerInfo(ctx context.Context) (Info, error) {
	return c.info(ctx, "@1 show info")
}

func (c *Conn) info(ctx context.Context, command string) (Info, error) {
	answer, err := c.Ask(ctx, command)
	if err != nil {
		return Info{}, err
	}
	var info Info
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Version":
			info.Version = value
		case "Pid":
			info.PID, _ = strconv.Atoi(value)
		case "Stopping":
			info.Stopping = value != "0"
		case "Start_time_sec":
			info.Started = value
		case "description":
			info.Description = value
		}
	}
	if info.PID == 0 {
		return Info{}, fmt.Errorf("ask haproxy %q: no process id in an answer of %d bytes: %w", command, len(answer), ErrNoWorker)
	}
	return info, nil
}

// Processes is the master's `show proc`.
type Processes struct {
	Reloads int   // reloads that the master has begun
	Failed  int   // how many of the last ones failed in a row
	Workers []int // process ids of the current worker, or none while one is being made
	Old     []int // process ids of workers that only end what they have
}

// Processes asks a master for its workers.
func (c *Conn) Processes(ctx context.Context) (Processes, error) {
	answer, err := c.Ask(ctx, "show proc")
	if err != nil {
		return Processes{}, err
	}
	return parseProcesses(answer)
}

func parseProcesses(answer string) (Processes, error) {
	var p Processes
	var section string
	master := false
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if title, found := strings.CutPrefix(line, "# "); found {
			section = title
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 || strings.HasPrefix(line, "#") {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil {
			return Processes{}, fmt.Errorf("read haproxy's process list: line %q", line)
		}
		switch {
		case fields[1] == "master":
			master = true
			p.Reloads, _ = strconv.Atoi(fields[2])
			if _, rest, found := strings.Cut(line, "[failed: "); found {
				number, _, _ := strings.Cut(rest, "]")
				p.Failed, _ = strconv.Atoi(number)
			}
		case section == "workers":
			p.Workers = append(p.Workers, pid)
		case section == "old workers":
			p.Old = append(p.Old, pid)
		}
	}
	if !master {
		return Processes{}, fmt.Errorf("read haproxy's process list: no master in an answer of %d bytes", len(answer))
	}
	return p, nil
}

// Verdict is what a master says about a reload that it was asked for.
type Verdict struct {
	Known   bool   // HAProxy 2.7 and newer tell; 2.6 closes the connection and executes itself
	Success bool   // only when Known
	Busy    bool   // another reload is under way, of which this is no verdict (3.1 and newer)
	Log     string // HAProxy's own words, when it refused
}

// Reload asks the master of s to load its configuration. It waits at most patience for the
// verdict; no verdict is not an error.
func (s Socket) Reload(ctx context.Context, patience time.Duration) (Verdict, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return Verdict{}, err
	}
	defer conn.Close() //nolint:errcheck // Nothing is lost with it.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return Verdict{}, fmt.Errorf("ask haproxy to reload: %w", err)
	}
	if _, err := conn.Write([]byte("reload\n")); err != nil {
		return Verdict{}, fmt.Errorf("ask haproxy to reload: %w", err)
	}
	return readVerdict(ctx, conn)
}

func readVerdict(ctx context.Context, conn net.Conn) (Verdict, error) {
	r := bufio.NewReader(io.LimitReader(conn, 1<<20))
	first, err := r.ReadString('\n')
	switch first = strings.TrimSpace(first); {
	case first == "Success=1":
		return Verdict{Known: true, Success: true}, nil
	case first == "Success=0":
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		rest, _ := io.ReadAll(r) // The verdict stands, whatever is missing of its reasons.
		said := strings.TrimSpace(strings.TrimPrefix(string(rest), "--"))
		if strings.HasPrefix(said, "Another reload is still in progress") {
			return Verdict{Busy: true}, nil
		}
		return Verdict{Known: true, Log: said}, nil
	case first != "":
		return Verdict{}, &CommandError{Command: "reload", Text: first}
	}
	if ctx.Err() != nil {
		return Verdict{}, ctx.Err()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return Verdict{}, fmt.Errorf("ask haproxy to reload: %w", err)
	}
	return Verdict{}, nil
}
