package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"fairway/registrator/service"
)

// trusted is a certificate of 127.0.0.1 that this process believes in; unknown is one like it that
// nobody vouches for.
var trusted, unknown tls.Certificate

// TestMain makes the certificates first: what the system trusts is read once for the process.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fairway-health-")
	if err != nil {
		panic(err)
	}
	trusted, unknown = certificate(), certificate()
	file := filepath.Join(dir, "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: trusted.Certificate[0]})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		panic(err)
	}
	if err := os.Setenv("SSL_CERT_FILE", file); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.RemoveAll(dir); os.Exit(code) }))
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "health"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveHealth runs a real gRPC server; unary is asked before its health service is.
func serveHealth(t *testing.T, transport *tls.Certificate, unary grpc.UnaryServerInterceptor) (address string, server *health.Server, stop func()) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var opts []grpc.ServerOption
	if transport != nil {
		opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(transport)))
	}
	if unary != nil {
		opts = append(opts, grpc.UnaryInterceptor(unary))
	}
	s, h := grpc.NewServer(opts...), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return l.Addr().String(), h, s.Stop
}

func TestGRPC_C71_answersAndWhatTheyMean(t *testing.T) {
	address, h, stop := serveHealth(t, nil, nil)
	for _, c := range []struct {
		service string
		set     grpc_health_v1.HealthCheckResponse_ServingStatus
		want    service.Status
		output  string
	}{
		{"", grpc_health_v1.HealthCheckResponse_SERVING, service.Passing, "gRPC health of " + address + ": SERVING"},
		{"", grpc_health_v1.HealthCheckResponse_NOT_SERVING, service.Critical, "gRPC health of " + address + ": NOT_SERVING"},
		{"shop.v1.Cart", grpc_health_v1.HealthCheckResponse_SERVING, service.Passing, "gRPC health of " + address + ", service shop.v1.Cart: SERVING"},
		{"shop.v1.Cart", grpc_health_v1.HealthCheckResponse_NOT_SERVING, service.Critical, "gRPC health of " + address + ", service shop.v1.Cart: NOT_SERVING"},
		{"shop.v1.Cart", grpc_health_v1.HealthCheckResponse_UNKNOWN, service.Critical, "gRPC health of " + address + ", service shop.v1.Cart: UNKNOWN"},
	} {
		h.SetServingStatus(c.service, c.set)
		k := service.Check{Kind: service.GRPC, Target: address}
		if c.service != "" {
			k.Target += "/" + c.service
		}
		if got, output := ask(t, k); got != c.want || output != c.output {
			t.Errorf("%q at %s: %s (%s), want %s (%s)", c.service, c.set, got, output, c.want, c.output)
		}
	}
	if got, output := ask(t, service.Check{Kind: service.GRPC, Target: address + "/nobody"}); got != service.Critical || !strings.Contains(output, "NotFound: unknown service") {
		t.Errorf("a service it does not know: %s (%s)", got, output)
	}
	stop()
	first, words := ask(t, service.Check{Kind: service.GRPC, Target: address})
	_, again := ask(t, service.Check{Kind: service.GRPC, Target: address})
	if first != service.Critical || !strings.Contains(words, "refused") || words != again {
		t.Errorf("nothing listens: %s: %q, then %q", first, words, again)
	}
}

func TestGRPC_C71_TLS(t *testing.T) {
	for _, c := range []struct {
		name         string
		server       *tls.Certificate
		useTLS, skip bool
		want         service.Status
		output       string
	}{
		{name: "verified", server: &trusted, useTLS: true, want: service.Passing, output: "SERVING"},
		{name: "nobody vouches for it", server: &unknown, useTLS: true, want: service.Critical, output: "certificate"},
		{name: "not verified", server: &unknown, useTLS: true, skip: true, want: service.Passing, output: "SERVING"},
		{name: "only the server speaks TLS", server: &trusted, want: service.Critical, output: "Unavailable"},
		{name: "only registrator speaks TLS", useTLS: true, skip: true, want: service.Critical, output: "Unavailable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _, _ := serveHealth(t, c.server, nil)
			k := service.Check{Kind: service.GRPC, Target: address, UseTLS: c.useTLS, SkipVerify: c.skip}
			got, output := ask(t, k)
			if got != c.want || !strings.Contains(output, c.output) {
				t.Errorf("%s (%s), want %s with %q", got, output, c.want, c.output)
			}
			if _, again := ask(t, k); again != output {
				t.Errorf("the same failure has other words: %q, then %q", output, again)
			}
		})
	}
}

func TestGRPC_C71_hangsAndCuts(t *testing.T) {
	address, _, _ := serveHealth(t, nil, func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	k := service.Check{Kind: service.GRPC, Target: address, Timeout: 100 * time.Millisecond}
	if got, output := ask(t, k); got != service.Critical || output != "no answer within 100ms" {
		t.Errorf("%s (%s)", got, output)
	}

	// Something that listens and cuts: its words name no local port, so they stay the same.
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(conn, "220 not gRPC\r\n")
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-closed }()
	for range 5 {
		got, output := ask(t, service.Check{Kind: service.GRPC, Target: l.Addr().String()})
		if got != service.Critical || strings.Contains(output, "->") {
			t.Errorf("%s (%s)", got, output)
		}
	}
}
