package consul

import (
	"bytes"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers every request with [] and the headers of Consul.
func server(t *testing.T, see func(*http.Request)) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if see != nil {
			see(r)
		}
		w.Header().Set("X-Consul-Index", "1")
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-KnownLeader", "true")
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, cfg Config) *api.Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nobody returns an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestNew_refusesAddressesItCannotUse(t *testing.T) {
	for _, a := range []string{"ftp://x:1", "unix://", "http://", "::::"} {
		if _, err := New(Config{Addresses: []string{a}}); err == nil || !strings.Contains(err.Error(), a) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

func TestTransport_F64_theSecondAddressIsUsed(t *testing.T) {
	var asked atomic.Int32
	s := server(t, func(*http.Request) { asked.Add(1) })
	c := newClient(t, Config{Addresses: []string{nobody(t), s.URL}})
	for range 3 {
		if _, _, err := c.Catalog().Nodes(nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := asked.Load(); got != 3 {
		t.Errorf("the second server saw %d requests, want 3", got)
	}
	s.CloseClientConnections()
}

func TestTransport_F64_aBodyIsSentToTheSecondAddressWhole(t *testing.T) {
	var body atomic.Value
	s := server(t, func(r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body.Store(string(b))
	})
	c := newClient(t, Config{Addresses: []string{nobody(t), s.URL}})
	if _, err := c.KV().Put(&api.KVPair{Key: "k", Value: []byte("value")}, nil); err != nil || body.Load() != "value" {
		t.Errorf("body %q, %v", body.Load(), err)
	}
	s.CloseClientConnections()
}

func TestTransport_aServerWithoutALeaderIsLeft(t *testing.T) {
	var good atomic.Int32
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
	}))
	t.Cleanup(bad.Close)
	s := server(t, func(*http.Request) { good.Add(1) })
	c := newClient(t, Config{Addresses: []string{bad.URL, s.URL}})
	if _, _, err := c.Catalog().Nodes(nil); err == nil {
		t.Error("the error of the first server was hidden")
	}
	if _, _, err := c.Catalog().Nodes(nil); err != nil || good.Load() != 1 {
		t.Errorf("the next try: %v, second server asked %d times", err, good.Load())
	}
	bad.CloseClientConnections()
	s.CloseClientConnections()
}

func TestTransport_unixSocketAndPathPrefix(t *testing.T) {
	var path atomic.Value
	socket := filepath.Join(t.TempDir(), "consul.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(server(t, func(r *http.Request) { path.Store(r.URL.Path) }).Config.Handler)
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	if _, _, err := newClient(t, Config{Addresses: []string{"unix://" + socket}}).Catalog().Nodes(nil); err != nil {
		t.Fatal(err)
	}
	if path.Load() != "/v1/catalog/nodes" {
		t.Errorf("path over the socket: %v", path.Load())
	}
	h := server(t, func(r *http.Request) { path.Store(r.URL.Path) })
	if _, _, err := newClient(t, Config{Addresses: []string{h.URL + "/consul/"}}).Catalog().Nodes(nil); err != nil {
		t.Fatal(err)
	}
	if path.Load() != "/consul/v1/catalog/nodes" {
		t.Errorf("path behind a prefix: %v", path.Load())
	}
	s.CloseClientConnections()
	h.CloseClientConnections()
}

func TestTransport_F16_tokenFileIsReadAgain(t *testing.T) {
	var token atomic.Value
	s := server(t, func(r *http.Request) { token.Store(r.Header.Get("X-Consul-Token")) })
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	f := &tokenFile{path: path}
	read := func(want string) {
		t.Helper()
		f.checked = time.Time{}
		if got, err := f.read(); err != nil || got != want {
			t.Errorf("token %q, %v; want %q", got, err, want)
		}
	}
	read("first")
	write("second!")
	read("second!")
	write("")
	read("second!") // half-written: the last good one stays
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	read("second!")

	write("third")
	c := newClient(t, Config{Addresses: []string{s.URL}, TokenFile: path, Token: "ignored"})
	if _, _, err := c.Catalog().Nodes(nil); err != nil || token.Load() != "third" {
		t.Errorf("sent %v, %v", token.Load(), err)
	}
	s.CloseClientConnections()
}

func TestNew_namesAMissingTokenFile(t *testing.T) {
	_, err := New(Config{TokenFile: "/nowhere/token"})
	if err == nil || !strings.Contains(err.Error(), "/nowhere/token") {
		t.Errorf("%v", err)
	}
}

func TestTransport_F17_retryAfterIsObeyed(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "slow down", http.StatusTooManyRequests)
			return
		}
		w.Header().Set("X-Consul-LastContact", "0")
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(s.Close)
	c := newClient(t, Config{Addresses: []string{s.URL}})
	if _, _, err := c.Catalog().Nodes(nil); err == nil {
		t.Fatal("429 was taken for an answer")
	}
	began := time.Now()
	if _, _, err := c.Catalog().Nodes(nil); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(began); waited < 800*time.Millisecond {
		t.Errorf("asked again after %s, want a second", waited)
	}
	s.CloseClientConnections()
}

