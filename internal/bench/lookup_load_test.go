//go:build bench

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// question is a request, and how its answer ends when the right server has given it.
type question struct{ request, answer []byte }

// asker asks questions in turn over kept connections, on each the next as soon as the last is
// answered, and takes no answer but the right one. It does so in one thread that waits for all of
// them: nearly all that a request costs is then the proxy's, and a load may last milliseconds.
type asker struct {
	address   unix.SockaddrInet4
	questions []question
	next      int

	poll  int
	conns map[int32]*asking
}

// asking is one of its connections.
type asking struct {
	fd   int
	want []byte
	got  []byte
}

func newAsker(address string, questions []question) (*asker, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &asker{
		address: unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}, questions: questions,
		poll: poll, conns: make(map[int32]*asking),
	}, err
}

// connect opens connections.
func (a *asker) connect(n int) error {
	for range n {
		if err := a.open(&asking{got: make([]byte, 0, 4096)}); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) open(c *asking) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.fd = fd
	a.conns[int32(fd)] = c
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Connect(fd, &a.address),
		unix.SetNonblock(fd, true),
		unix.EpollCtl(a.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}),
	)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func (a *asker) close(c *asking) {
	_ = unix.Close(c.fd)
	delete(a.conns, int32(c.fd))
}

// end closes everything.
func (a *asker) end() {
	for _, c := range a.conns {
		a.close(c)
	}
	_ = unix.Close(a.poll)
}

// ask asks for a time, and returns when the last question is answered.
func (a *asker) ask(d time.Duration) (answers int, took time.Duration, err error) {
	start := time.Now()
	open := 0
	for _, c := range a.conns {
		if err := a.send(c); err != nil {
			return 0, 0, err
		}
		open++
	}
	events := make([]unix.EpollEvent, len(a.conns))
	for open > 0 {
		n, err := unix.EpollWait(a.poll, events, 5000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return answers, 0, a.unanswered(err)
		}
		over := time.Since(start) >= d
		for _, e := range events[:n] {
			c := a.conns[e.Fd]
			done, err := a.read(c)
			if err != nil {
				return answers, 0, err
			}
			if !done {
				continue
			}
			answers++
			if over {
				open--
			} else if err := a.send(c); err != nil {
				return answers, 0, err
			}
		}
	}
	return answers, time.Since(start), nil
}

// unanswered says what has come of an answer that did not end as it should.
func (a *asker) unanswered(err error) error {
	for _, c := range a.conns {
		if len(c.want) > 0 {
			return fmt.Errorf("no answer that ends with %q within 5 s, but %q: %w", c.want, c.got, errors.Join(err, os.ErrDeadlineExceeded))
		}
	}
	return err
}

func (a *asker) send(c *asking) error {
	q := a.questions[a.next]
	a.next = (a.next + 1) % len(a.questions)
	c.want, c.got = q.answer, c.got[:0]
	if n, err := unix.Write(c.fd, q.request); err != nil || n < len(q.request) {
		return fmt.Errorf("send %d bytes of %q: %w", n, q.request, err)
	}
	return nil
}

var closing = []byte("Connection: close")

// read reads what has come, and reports whether the answer is complete. A proxy may close a
// connection after an answer, if it says so: nginx does after a thousand.
func (a *asker) read(c *asking) (done bool, err error) {
	n, err := unix.Read(c.fd, c.got[len(c.got):cap(c.got)])
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	if err != nil || n == 0 {
		return false, fmt.Errorf("the connection was cut after %q of an answer: %w", c.got, err)
	}
	c.got = c.got[:len(c.got)+n]
	if !bytes.HasSuffix(c.got, c.want) {
		return false, nil
	}
	c.want = nil
	if bytes.Contains(c.got, closing) || bytes.Contains(c.got, bytes.ToLower(closing)) {
		a.close(c)
		return true, a.open(c)
	}
	return true, nil
}

// leave has all threads of this process leave the measured proxies' processor alone.
func leave(t *testing.T) {
	t.Helper()
	if runtime.NumCPU() == 1 {
		return
	}
	var others unix.CPUSet
	for i := 1; i < runtime.NumCPU(); i++ {
		others.Set(i)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads { // those to come are as the one that makes them
		id, err := strconv.Atoi(thread.Name())
		if err == nil {
			err = unix.SchedSetaffinity(id, &others)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}
