//go:build real

package render_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
	"fairway/internal/testbed"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// greeter is a gRPC service with trailers, errors and a stream.
type greeter struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (greeter) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "end", "x-from", strings.Join(incoming["x-forwarded-for"], ",")))
	if r.Service == "unknown" {
		return nil, status.Error(codes.NotFound, "no such service")
	}
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func (greeter) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	for range 3 {
		if err := stream.Send(&grpc_health_v1.HealthCheckResponse{}); err != nil {
			return err
		}
	}
	stream.SetTrailer(metadata.Pairs("x-trailer", "end"))
	return nil
}

func grpcServer(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer(options...)
	grpc_health_v1.RegisterHealthServer(s, greeter{})
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

// TestGRPC calls through both proxies, in the clear and over TLS behind them: answers, errors,
// streams and trailers arrive.
func TestGRPC(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	s := catalog(t, `
clear n `+grpcServer(t)+` passing 1 fairway-host=clear.com fairway-proto=grpc
secure n `+grpcServer(t, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{ca.TLS(t, "secure.com")}, MinVersion: tls.VersionTLS12})))+` passing 1 fairway-host=secure.com fairway-proto=grpcs fairway-backend-verify=ca
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("all", ca.Pair(t, "clear.com", "secure.com"), "clear.com", "secure.com")
		st.trust("ca", ca)
		v := storeView(t, proxy, s, st, dir)
		start(t, proxy, dir, v)
		secure := fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port)
		for _, name := range []string{"clear.com", "secure.com"} {
			calls(t, name, secure, credentials.NewTLS(&tls.Config{RootCAs: ca.Pool, ServerName: name, MinVersion: tls.VersionTLS12}))
		}
	})
}

// calls asks a greeter for everything that it has: an answer, an error, a stream and trailers.
func calls(t *testing.T, name, target string, creds credentials.TransportCredentials) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(creds), grpc.WithAuthority(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	var trailer metadata.MD
	answer, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.Trailer(&trailer))
	if err != nil || answer.Status != grpc_health_v1.HealthCheckResponse_SERVING || fmt.Sprint(trailer["x-trailer"], trailer["x-from"]) != "[end] [127.0.0.1]" {
		t.Errorf("%s by %s: %v %v %v", name, target, answer, trailer, err)
	}
	_, err = client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "unknown"})
	if got := status.Convert(err); got.Code() != codes.NotFound || got.Message() != "no such service" {
		t.Errorf("%s by %s: %v", name, target, err)
	}
	stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	for n := 0; err == nil; n++ {
		if _, err = stream.Recv(); errors.Is(err, io.EOF) && (n != 3 || len(stream.Trailer()["x-trailer"]) != 1) {
			t.Errorf("%s by %s: %d answers, trailer %v", name, target, n, stream.Trailer())
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("%s by %s: %v", name, target, err)
	}
}

// TestH2C speaks HTTP/2 without TLS to a server that knows nothing else, for clients that speak
// either.
func TestH2C(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Trailer")
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "h2c\n%s %s %s %s %q\n", r.Proto, r.Method, r.Host, r.RequestURI, body)
		w.Header().Set("X-Trailer", "end")
	}))
	backend.Config.Protocols = new(http.Protocols)
	backend.Config.Protocols.SetUnencryptedHTTP2(true)
	backend.Start()
	t.Cleanup(backend.Close)
	s := catalog(t, "h2c n "+strings.TrimPrefix(backend.URL, "http://")+" passing 1 fairway-host=a.com fairway-proto=h2c fairway-tls=on")
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("a", ca.Pair(t, "a.com"), "a.com")
		v := storeView(t, proxy, s, st, dir)
		address := start(t, proxy, dir, v)
		got := send(t, address, "POST /x%2fy?q=%20 HTTP/1.1\r\nHost: a.com\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")
		if want := "h2c\nHTTP/2.0 POST a.com /x%2fy?q=%20 \"body\"\n"; got.body != want {
			t.Errorf("HTTP/1.1 in front: %d %q", got.status, got.body)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool, ServerName: "a.com", MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://127.0.0.1:%d/z", v.Entrypoints[1].Port), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "a.com"
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || string(body) != "h2c\nHTTP/2.0 GET a.com /z \"\"\n" || answer.Proto != "HTTP/2.0" || answer.Trailer.Get("X-Trailer") != "end" {
			t.Errorf("HTTP/2 in front: %s %q trailer %v %v", answer.Proto, body, answer.Trailer, err)
		}
	})
}

// TestFastCGI asks a FastCGI server what it was told.
func TestFastCGI(t *testing.T) {
	l := listen(t)
	go func() {
		_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			env := fcgi.ProcessEnv(r)
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "php\n%s %s|%s|%s|%q|%s|%s\n", r.Method, r.URL.RequestURI(), env["SCRIPT_FILENAME"], env["DOCUMENT_ROOT"], body, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-A"))
		}))
	}()
	s := catalog(t, `php n `+l.Addr().String()+` passing 1 fairway-host=a.com fairway-proto=fcgi fairway-headers-request=X-A:b