func TestTransport_F15_anEndlessBodyIsAnError(t *testing.T) {
	b := &boundedBody{ReadCloser: http.NoBody, left: 0}
	if _, err := b.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "256 MiB") {
		t.Errorf("%v", err)
	}
}

func TestTransport_tlsIsVerified(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-LastContact", "0")
		_, _ = w.Write([]byte("[]"))
	}))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	if _, _, err := newClient(t, Config{Addresses: []string{s.URL}}).Catalog().Nodes(nil); err == nil {
		t.Error("a certificate of nobody was believed")
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(s), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newClient(t, Config{Addresses: []string{s.URL}, CACert: ca}).Catalog().Nodes(nil); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if _, _, err := newClient(t, Config{Addresses: []string{s.URL}, CACert: ca, ServerName: "other.test"}).Catalog().Nodes(nil); err == nil {
		t.Error("a certificate for another name was believed")
	}
	s.CloseClientConnections()
}

// pemOf returns the certificate of s.
func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Consul compresses every answer for whoever takes it, also the smallest: 1,000 checks then take
// half as long again, and reading 5,000 services a quarter more processor time.
func TestTransport_asksForNoCompression(t *testing.T) {
	var asked atomic.Value
	s := server(t, func(r *http.Request) { asked.Store(r.Header.Get("Accept-Encoding")) })
	c := newClient(t, Config{Addresses: []string{s.URL}})
	if _, err := c.Catalog().Datacenters(); err != nil {
		t.Fatal(err)
	}
	if got := asked.Load(); got != "" {
		t.Errorf("Accept-Encoding: %s", got)
	}
}

func TestCapture_keepsTheTextAndTheMeta(t *testing.T) {
	s := server(t, nil)
	c := newClient(t, Config{Addresses: []string{s.URL}})
	ctx, captured := Capture(t.Context(), &bytes.Buffer{})
	out := []string{"as it was"}
	meta, err := c.Raw().Query("/v1/catalog/datacenters", &out, (&api.QueryOptions{}).WithContext(ctx))
	if text, ok := captured.Text(); err != nil || !ok || string(text) != "[]" || !meta.KnownLeader || meta.LastIndex != 1 {
		t.Errorf("%q, %v, %+v, %v", text, ok, meta, err)
	}
	if _, err := c.Catalog().Datacenters(); err != nil {
		t.Errorf("the next query: %v", err)
	}
}

func TestCapture_isNoneOfARefusal(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Permission denied", http.StatusForbidden)
	}))
	defer s.Close()
	c := newClient(t, Config{Addresses: []string{s.URL}})
	ctx, captured := Capture(t.Context(), &bytes.Buffer{})
	var out []string
	_, err := c.Raw().Query("/v1/catalog/datacenters", &out, (&api.QueryOptions{}).WithContext(ctx))
	if _, ok := captured.Text(); ok || err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestCapture_passesOnThatAnAnswerWasCut(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("[1,"))
	}))
	defer s.Close()
	c := newClient(t, Config{Addresses: []string{s.URL}})
	ctx, captured := Capture(t.Context(), &bytes.Buffer{})
	var out []string
	_, err := c.Raw().Query("/v1/catalog/datacenters", &out, (&api.QueryOptions{}).WithContext(ctx))
	if _, ok := captured.Text(); ok || err == nil {
		t.Errorf("%v, %v", ok, err)
	}
}
