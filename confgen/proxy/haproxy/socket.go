package haproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"
)

// MaxMessage is the most that is sent to HAProxy at once, in bytes. One message above the
// 16,384 bytes of its default buffer hangs or ends the process, so stay well below.
const MaxMessage = 8 << 10

// maxAnswer bounds what is read for one command: 10,000 servers need about 1.5 MB.
const maxAnswer = 64 << 20

// DefaultTimeout is how long HAProxy may take for one answer.
const DefaultTimeout = 3 * time.Second

// Socket is a stats socket or a master socket on the file system.
type Socket struct {
	Path    string
	Timeout time.Duration // for each answer; 0 for DefaultTimeout
}

// CommandError is a command that HAProxy answered with a refusal.
type CommandError struct {
	Command string // its first line
	Text    string // HAProxy's own words
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("haproxy refused %q: %s", e.Command, e.Text)
}

// Absent reports whether err means that nobody listens on the socket: HAProxy is not running,
// or is a master in the middle of executing itself again.
func Absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// Conn is an interactive session with one process. A connection outlives a reload and then
// speaks with the old worker, so use it for one look and make a new one for the next.
type Conn struct {
	conn     net.Conn
	timeout  time.Duration
	prompt   string // what stands before "> "
	buffer   []byte // for reading
	Commands int    // sent so far that were meant to change something
}

// Worker opens a session on a stats socket.
func (s Socket) Worker(ctx context.Context) (*Conn, error) {
	c, err := s.dial(ctx, "")
	if err != nil {
		return nil, err
	}
	if _, err := c.Ask(ctx, "set severity-output number"); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// Master opens a session on a master socket.
func (s Socket) Master(ctx context.Context) (*Conn, error) {
	return s.dial(ctx, "master")
}

// dial connects and turns the prompt on: it marks the end of an answer, which tells a whole
// answer from a cut one.
func (s Socket) dial(ctx context.Context, prompt string) (*Conn, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	conn := &Conn{conn: c, timeout: s.timeout(), prompt: prompt, buffer: make([]byte, 16<<10)}
	if _, err := conn.exchange(ctx, "prompt\n"); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open session on %s: %w", s.Path, err)
	}
	return conn, nil
}

func (s Socket) connect(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: s.timeout()}
	c, err := dialer.DialContext(ctx, "unix", s.Path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("connect to haproxy: %w (give confgen's user or group access: add `mode 660 group NAME` to the socket)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to haproxy: %w", err)
	}
	return c, nil
}

func (s Socket) timeout() time.Duration {
	if s.Timeout > 0 {
		return s.Timeout
	}
	return DefaultTimeout
}

// Close ends the session.
func (c *Conn) Close() error { return c.conn.Close() }

// Ask sends a command that changes nothing and returns its answer.
func (c *Conn) Ask(ctx context.Context, command string) (string, error) {
	return c.send(ctx, command, nil)
}

// Do sends a command that changes something, with an optional payload of whole lines, and
// counts it.
func (c *Conn) Do(ctx context.Context, command string, payload ...string) (string, error) {
	c.Commands++
	return c.send(ctx, command, payload)
}

func (c *Conn) send(ctx context.Context, command string, payload []string) (string, error) {
	message, err := frame(command, payload)
	if err != nil {
		return "", err
	}
	answer, err := c.exchange(ctx, message)
	if err != nil {
		return "", fmt.Errorf("ask haproxy %q: %w", command, err)
	}
	// While it takes in a payload, HAProxy prompts with "+ " for every line.
	for range len(payload) + 2 {
		rest, found := strings.CutPrefix(answer, "+ ")
		if len(payload) == 0 || !found {
			break
		}
		answer = rest
	}
	return judge(command, answer)
}

// frame refuses what would become another command, or would end a payload early.
func frame(command string, payload []string) (string, error) {
	if strings.ContainsAny(command, "\n\r\x00") {
		return "", fmt.Errorf("ask haproxy %q: line break in a command", command)
	}
	message := command + "\n"
	if len(payload) > 0 {
		for _, line := range payload {
			if line == "" || strings.ContainsAny(line, "\n\r\x00") {
				return "", fmt.Errorf("ask haproxy %q: payload line %q is empty or has a line break", command, line)
			}
		}
		message = command + " <<\n" + strings.Join(payload, "\n") + "\n\n"
	}
	if len(message) > MaxMessage {
		return "", fmt.Errorf("ask haproxy %.60q: message of %d bytes is over %d", command, len(message), MaxMessage)
	}
	return message, nil
}

// exchange writes message and reads until the prompt. Cancelling ctx ends it at once.
func (c *Conn) exchange(ctx context.Context, message string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := c.conn.Write([]byte(message)); err != nil {
		return "", errors.Join(ctx.Err(), err)
	}
	answer, err := c.read()
	if err != nil {
		return "", errors.Join(ctx.Err(), err)
	}
	return answer, nil
}

// read returns what comes before the next prompt.
func (c *Conn) read() (string, error) {
	var answer []byte
	for {
		n, err := c.conn.Read(c.buffer)
		answer = append(answer, c.buffer[:n]...)
		if body, ok := c.complete(answer); ok {
			return body, nil
		}
		if err != nil {
			return "", fmt.Errorf("answer cut after %d bytes: %w", len(answer), err)
		}
		if len(answer) > maxAnswer {
			return "", fmt.Errorf("answer over %d bytes", maxAnswer)
		}
	}
}

// complete looks for the prompt at the end: "> " of a worker; "master> " of a master, which
// becomes "master[ReloadFailed]> " after a failed reload.
func (c *Conn) complete(answer []byte) (string, bool) {
	last := bytes.LastIndexByte(answer, '\n') + 1
	prompt, found := bytes.CutSuffix(answer[last:], []byte("> "))
	if !found || !bytes.HasPrefix(prompt, []byte(c.prompt)) || c.prompt == "" && len(prompt) > 0 {
		return "", false
	}
	return strings.TrimRight(string(answer[:last]), "\n"), true
}

// judge separates data from refusals. With severity output on, HAProxy writes "[3]: text" in
// front of messages; 3 and below are errors. "Unknown command" is rated 6, and the master does
// not rate at all.
func judge(command, answer string) (string, error) {
	text, severity := answer, 7
	if len(answer) > 4 && answer[0] == '[' && answer[2] == ']' && answer[1] >= '0' && answer[1] <= '7' {
		severity = int(answer[1] - '0')
		text = strings.TrimSpace(answer[4:])
	}
	if severity <= 3 || strings.HasPrefix(text, "Unknown command") || strings.HasPrefix(text, "Permission denied") {
		first, _, _ := strings.Cut(text, "\n")
		return "", &CommandError{Command: command, Text: first}
	}
	return text, nil
}
