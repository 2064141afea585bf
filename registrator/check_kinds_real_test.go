//go:build real

package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/testbed"
)

// secureSite is a web server over TLS whose certificate nobody vouches for. It remembers what it
// was asked, as "METHOD path".
type secureSite struct {
	port    string
	failing atomic.Bool

	mu    sync.Mutex
	asked map[string]int
}

func newSecureSite(t *testing.T, ip string) *secureSite {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &secureSite{asked: map[string]int{}}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked[r.Method+" "+r.URL.Path]++
		s.mu.Unlock()
		if s.failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	server.Listener.Close()
	server.Listener = l
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what it is for
	server.StartTLS()
	t.Cleanup(server.Close)
	return s
}

func (s *secureSite) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

// TestCheckKinds holds against the catalog what each check setting asks for.
func TestCheckKinds(t *testing.T) {
	w := newWorld(t)
	s := newSite(t)
	secure := newSecureSite(t, s.ip)
	w.engine.Image("starting", `HEALTHCHECK --interval=1h --start-period=1h CMD ["/web","-healthcheck"]`)
	w.start(func(o *Options) { o.IP = s.ip })
	w.ready()

	w.sub("C63_C65_methodAndTimes", func(t *testing.T, w *world) {
		w.run("c63", "-e", "SERVICE_CHECK_HTTP=health", "-e", "SERVICE_CHECK_HTTP_METHOD=HEAD", "-e", "SERVICE_CHECK_INTERVAL=15s",
			"-e", "SERVICE_CHECK_TIMEOUT=1s", "-e", "SERVICE_CHECK_PORT="+s.port, "web")
		w.check("c63", "http", fmt.Sprintf("passing: HEAD http://%s:%s/health: 200 OK", s.ip, s.port))
		d := w.definition("c63", "http")
		if d.HTTP != fmt.Sprintf("http://%s:%s/health", s.ip, s.port) || d.Method != "HEAD" || d.IntervalDuration != 15*time.Second || d.TimeoutDuration != time.Second {
			t.Errorf("%+v", d)
		}
	})

	w.sub("C64_C67_C68_defaults", func(t *testing.T, w *world) {
		w.run("c67", "-e", "SERVICE_CHECK_TCP=true", "-e", "SERVICE_CHECK_TIMEOUT=3s", "-e", "SERVICE_CHECK_PORT="+s.port, "web")
		w.check("c67", "tcp", fmt.Sprintf("passing: connect to %s:%s: success", s.ip, s.port))
		if d := w.definition("c67", "tcp"); d.TCP != s.ip+":"+s.port || d.IntervalDuration != 10*time.Second || d.TimeoutDuration != 3*time.Second {
			t.Errorf("%+v", d)
		}
		w.run("c68", "-e", "SERVICE_CHECK_TCP=false", "web")
		w.row(id("c68"), passing)
		if got, err := w.checkNow("c68", "tcp"); err != nil || got != "" {
			t.Errorf("a check that is off is %q, %v", got, err)
		}
	})

	w.sub("C66_HTTPS", func(t *testing.T, w *world) {
		ask := []string{"-e", "SERVICE_CHECK_HTTPS=/h", "-e", "SERVICE_CHECK_INTERVAL=1s", "-e", "SERVICE_CHECK_PORT=" + secure.port}
		w.run("c66", append(ask, "-e", "SERVICE_CHECK_TLS_SKIP_VERIFY=true", "web")...)
		w.check("c66", "https", fmt.Sprintf("passing: GET https://%s:%s/h: 200 OK", s.ip, secure.port))
		asked := secure.count("GET /h")
		if d := w.definition("c66", "https"); !d.TLSSkipVerify || asked == 0 {
			t.Errorf("asked %d times: %+v", asked, d)
		}
		w.run("c66verified", append(ask, "web")...)
		testbed.Eventually(t, soon, "the certificate is refused", func() error {
			got, err := w.checkNow("c66verified", "https")
			if err == nil && (!strings.HasPrefix(got, "critical: ") || !strings.Contains(got, "certificate")) {
				err = fmt.Errorf("is %q", got)
			}
			return err
		})
	})

	w.sub("thresholds", func(t *testing.T, w *world) {
		w.run("steady", "-e", "SERVICE_CHECK_HTTPS=/steady", "-e", "SERVICE_CHECK_TLS_SKIP_VERIFY=true", "-e", "SERVICE_CHECK_INTERVAL=1s",
			"-e", "SERVICE_CHECK_PORT="+secure.port, "-e", "SERVICE_CHECK_FAILURES_BEFORE_WARNING=2", "-e", "SERVICE_CHECK_FAILURES_BEFORE_CRITICAL=3", "web")
		where := fmt.Sprintf("GET https://%s:%s/steady: ", s.ip, secure.port)
		w.check("steady", "https", "passing: "+where+"200 OK")
		secure.failing.Store(true)
		asked := secure.count("GET /steady")
		for i, want := range []string{"warning: ", "critical: "} {
			w.check("steady", "https", want+where+"500 Internal Server Error")
			if n := secure.count("GET /steady") - asked; n < i+2 {
				t.Errorf("%safter %d failures", want, n)
			}
		}
		secure.failing.Store(false)
		w.check("steady", "https", "passing: "+where+"200 OK")
	})

	w.sub("C70_passingWhileTheContainerRuns", func(t *testing.T, w *world) {
		w.run("c70", "-e", "SERVICE_CHECK_TTL=1s", "web")
		w.row(id("c70"), passing)
		w.never(2500*time.Millisecond, "twice its TTL", func() error {
			rows, err := w.rows()
			if err == nil && rows[id("c70")] != passing {
				err = fmt.Errorf("is %q", rows[id("c70")])
			}
			return err
		})
		w.engine.Run("pause", "c70")
		w.row(id("c70"), "critical: paused")
		w.engine.Run("unpause", "c70")
		w.engine.Run("kill", "c70")
		w.row(id("c70"), "")
	})

	w.sub("C73_initialStatus", func(t *testing.T, w *world) {
		w.run("c73", "-e", "SERVICE_CHECK_INITIAL_STATUS=passing", "starting")
		w.row(id("c73"), "passing: starting")
		w.run("c73not", "starting")
		w.row(id("c73not"), "critical: starting")
	})
}

// definition is how Consul is told that an active check is made.
func (w *world) definition(container, kind string) api.HealthCheckDefinition {
	w.t.Helper()
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range checks {
		if k.CheckID == "check:"+id(container)+":"+kind {
			return k.Definition
		}
	}
	w.t.Fatalf("no %s check of %s", kind, container)
	return api.HealthCheckDefinition{}
}
