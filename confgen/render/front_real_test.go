//go:build real

package render_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/internal/testbed"
	"fairway/templates"
)

// proxies are what every behaviour is shown on.
var proxies = []struct {
	name   string
	layers func() []fs.FS
	check  func(dir string) []string
	run    func(dir string) []string
}{
	{
		"haproxy", templates.HAProxy,
		func(dir string) []string { return []string{"-c", "-f", dir + "/haproxy.cfg"} },
		func(dir string) []string { return []string{"-db", "-f", dir + "/haproxy.cfg"} },
	},
	{
		"nginx", templates.Nginx,
		func(dir string) []string { return []string{"-t", "-q", "-c", dir + "/nginx.conf"} },
		func(dir string) []string {
			return []string{"-g", "daemon off; master_process off;", "-c", dir + "/nginx.conf"}
		},
	},
}

// listen is a port of loopback that is listened on until the test ends.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// tcpServer hands every connection to serve, and closes it then.
func tcpServer(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// service is a server on loopback that says who it is and what it was asked.
func service(t testing.TB, name string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Powered-By", "test")
		w.Header().Set("Cache-Control", "private")
		w.Header().Set("X-Own", name)
		w.Header().Set("X-Own-Too", name)
		if say := r.Header.Get("X-Say"); say != "" {
			w.Header().Set(say, "own")
		}
		fmt.Fprintf(w, "%s\n%s %s\nHost: %s\n", name, r.Method, r.RequestURI, r.Host)
		_ = r.Header.Write(w)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// catalog replaces ADDRESS in each line by the address of a live server named like the line's
// service, and DEAD by one where nothing listens.
func catalog(t testing.TB, text string) route.Snapshot {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.Contains(line, "ADDRESS") {
			line = strings.Replace(line, "ADDRESS", service(t, name), 1)
		}
		line = strings.Replace(line, "DEAD", fmt.Sprintf("127.0.0.1:%d", testbed.Port(t)), 1)
		out.WriteString(line)
	}
	return routetest.Snapshot(t, out.String())
}

// view builds a view whose entrypoint web is on a free port of loopback.
func view(t testing.TB, s route.Snapshot, dir string) render.View {
	t.Helper()
	v := render.View{
		Table:    route.Build(s, route.Settings{Entrypoints: []route.Entrypoint{{Name: "web", Address: "127.0.0.1", Port: testbed.Port(t)}}}),
		Settings: render.DefaultSettings(),
	}
	v.Settings.Version = testbed.ProxyVersion(t, "nginx") // HAProxy's files do not depend on its version.
	v.Settings.StatsSocket = dir + "/haproxy.sock"
	v.Settings.RunDir = dir
	v.Settings.GenerationSocket = dir + "/generation.sock"
	v.Settings.Timeouts.Interval = 200 * time.Millisecond
	v.Settings.MaxConn = 500
	return v
}

// write puts rendered files under dir, and lets the proxy's own checker look at them.
func write(t testing.TB, proxy int, dir string, v render.View) error {
	t.Helper()
	p := proxies[proxy]
	r, err := render.New(p.layers()...)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.Render(v)
	if err != nil {
		return fmt.Errorf("render for %s: %w", p.name, err)
	}
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		data := bytes.ReplaceAll(f.Data, []byte(render.Generation), []byte("g1"))
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), testbed.Program(t, p.name), p.check(dir)...)
	out, err := cmd.CombinedOutput()
	if err != nil || warns(out, v.Settings.Version == "") {
		return fmt.Errorf("%s refuses or warns: %w\n%s", p.name, err, out)
	}
	return nil
}

// warns reports whether a proxy has said a warning. An nginx of unknown version is told of HTTP/2
// as an old one is, which a newer one deplores.
func warns(out []byte, unknown bool) bool {
	for line := range bytes.Lines(out) {
		deplored := unknown && bytes.Contains(line, []byte(`the "listen ... http2" directive is deprecated`))
		if !deplored && (bytes.Contains(line, []byte("[warn]")) || bytes.Contains(line, []byte("[WARNING]"))) {
			return true
		}
	}
	return false
}

// start runs a proxy with what was written until the test ends.
func start(t testing.TB, proxy int, dir string, v render.View) string {
	t.Helper()
	p := proxies[proxy]
	if err := write(t, proxy, dir, v); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(testbed.Program(t, p.name), p.run(dir)...) //nolint:noctx // Ended below, by SIGTERM first.
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, log.String())
		}
	})
	addresses := make([]string, len(v.Entrypoints))
	for i, e := range v.Entrypoints {
		addresses[i] = net.JoinHostPort(e.Address, fmt.Sprint(e.Port))
	}
	testbed.Eventually(t, 10*time.Second, p.name+" answers", func() error {
		for _, address := range addresses {
			c, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				return err
			}
			_ = c.Close()
		}
		return nil
	})
	return addresses[0]
}

type answer struct {
	status int
	body   string
	header http.Header
}

// who is the first line of what the service said, or the status of a refusal.
func (a answer) who() string {
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	line, _, _ := strings.Cut(a.body, "\n")
	return line
}

// send sends the bytes of one request and reads one answer, without a client that would mend
// either.
func send(t testing.TB, address, request string) answer {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	return received(t, bufio.NewReader(c), method)
}

// received reads the answer to a request of some method; what is none says so in its body.
func received(t testing.TB, from *bufio.Reader, method string) answer {
	t.Helper()
	r, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		return answer{body: err.Error()}
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{r.StatusCode, string(body), r.Header}
}

// field is a line of a request's header; none for no value.
func field(name, value string) string {
	if value == "" {
		return ""
	}
	return name + ": " + value + "\r\n"
}

func get(t testing.TB, address, host, path string) answer {
	t.Helper()
	return send(t, address, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
}
