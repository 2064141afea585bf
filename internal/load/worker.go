package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// worker is one client: at most one connection, at most one request at a time.
type worker struct {
	opt     Options
	client  Client
	request []byte
	keep    bool // keep the connection for the next request

	conn   net.Conn
	source *source // reads conn
	reader *bufio.Reader
}

// source remembers why reading ended. The HTTP parser calls a head that breaks
// off malformed, whether the connection was cut, reset or too slow.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// result is what became of one request.
type result struct {
	client     Client
	began      time.Time
	took       time.Duration
	status     int    // 0 when there was no complete answer
	server     string // who says to have answered
	kind       Kind   // "" when there was a complete answer
	err        error
	dialled    bool // a connection was opened for it
	idleClosed bool // the kept connection had been closed before anything was sent
}

func (r result) failed() bool { return r.kind != "" || r.status >= http.StatusBadRequest }

// exchange sends one request and reads one answer. Nothing in it is ever tried
// again.
func (w *worker) exchange(ctx context.Context) result {
	result := result{client: w.client, began: time.Now()}
	ctx, cancel := context.WithDeadline(ctx, result.began.Add(w.opt.Timeout))
	defer cancel()

	if w.conn != nil && peerClosed(w.conn) {
		// The server closed an idle connection, as it may, and we know it before
		// we send: opening another one repeats nothing.
		result.idleClosed = true
		w.hangUp()
	}
	if w.conn == nil {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", w.opt.Address)
		if err != nil {
			result.fail(fmt.Errorf("connect: %w", err), false)
			return result
		}
		result.dialled = true
		w.conn, w.source = conn, &source{Reader: conn}
		w.reader = bufio.NewReader(w.source)
	}
	w.answer(ctx, &result)
	if result.kind != "" || !w.keep {
		w.hangUp()
	}
	return result
}

// answer sends the request over the open connection and reads what comes back.
func (w *worker) answer(ctx context.Context, result *result) {
	conn := w.conn
	unwatch := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0)) // Wakes reads and writes at once.
	})
	defer func() {
		if !unwatch() {
			w.hangUp() // Its deadline has passed: the next request could not use it.
		}
	}()
	if _, err := conn.Write(w.request); err != nil {
		result.fail(fmt.Errorf("send: %w", err), false)
		return
	}
	if _, err := w.reader.Peek(1); err != nil {
		result.fail(fmt.Errorf("wait for the answer: %w", err), false)
		return
	}
	response, err := readFinal(w.reader)
	if err != nil {
		if w.source.err != nil {
			err = w.source.err
		}
		result.fail(fmt.Errorf("read the answer: %w", err), true)
		return
	}
	result.server = response.Header.Get(w.opt.ServedBy)
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		result.fail(fmt.Errorf("read the body after status %d: %w", response.StatusCode, err), true)
		return
	}
	result.status, result.took = response.StatusCode, time.Since(result.began)
	if w.keep && !response.Close && response.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	if response.Close {
		// The server closes; letting it go first leaves TIME_WAIT on its side, so
		// that thousands of connections a second do not use up our ports.
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, w.reader)
	}
	w.hangUp()
}

// readFinal reads one answer, passing over the interim ones (1xx).
func readFinal(reader *bufio.Reader) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
}

// hangUp closes the connection, if there is one.
func (w *worker) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn, w.source, w.reader = nil, nil, nil
	}
}

// peerClosed says, without waiting, whether the other side has closed the
// connection or broken the protocol by sending what nobody asked for.
func peerClosed(conn net.Conn) bool {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
		return true
	})
	return err != nil || closed
}

// fail notes a failure. began says whether any byte of the answer had come.
func (r *result) fail(err error, began bool) {
	r.err, r.kind, r.took = err, kindOf(err, began), time.Since(r.began)
}

// kindOf sorts an error.
func kindOf(err error, began bool) Kind {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return Timeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Unreachable
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return NoPort
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if began {
			return Cut
		}
		return EOF
	case began:
		return Malformed
	default:
		return Other
	}
}