own n `+l.Addr().String()+` passing 2 fairway-host=own.com fairway-proto=fcgi fairway-fcgi-root=/srv/app/
jail n `+l.Addr().String()+` passing 3 fairway-host=jail.com fairway-proto=fcgi fairway-fcgi-root=/`)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for _, c := range []struct{ host, request, want string }{
			{"a.com", "GET /", "GET /|/var/www/html/index.php|/var/www/html|\"\"|127.0.0.1|b"},
			{"a.com", "GET /x/y.php?q=1", "GET /x/y.php?q=1|/var/www/html/x/y.php|/var/www/html|\"\"|127.0.0.1|b"},
			{"a.com", "POST /x.php/info", "POST /x.php/info|/var/www/html/x.php|/var/www/html|\"body\"|127.0.0.1|b"},
			{"own.com", "GET /i.php", "GET /i.php|/srv/app/i.php|/srv/app|\"\"|127.0.0.1|"},
			{"jail.com", "GET /i.php", "GET /i.php|//i.php|/|\"\"|127.0.0.1|"},
		} {
			body := ""
			if strings.HasPrefix(c.request, "POST") {
				body = "body"
			}
			got := send(t, address, fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", c.request, c.host, len(body), body))
			if got.body != "php\n"+c.want+"\n" {
				t.Errorf("%+v: %d %q", c, got.status, got.body)
			}
		}
	})
}

// TestProxyProtocol reads what HAProxy tells a server of its client.
func TestProxyProtocol(t *testing.T) {
	first := func() (address string, lines chan string) {
		lines = make(chan string, 100)
		return tcpServer(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			head, _ := r.Peek(12)
			if string(head) == "\r\n\r\n\x00\r\nQUIT\n" {
				header := make([]byte, 28)
				if _, err := io.ReadFull(r, header); err != nil || header[12] != 0x21 {
					return // a check, which tells of nobody
				}
				lines <- fmt.Sprintf("v2 %s", net.IP(header[16:20]))
			} else if line, err := r.ReadString('\n'); err == nil && strings.HasPrefix(line, "PROXY TCP4") {
				lines <- "v1 " + strings.Fields(line)[2]
			}
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")
			}
		}), lines
	}
	one, v1 := first()
	two, v2 := first()
	s := catalog(t, "one n "+one+" passing 1 fairway-host=v1.com fairway-proxy-protocol=v1 fairway-check=off\ntwo n "+two+" passing 1 fairway-host=v2.com fairway-proxy-protocol=v2 fairway-check=off")
	dir := t.TempDir()
	address := start(t, 0, dir, viewFor(t, 0, s, dir))
	for host, lines := range map[string]chan string{"v1.com": v1, "v2.com": v2} {
		got := sendFrom(t, "127.0.0.9", address, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if line := <-lines; got.who() != "ok" || line != host[:2]+" 127.0.0.9" {
			t.Errorf("%s: %q %s", host, line, got.who())
		}
	}
	table := route.Build(s, route.Settings{Proxy: route.Nginx})
	if len(table.Problems) != 2 || !strings.Contains(table.Problems[0].Reason, "nginx cannot") {
		t.Errorf("nginx says nothing: %v", table.Problems)
	}
}
