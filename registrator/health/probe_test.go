package health

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway/registrator/service"
)

func ask(t *testing.T, k service.Check) (service.Status, string) {
	t.Helper()
	if k.Timeout == 0 {
		k.Timeout = 5 * time.Second
	}
	k.Interval = time.Minute
	r := New(Options{Changed: func() {}})
	probe := service.Registration{ID: "x", Checks: []service.Check{k}}
	r.Fill(service.Plan{Registrations: []service.Registration{probe}}, nil, time.Now())
	id, e, _ := r.first(time.Now())
	r.begin(t.Context(), id, e)()
	p, _ := r.Fill(service.Plan{Registrations: []service.Registration{probe}}, nil, time.Now())
	return p.Registrations[0].Checks[0].Status, p.Registrations[0].Checks[0].Output
}

func serve(t *testing.T, listen string, tls bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func TestHTTP_C63_whatIsAskedAndWhatItMeans(t *testing.T) {
	var last atomic.Pointer[http.Request]
	s := serve(t, "127.0.0.1:0", false, func(w http.ResponseWriter, r *http.Request) {
		last.Store(r)
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/moved":
			http.Redirect(w, r, "/204", http.StatusFound)
		default:
			var code int
			for _, c := range r.URL.Path[1:] {
				code = code*10 + int(c-'0')
			}
			w.WriteHeader(code)
		}
	})
	for path, want := range map[string]service.Status{
		"/200": service.Passing, "/204": service.Passing, "/moved": service.Passing,
		"/429": service.Warning, "/404": service.Critical, "/503": service.Critical, "/slow": service.Critical,
	} {
		status, output := ask(t, service.Check{Kind: service.HTTP, Method: "GET", Target: s.URL + path, Timeout: 500 * time.Millisecond})
		if status != want {
			t.Errorf("%s: %s (%s), want %s", path, status, output, want)
		}
	}
	status, output := ask(t, service.Check{Kind: service.HTTP, Method: "HEAD", Target: s.URL + "/200", Header: "Host: shop.test\nX-A: 1\nX-A: 2"})
	got := last.Load()
	if status != service.Passing || got.Method != "HEAD" || got.Host != "shop.test" || strings.Join(got.Header["X-A"], ",") != "1,2" {
		t.Errorf("%s (%s): asked %s %s %v", status, output, got.Method, got.Host, got.Header)
	}
	s.Close()
	if status, output := ask(t, service.Check{Kind: service.HTTP, Method: "GET", Target: s.URL}); status != service.Critical || !strings.Contains(output, "refused") {
		t.Errorf("nothing listens: %s (%s)", status, output)
	}
}

func TestHTTPS_C66_theCertificateIsVerifiedUnless(t *testing.T) {
	s := serve(t, "127.0.0.1:0", true, func(http.ResponseWriter, *http.Request) {})
	k := service.Check{Kind: service.HTTPS, Method: "GET", Target: s.URL}
	if status, output := ask(t, k); status != service.Critical || !strings.Contains(output, "certificate") {
		t.Errorf("verified: %s (%s)", status, output)
	}
	k.SkipVerify = true
	if status, output := ask(t, k); status != service.Passing {
		t.Errorf("not verified: %s (%s)", status, output)
	}
}

func TestProbes_C61_IPv6(t *testing.T) {
	s := serve(t, "[::1]:0", false, func(http.ResponseWriter, *http.Request) {})
	if status, output := ask(t, service.Check{Kind: service.HTTP, Method: "GET", Target: s.URL}); status != service.Passing {
		t.Errorf("%s: %s (%s)", s.URL, status, output)
	}
	if status, output := ask(t, service.Check{Kind: service.TCP, Target: s.Listener.Addr().String()}); status != service.Passing {
		t.Errorf("%s: %s (%s)", s.Listener.Addr(), status, output)
	}
}

func TestTCP_C67(t *testing.T) {
	s := serve(t, "127.0.0.1:0", false, func(http.ResponseWriter, *http.Request) {})
	k := service.Check{Kind: service.TCP, Target: s.Listener.Addr().String()}
	if status, output := ask(t, k); status != service.Passing {
		t.Errorf("%s (%s)", status, output)
	}
	s.Close()
	first, words := ask(t, k)
	_, again := ask(t, k)
	if first != service.Critical || words != again {
		t.Errorf("%s: %q, then %q", first, words, again)
	}
}
