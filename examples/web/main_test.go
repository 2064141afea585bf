package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram makes the test binary behave as the program itself, so that a test
// can send signals to a real process.
const asProgram = "WEB_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is the program as its own process, listening on address.
type process struct {
	*exec.Cmd
	address string
	output  *bytes.Buffer
	exited  chan error
}

// start runs the program on a free port and waits until it serves.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-listen", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, output: new(bytes.Buffer), exited: make(chan error, 1)}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.output.WriteString(lines.Text() + "\n")
		if _, rest, ok := strings.Cut(lines.Text(), "serving on "); ok {
			p.address, _, _ = strings.Cut(rest, " ")
			break
		}
	}
	if p.address == "" {
		t.Fatalf("the program did not start:\n%s", p.output)
	}
	go func() {
		_, _ = io.Copy(p.output, stderr)
		p.exited <- cmd.Wait()
	}()
	return p
}

// exitCode waits for the end of the process.
func (p *process) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.exited:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.ProcessState.ExitCode()
	case <-time.After(10 * time.Second):
		t.Fatalf("still running:\n%s", p.output)
		return -1
	}
}

func (p *process) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// get asks once over a connection of its own.
func get(url string) (status int, closed bool, err error) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get(url)
	if err != nil {
		return 0, false, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, response.Close, err
}

// waitDraining polls until the health check fails.
func waitDraining(t *testing.T, base string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		if status, _, err := get(base + "/healthz"); err == nil && status == http.StatusServiceUnavailable {
			return
		}
	}
	t.Fatal("/healthz did not become 503 after SIGTERM")
}

func TestSIGTERM_keepsServingThenFinishes(t *testing.T) {
	p := start(t, "-drain", "1s")
	base := "http://" + p.address

	slow := make(chan error, 1)
	go func() {
		status, _, err := get(base + "/slow?ms=2000") // Outlasts the drain.
		if err == nil && status != http.StatusOK {
			err = errors.New(http.StatusText(status))
		}
		slow <- err
	}()
	if status, closed, err := get(base + "/"); err != nil || status != http.StatusOK || closed {
		t.Fatalf("before SIGTERM: status %d, asks to close %v, %v", status, closed, err)
	}

	p.signal(t, syscall.SIGTERM)
	waitDraining(t, base)
	status, closed, err := get(base + "/")
	if err != nil || status != http.StatusOK {
		t.Errorf("while draining: status %d, %v; want 200", status, err)
	}
	if !closed {
		t.Error("while draining: the answer does not ask to close the connection")
	}
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if code := p.exitCode(t); code != exitOK {
		t.Errorf("exit code %d, want %d:\n%s", code, exitOK, p.output)
	}
	if _, _, err := get(base + "/"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the end: %v, want connection refused", err)
	}
}

func TestSIGTERM_abrupt(t *testing.T) {
	p := start(t, "-abrupt", "-drain", "1h")
	conn, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGTERM)
	if code := p.exitCode(t); code != exitTerminated {
		t.Errorf("exit code %d, want %d", code, exitTerminated)
	}
	if answer, _ := io.ReadAll(conn); len(answer) != 0 {
		t.Errorf("answered %q, want a cut connection", answer)
	}
}

func TestSIGTERM_twiceEndsTheDrain(t *testing.T) {
	p := start(t, "-drain", "1h")
	p.signal(t, syscall.SIGTERM)
	waitDraining(t, "http://"+p.address)
	p.signal(t, syscall.SIGTERM)
	if code := p.exitCode(t); code != exitTerminated {
		t.Errorf("exit code %d, want %d", code, exitTerminated)
	}
}

