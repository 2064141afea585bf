//go:build real

package render_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// each runs a test on every proxy, with a folder of its own.
func each(t *testing.T, f func(t *testing.T, proxy int, dir string)) {
	for i, p := range proxies {
		t.Run(p.name, func(t *testing.T) { f(t, i, t.TempDir()) })
	}
}

func TestHeaders(t *testing.T) {
	s := catalog(t, "echo n ADDRESS passing 1 fairway-host=a.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		v := view(t, s, dir)
		address := start(t, proxy, dir, v)
		got := send(t, address, "GET /x%20y?q=%2f HTTP/1.1\r\nHost: A.com:81\r\nConnection: close\r\n"+
			"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\n"+
			"X-Request-Id: forged\r\nForwarded: for=6.6.6.6\r\nProxy: evil\r\nunder_score: kept\r\n\r\n")
		for _, want := range []string{
			"GET /x%20y?q=%2f", "Host: A.com:81", "X-Forwarded-For: 127.0.0.1\r", "X-Forwarded-Proto: http\r",
			"X-Forwarded-Host: A.com:81\r", fmt.Sprintf("X-Forwarded-Port: %d\r", v.Entrypoints[0].Port), "X-Real-Ip: 127.0.0.1\r", "Under_score: kept\r",
		} {
			if !strings.Contains(got.body, want) {
				t.Errorf("the service did not see %q:\n%s", want, got.body)
			}
		}
		for _, evil := range []string{"6.6.6.6", "evil", "forged"} {
			if strings.Contains(got.body, evil) {
				t.Errorf("the service saw %q:\n%s", evil, got.body)
			}
		}
		if !regexp.MustCompile(`X-Request-Id: [0-9a-f-]{32,36}\r`).MatchString(got.body) {
			t.Errorf("no request id:\n%s", got.body)
		}
	})
}

func TestPages(t *testing.T) {
	s := catalog(t, "dead n DEAD critical 1 fairway-host=dead.com\nmaint n DEAD maintenance 1 fairway-host=maint.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, view(t, s, dir))
		id := regexp.MustCompile(`request [0-9a-f-]{32,36}<`)
		seen := make(map[string]bool)
		for host, status := range map[string]int{"nobody.com": 404, "dead.com": 503, "maint.com": 503} {
			for range 2 {
				got := get(t, address, host, "/")
				found := id.FindString(got.body)
				if got.status != status || found == "" || seen[found] || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
					t.Errorf("%s: %d %v\n%s", host, got.status, got.header, got.body)
				}
				seen[found] = true
			}
		}
	})
}

// TestDeadServer sends to a backend of which one of two servers answers nothing. Both stand
// ready, as they do until Consul or a check says otherwise: no idempotent request may fail.
func TestDeadServer(t *testing.T) {
	mute := tcpServer(t, func(net.Conn) {}) // like a process that was killed with the connection in its backlog
	s := catalog(t, "web n ADDRESS passing 1 fairway-host=a.com\nweb n DEAD passing 2 fairway-host=a.com\nweb m "+mute+" passing 3 fairway-host=a.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, view(t, s, dir))
		for i := range 100 {
			if got := get(t, address, "a.com", "/"); got.who() != "web" {
				t.Fatalf("request %d: %d %s", i, got.status, got.body)
			}
		}
	})
}

// TestPostNotRepeated sends a request that must not be repeated to a server that takes it and
// dies: the client learns of it, and the other server does not get it too.
func TestPostNotRepeated(t *testing.T) {
	taken := make(chan string, 100)
	dying := func() string {
		return tcpServer(t, func(c net.Conn) {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			buf := make([]byte, 4096)
			if n, _ := c.Read(buf); n > 0 {
				taken <- string(buf[:n])
			}
		})
	}
	text := "web n " + dying() + " passing 1 fairway-host=a.com\nweb m " + dying() + " passing 1 fairway-host=a.com"
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, view(t, catalog(t, text), dir))
		got := send(t, address, "POST /buy HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxx")
		if got.status != 502 && got.status != 503 {
			t.Errorf("status %d", got.status)
		}
		if n := len(taken); n != 1 {
			t.Errorf("the request was sent %d times, want once", n)
		}
		for len(taken) > 0 {
			<-taken
		}
	})
}

