package load

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a listener whose connections a test plays by hand.
type server struct {
	address  string
	requests atomic.Int64 // read completely
}

// serve starts a server. play gets each connection's number, the number of the
// request on it (both from 0) and the connection after a request was read, and
// says whether to read another.
func serve(t *testing.T, play func(conn *net.TCPConn, nth, request int) bool) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: listener.Addr().String()}
	closing, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(closing); _ = listener.Close(); <-done })
	go func() {
		defer close(done)
		for nth := 0; ; nth++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				for request := 0; ; request++ {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					s.requests.Add(1)
					if !play(conn.(*net.TCPConn), nth, request) {
						return
					}
				}
			}()
		}
	}()
	return s
}

const okAnswer = "HTTP/1.1 200 OK\r\nX-Served-By: web-1\r\nContent-Length: 2\r\n\r\nok"

func say(conn net.Conn, text string) bool {
	_, err := io.WriteString(conn, text)
	return err == nil
}

// run runs to the end.
func run(t *testing.T, opt Options) Report {
	t.Helper()
	r, err := Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r.Wait()
}

func TestKinds(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	_ = listener.Close()

	plays := map[string]struct {
		play func(*net.TCPConn, int, int) bool
		want Kind
	}{
		"closed before an answer": {func(*net.TCPConn, int, int) bool { return false }, EOF},
		"reset before an answer":  {func(c *net.TCPConn, _, _ int) bool { _ = c.SetLinger(0); return false }, Reset},
		"closed within the head":  {func(c *net.TCPConn, _, _ int) bool { say(c, okAnswer[:20]); return false }, Cut},
		"closed within the body":  {func(c *net.TCPConn, _, _ int) bool { say(c, okAnswer[:len(okAnswer)-1]); return false }, Cut},
		"closed within a chunk": {func(c *net.TCPConn, _, _ int) bool {
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
			return false
		}, Cut},
		"closed between chunks": {func(c *net.TCPConn, _, _ int) bool {
			say(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
			return false
		}, Cut},
		"no answer":       {func(*net.TCPConn, int, int) bool { return true }, Timeout},
		"half an answer":  {func(c *net.TCPConn, _, _ int) bool { return say(c, okAnswer[:20]) }, Timeout},
		"another dialect": {func(c *net.TCPConn, _, _ int) bool { say(c, "220 mail.example.com ESMTP\r\n\r\n"); return false }, Malformed},
	}
	for name, test := range plays {
		for _, client := range []Client{KeepAlive, NewConnection} {
			t.Run(name+"/"+string(client), func(t *testing.T) {
				s := serve(t, test.play)
				opt := Options{Address: s.address, Requests: 3, Timeout: 100 * time.Millisecond}
				if client == KeepAlive {
					opt.KeepAlive = 1
				} else {
					opt.NewConn = 1
				}
				report := run(t, opt)
				if want := map[Kind]int64{test.want: 3}; !maps.Equal(report.Errors, want) {
					t.Errorf("errors %v, want %v; %v", report.Errors, want, report.Failures)
				}
				if report.Failed != 3 || len(report.Status) != 0 || report.Clients[client].Failed != 3 {
					t.Errorf("failed %d (%v), status %v; want 3 failed and no status", report.Failed, report.Clients, report.Status)
				}
				if got := s.requests.Load(); got != 3 {
					t.Errorf("the server saw %d requests, want 3", got)
				}
			})
		}
	}
	t.Run("nobody listens", func(t *testing.T) {
		report := run(t, Options{Address: nobody, KeepAlive: 1, Requests: 2})
		if report.Errors[Refused] != 2 || report.Connections != 0 {
			t.Errorf("errors %v, %d connections; want 2 refused and none", report.Errors, report.Connections)
		}
	})
}

// A server that cuts every third request on a kept connection is the case that
// net/http's Transport hides by asking again. The control shows that the server
// would unmask us, too.
func TestNeverAsksTwice(t *testing.T) {
	play := func(conn *net.TCPConn, _, request int) bool {
		return request < 2 && say(conn, okAnswer)
	}

	control := serve(t, play)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 9 {
		response, err := client.Get("http://" + control.address)
		if err != nil {
			t.Fatalf("control: %v", err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	if got := control.requests.Load(); got <= 9 {
		t.Fatalf("control: the server saw %d requests for 9 calls: it would not notice a second try", got)
	}

	s := serve(t, play)
	report := run(t, Options{Address: s.address, KeepAlive: 1, Requests: 9})
	if got := s.requests.Load(); got != 9 || report.Requests != 9 {
		t.Errorf("the server saw %d requests, the report says %d; want 9", got, report.Requests)
	}
	if report.Failed != 3 || report.Errors[EOF] != 3 || report.Status[200] != 6 || report.Connections != 3 {
		t.Errorf("want 6 answers and 3 eof over 3 connections, got %+v", report)
	}
}

// A connection that the server closed while nothing was under way is replaced,
// counted, and is no failure.
func TestIdleClose(t *testing.T) {
	s := serve(t, func(conn *net.TCPConn, _, _ int) bool { say(conn, okAnswer); return false })
	opt, err := Options{Address: s.address, KeepAlive: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	request, err := opt.request(false)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{opt: opt, client: KeepAlive, request: request, keep: true}
	defer w.hangUp()
	if first := w.exchange(t.Context()); first.failed() || !first.dialled || first.idleClosed {
		t.Fatalf("the first request: %+v", first)
	}
	for deadline := time.Now().Add(5 * time.Second); !peerClosed(w.conn); {
		if time.Now().After(deadline) {
			t.Fatal("the close was not noticed")
		}
	}
	if second := w.exchange(t.Context()); second.failed() || !second.dialled || !second.idleClosed {
		t.Errorf("the second request: %+v, want an answer over a new connection", second)
	}
	if s.requests.Load() != 2 {
		t.Errorf("the server saw %d requests, want 2", s.requests.Load())
	}
}

func TestConnectionsPerClient(t *testing.T) {
	var opened atomic.Int64
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", "web-"+r.URL.Query().Get("n"))
		fmt.Fprint(w, r.Host)
	}))
	web.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	web.Start()
	defer web.Close()
	address := web.Listener.Addr().String()

	report := run(t, Options{Address: address, Path: "/?n=7", KeepAlive: 2, Requests: 100})
	if report.Failed != 0 || report.Status[200] != 100 || report.Servers["web-7"] != 100 {
		t.Errorf("keep-alive: want 100 answers of web-7, got %+v", report)
	}
	if opened.Load() > 2 || report.Connections != opened.Load() {
		t.Errorf("keep-alive: %d connections opened, %d reported; want 2 at most", opened.Load(), report.Connections)
	}

	opened.Store(0)
	report = run(t, Options{Address: address, NewConn: 3, Requests: 100})
	if report.Failed != 0 || opened.Load() != 100 || report.Connections != 100 {
		t.Errorf("new connections: %d opened, %+v; want 100", opened.Load(), report)
	}
}

// Connection: close is an order, not an idle close and not a failure.
func TestServerAsksToClose(t *testing.T) {
	s := serve(t, func(conn *net.TCPConn, _, _ int) bool {
		say(conn, strings.Replace(okAnswer, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
		return false
	})
	report := run(t, Options{Address: s.address, KeepAlive: 1, Requests: 3})
	if report.Failed != 0 || report.Connections != 3 || report.IdleClosed != 0 {
		t.Errorf("want 3 answers over 3 connections, got %+v", report)
	}
}

func TestInterimAnswers(t *testing.T) {
	s := serve(t, func(conn *net.TCPConn, _, _ int) bool {
		return say(conn, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+okAnswer)
	})
	report := run(t, Options{Address: s.address, KeepAlive: 1, Requests: 2})
	if report.Failed != 0 || report.Status[200] != 2 {
		t.Errorf("want 2 answers of 200, got %+v", report)
	}
}

func TestStatus(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "cluster.test" || r.Header.Get("Connection") != "close" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.Header().Set("Instance", "b")
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer web.Close()
	report := run(t, Options{
		Address: web.Listener.Addr().String(), Host: "cluster.test", NewConn: 1, Requests: 2, ServedBy: "Instance",
	})
	if report.Failed != 2 || report.Status[502] != 2 || len(report.Errors) != 0 || report.Servers["b"] != 2 {
		t.Errorf("want 2 failed with status 502 by b, got %+v", report)
	}
	if f := report.Failures; len(f) != 2 || f[0].Status != 502 || f[0].Server != "b" {
		t.Errorf("failures %+v, want the two 502 of b", f)
	}
}

func TestStop_finishesWhatRuns(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serve(t, func(conn *net.TCPConn, _, _ int) bool {
		close(entered)
		<-release
		return say(conn, okAnswer)
	})
	r, err := Start(t.Context(), Options{Address: s.address, KeepAlive: 1})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	stopped := make(chan Report)
	go func() { stopped <- r.Stop() }()
	select {
	case report := <-stopped:
		t.Fatalf("did not wait for the request under way: %+v", report)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if report := <-stopped; report.Requests != 1 || report.Failed != 0 {
		t.Errorf("want 1 answer, got %+v", report)
	}
}

func TestContext_abortsUncounted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	s := serve(t, func(*net.TCPConn, int, int) bool { close(entered); return true })
	r, err := Start(ctx, Options{Address: s.address, KeepAlive: 1, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	cancel()
	if report := r.Wait(); report.Requests != 0 {
		t.Errorf("the aborted request was counted: %+v", report)
	}
}

func TestBounds(t *testing.T) {
	s := serve(t, func(conn *net.TCPConn, _, _ int) bool { return say(conn, okAnswer) })
	t.Run("duration", func(t *testing.T) {
		report := run(t, Options{Address: s.address, KeepAlive: 1, Duration: 100 * time.Millisecond})
		if report.ElapsedMS < 50 || report.ElapsedMS > 5000 || report.Requests < 2 {
			t.Errorf("%d requests in %.0f ms", report.Requests, report.ElapsedMS)
		}
	})
	t.Run("requests", func(t *testing.T) {
		report := run(t, Options{Address: s.address, KeepAlive: 3, NewConn: 2, Requests: 57})
		if report.Requests != 57 {
			t.Errorf("%d requests, want 57", report.Requests)
		}
	})
	t.Run("rate", func(t *testing.T) {
		// The time of 400 random gaps of 1 ms each strays by 5 %; here by 30 %.
		report := run(t, Options{Address: s.address, KeepAlive: 4, Requests: 401, Rate: 1000})
		if report.ElapsedMS < 280 || report.ElapsedMS > 5000 {
			t.Errorf("401 requests at 1000/s took %.0f ms, want about 400", report.ElapsedMS)
		}
	})
	t.Run("an outage does not spin", func(t *testing.T) {
		cut := serve(t, func(*net.TCPConn, int, int) bool { return false })
		report := run(t, Options{Address: cut.address, KeepAlive: 1, Duration: 200 * time.Millisecond})
		if report.Requests > 21 || report.Requests < 1 {
			t.Errorf("%d requests in 200 ms of failures, want at most one each 10 ms", report.Requests)
		}
	})
}

func TestOptions_refused(t *testing.T) {
	good := Options{Address: "127.0.0.1:80", KeepAlive: 1}
	for name, spoil := range map[string]func(*Options){
		"no port":           func(o *Options) { o.Address = "127.0.0.1" },
		"no worker":         func(o *Options) { o.KeepAlive = 0 },
		"negative workers":  func(o *Options) { o.NewConn = -1; o.KeepAlive = 2 },
		"negative duration": func(o *Options) { o.Duration = -1 },
		"relative path":     func(o *Options) { o.Path = "shop" },
		"path with a host":  func(o *Options) { o.Path = "http://a/b" },
		"path with a break": func(o *Options) { o.Path = "/ HTTP/1.1\r\nX: y" },
	} {
		opt := good
		spoil(&opt)
		if _, err := Start(t.Context(), opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for n := 1; n <= 1000; n++ {
		h.add(time.Duration(n) * time.Millisecond)
	}
	got := h.latency()
	for _, q := range []struct{ got, want float64 }{{got.P50, 500}, {got.P90, 900}, {got.P99, 990}} {
		if q.got < q.want*.98 || q.got > q.want*1.02 {
			t.Errorf("quantile %.1f, want %.0f within two per cent", q.got, q.want)
		}
	}
	if got.Max != 1000 {
		t.Errorf("max %v, want 1000", got.Max)
	}
	h.add(0)
	h.add(24 * time.Hour)
	if got := h.quantile(1); got != 24*time.Hour {
		t.Errorf("the largest is %s, want 24h", got)
	}
	if (&histogram{}).quantile(.5) != 0 {
		t.Error("nothing measured, but a median")
	}
}

func TestReport_formats(t *testing.T) {
	s := serve(t, func(conn *net.TCPConn, nth, request int) bool {
		return nth == 0 && request < 2 && say(conn, okAnswer)
	})
	report := run(t, Options{Address: s.address, KeepAlive: 1, Requests: 30})
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"requests   30 in ", "failed 28\n", "keep-alive: 30, failed 28", "status     200: 2\n", "errors     eof: 28\n",
		"served by  web-1: 2\n", "keep-alive: eof: wait for the answer: EOF", "and 8 more",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, &text)
		}
	}
	document, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(document, &back); err != nil {
		t.Fatal(err)
	}
	if back.Failed != 28 || !maps.Equal(back.Errors, report.Errors) || !slices.Equal(back.Failures, report.Failures) {
		t.Errorf("JSON lost something: %s", document)
	}
}