func TestSIGTERM_graceIsBounded(t *testing.T) {
	signals := make(chan os.Signal, 1)
	listener := listen(t)
	code := make(chan int, 1)
	opt := options{name: "web-1", grace: 50 * time.Millisecond}
	go func() { code <- serve(listener, opt, signals, log.New(io.Discard, "", 0)) }()

	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /slow?ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// A later answer proves that the first request was accepted.
	if _, _, err := get("http://" + listener.Addr().String() + "/"); err != nil {
		t.Fatal(err)
	}
	signals <- syscall.SIGTERM
	select {
	case got := <-code:
		if got != exitRuntime {
			t.Errorf("exit code %d, want %d", got, exitRuntime)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("waits for a request beyond -grace")
	}
}

func TestHealthcheck(t *testing.T) {
	p := start(t, "-drain", "1h")
	_, port, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	check := func(want int) {
		t.Helper()
		var stderr strings.Builder
		if got := run([]string{"-healthcheck", "-listen", ":" + port}, &stderr); got != want {
			t.Errorf("exit code %d, want %d: %s", got, want, &stderr)
		}
	}
	check(exitOK)
	p.signal(t, syscall.SIGTERM)
	waitDraining(t, "http://"+p.address)
	check(exitRuntime)
	p.signal(t, syscall.SIGTERM)
	p.exitCode(t)
	check(exitRuntime)
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"-dran", "1s"},
		{"-drain", "soon"},
		{"-drain", "-1s"},
		{"serve"},
	} {
		var stderr strings.Builder
		if code := run(args, &stderr); code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", args, code, exitUsage)
		}
		if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "web: ") {
			t.Errorf("%q: want one line, got %q", args, text)
		}
	}
}

func TestPortTaken(t *testing.T) {
	listener := listen(t)
	var stderr strings.Builder
	if code := run([]string{"-listen", listener.Addr().String()}, &stderr); code != exitRuntime {
		t.Errorf("exit code %d, want %d", code, exitRuntime)
	}
	if !strings.Contains(stderr.String(), listener.Addr().String()) {
		t.Errorf("the message does not name the address: %q", stderr.String())
	}
}

func TestFront(t *testing.T) {
	server := httptest.NewServer(newSite(options{name: "web-1", node: "app-server-1"}))
	defer server.Close()
	request, err := http.NewRequest(http.MethodGet, server.URL+"/shop?q=%3Cscript%3E", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", "203.0.113.7")
	request.Header.Set("X-Forwarded-Proto", "<script>")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<h1>127.0.0.1</h1>", "host <b>web-1</b> on node <b>app-server-1</b>", "<svg",
		"GET " + strings.TrimPrefix(server.URL, "http://") + "/shop?q=%3Cscript%3E", "203.0.113.7", "&lt;script&gt;",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("the page lacks %q:\n%s", want, body)
		}
	}
	if strings.Contains(string(body), "<script") {
		t.Error("a header of the client became markup")
	}
	for header, want := range map[string]string{
		"Content-Type":     "text/html; charset=utf-8",
		"Cache-Control":    "no-store",
		"X-Served-By":      "web-1",
		"X-Served-Address": "127.0.0.1",
		"X-Served-Node":    "app-server-1",
	} {
		if got := response.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
}

func TestFront_withoutNode(t *testing.T) {
	recorder := httptest.NewRecorder()
	newSite(options{name: "web-1"}).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/", nil))
	if strings.Contains(recorder.Body.String(), "on node") {
		t.Error("the page speaks of a node that is not known")
	}
	if _, ok := recorder.Result().Header["X-Served-Node"]; ok {
		t.Error("X-Served-Node is set without a node")
	}
}

func TestSlow(t *testing.T) {
	s := newSite(options{name: "web-1"})
	for query, want := range map[string]int{
		"?ms=1":      http.StatusOK,
		"?ms=0":      http.StatusOK,
		"":           http.StatusBadRequest,
		"?ms=soon":   http.StatusBadRequest,
		"?ms=-1":     http.StatusBadRequest,
		"?ms=600001": http.StatusBadRequest,
	} {
		recorder := httptest.NewRecorder()
		s.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/slow"+query, nil))
		if recorder.Code != want {
			t.Errorf("/slow%s: status %d, want %d", query, recorder.Code, want)
		}
	}
	began := time.Now()
	s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/slow?ms=30", nil))
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("/slow?ms=30 took %s", took)
	}
}

func TestHue_tellsInstancesApart(t *testing.T) {
	seen := map[uint32]bool{}
	for _, name := range []string{"3f9c2a81d07b", "b02e77c1a9f4", "9d41e05fb6c8"} {
		seen[hue(name)/20] = true
	}
	if len(seen) != 3 {
		t.Errorf("three containers look alike: %v", seen)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