func TestStatsPage(t *testing.T) {
	s := catalog(t, "any n ADDRESS passing 1 fairway-default=true")
	t.Run("off", func(t *testing.T) {
		dir := t.TempDir()
		address := start(t, 0, dir, view(t, s, dir))
		if got := get(t, address, "x", "/haproxy?stats"); got.who() != "any" {
			t.Errorf("without a password the stats page is there: %d %s", got.status, got.body)
		}
	})
	t.Run("on", func(t *testing.T) {
		dir := t.TempDir()
		v := view(t, s, dir)
		v.Settings.StatsUser, v.Settings.StatsPassword = "ops", `it's #1 "$HOME" \n {x}`
		address := start(t, 0, dir, v)
		if got := get(t, address, "x", "/haproxy?stats"); got.status != 401 {
			t.Errorf("without a password: %d", got.status)
		}
		auth := func(password string) answer {
			return send(t, address, "GET /haproxy?stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic "+
				base64.StdEncoding.EncodeToString([]byte("ops:"+password))+"\r\n\r\n")
		}
		if got := auth("wrong"); got.status != 401 {
			t.Errorf("with a wrong password: %d", got.status)
		}
		if got := auth(v.Settings.StatsPassword); got.status != 200 || !strings.Contains(got.body, "Statistics Report") {
			t.Errorf("with the password: %d %s", got.status, got.body)
		}
		if got := get(t, address, "x", "/haproxy"); got.who() != "any" {
			t.Errorf("/haproxy without ?stats: %s", got.who())
		}
	})
}

// TestTLS has an entrypoint with a certificate beside the plain one.
func TestTLS(t *testing.T) {
	s := catalog(t, "web n ADDRESS passing 1 fairway-host=a.com\nplain n ADDRESS passing 1 fairway-host=b.com fairway-entrypoints=web")
	each(t, func(t *testing.T, proxy int, dir string) {
		v := view(t, s, dir)
		secure := route.Entrypoint{Name: "websecure", Address: "127.0.0.1", Port: testbed.Port(t), TLS: true}
		v.Table = route.Build(s, route.Settings{Entrypoints: []route.Entrypoint{v.Entrypoints[0], secure}})
		v.Settings.Certificate = filepath.Join(dir, "a.com.pem")
		certificate(t, v.Settings.Certificate, "a.com")
		start(t, proxy, dir, v)
		for host, want := range map[string]string{"a.com": "web", "b.com": "404"} {
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
				transport := &http.Transport{
					TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "a.com"}, //nolint:gosec // Our own certificate.
					ForceAttemptHTTP2: protocol == "HTTP/2.0",
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/x", secure.Port), nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = host
				got, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(got.Body)
				if err != nil {
					t.Fatal(err)
				}
				a := answer{got.StatusCode, string(body), got.Header}
				if a.who() != want || got.Proto != protocol {
					t.Errorf("%s over %s: %s over %s, want %s", host, protocol, a.who(), got.Proto, want)
				}
				if want == "web" && !strings.Contains(a.body, "X-Forwarded-Proto: https\r") {
					t.Errorf("no word of https:\n%s", a.body)
				}
				transport.CloseIdleConnections()
			}
		}
	})
}

func certificate(t testing.TB, file, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestGeneration asks the proxies which configuration they run, the way that confgen does.
func TestGeneration(t *testing.T) {
	s := catalog(t, "web n ADDRESS passing 1 fairway-host=a.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		v := view(t, s, dir)
		start(t, proxy, dir, v)
		socket, question, want := v.Settings.StatsSocket, "show info\n", "\ndescription: g1\n"
		if proxies[proxy].name == "nginx" {
			socket, question, want = v.Settings.GenerationSocket, "GET /generation HTTP/1.0\r\n\r\n", "\r\n\r\ng1\n"
		}
		var c net.Conn
		testbed.Eventually(t, 5*time.Second, "the socket answers", func() (err error) {
			c, err = net.Dial("unix", socket)
			return err
		})
		defer c.Close()
		if _, err := io.WriteString(c, question); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%v: %s", err, got)
		}
	})
}

// TestWebsocket upgrades a connection and talks both ways through it.
func TestWebsocket(t *testing.T) {
	s := catalog(t, "ws n "+upgrader(t)+" passing 1 fairway-host=a.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, view(t, s, dir))
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 101") {
			t.Fatalf("%v: %s", err, buf[:n])
		}
		_, _ = io.WriteString(c, "echo")
		if n, err = io.ReadFull(c, buf[:4]); err != nil || string(buf[:n]) != "echo" {
			t.Fatalf("%v: %q", err, buf[:n])
		}
	})
}

// upgrader is a server that speaks websocket and echoes; it answers nothing else.
func upgrader(t *testing.T) string {
	t.Helper()
	l := listen(t)
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // A test's own.
			if r.Header.Get("Upgrade") == "" {
				return
			}
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
			_, _ = io.Copy(c, rw)
		}))
	}()
	return l.Addr().String()
}

// deaf is the address of a listener that takes no connection: its backlog is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port) //nolint:errcheck // Bound as one.
	for {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}
