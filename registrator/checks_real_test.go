//go:build real

package main

import (
	"archive/tar"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpchealth "google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"fairway/internal/testbed"
)

// site is a web server on an address of this machine that a catalog may hold. The containers of a
// test cannot be reached from here, so their checks are told its port with CHECK_PORT.
type site struct {
	ip, port string
	code     atomic.Int32 // what it answers
	asked    atomic.Int32
}

func newSite(t *testing.T) *site {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var ip net.IP
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && ip == nil && n.IP.To4() != nil && !n.IP.IsLoopback() {
			ip = n.IP
		}
	}
	if ip == nil {
		t.Fatal("this machine has no IPv4 address but that of its loopback interface")
	}
	s := &site{ip: ip.String()}
	s.code.Store(http.StatusOK)
	l, err := net.Listen("tcp4", net.JoinHostPort(s.ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.asked.Add(1)
		w.WriteHeader(int(s.code.Load()))
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// shellImage builds an image called shell: nothing but busybox.
func (w *world) shellImage() {
	w.t.Helper()
	binary, err := os.ReadFile(testbed.Program(w.t, "busybox"))
	if err != nil {
		w.t.Fatal(err)
	}
	name := filepath.Join(w.t.TempDir(), "shell.tar")
	file, err := os.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	archive := tar.NewWriter(file)
	for _, entry := range []*tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/busybox", Mode: 0o755, Size: int64(len(binary))},
		{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"},
	} {
		if err := archive.WriteHeader(entry); err != nil {
			w.t.Fatal(err)
		}
		if entry.Size > 0 {
			if _, err := archive.Write(binary); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	if err := archive.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.engine.Run("import", "-c", "EXPOSE 8080", "-c", `CMD ["/bin/busybox","sleep","1000"]`, name, "shell")
}

// checkNow is one active check as Consul holds it, "" when there is none.
func (w *world) checkNow(container, kind string) (string, error) {
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		return "", err
	}
	for _, k := range checks {
		if k.CheckID == "check:"+id(container)+":"+kind {
			return k.Status + ": " + k.Output, nil
		}
	}
	return "", nil
}

// check waits until an active check is as wanted.
func (w *world) check(container, kind, want string) {
	w.t.Helper()
	testbed.Eventually(w.t, soon, kind+" check of "+container, func() error {
		got, err := w.checkNow(container, kind)
		if err == nil && got != want {
			err = fmt.Errorf("is %q, want %q", got, want)
		}
		return err
	})
}

// TestActiveChecks runs checks of every kind against real parts.
func TestActiveChecks(t *testing.T) {
	w := newWorld(t)
	w.shellImage()
	s := newSite(t)
	at := func(o *Options) { o.IP = s.ip }
	stop := w.start(at)
	w.ready()
	url := fmt.Sprintf("http://%s:%s/h", s.ip, s.port)
	ask := []string{"-e", "SERVICE_CHECK_PORT=" + s.port, "-e", "SERVICE_CHECK_INTERVAL=1s", "-e", "SERVICE_CHECK_TIMEOUT=1s"}
	run := func(w *world, name string, args ...string) {
		w.t.Helper()
		w.run(name, append(append([]string{}, ask...), args...)...)
	}

	run(w, "c72", "-e", "SERVICE_CHECK_HTTP=h", "-e", "SERVICE_CHECK_TCP=true", "web")
	w.sub("C72_C75_httpAndTCP", func(t *testing.T, w *world) {
		w.check("c72", "http", "passing: GET "+url+": 200 OK")
		w.check("c72", "tcp", "passing: connect to "+s.ip+":"+s.port+": success")
		s.code.Store(http.StatusServiceUnavailable)
		w.check("c72", "http", "critical: GET "+url+": 503 Service Unavailable")
		if got, err := w.checkNow("c72", "tcp"); err != nil || !strings.HasPrefix(got, "passing: ") {
			t.Errorf("tcp check is %q, %v", got, err)
		}
		s.code.Store(http.StatusOK)
		w.check("c72", "http", "passing: GET "+url+": 200 OK")
	})

	w.sub("C94_0WritesWhileNothingChanges", func(t *testing.T, w *world) {
		w.quiet()
		index, asked := w.index(), s.asked.Load()
		testbed.Eventually(t, soon, "some more checks", func() error {
			if n := s.asked.Load() - asked; n < 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		if got := w.index(); got != index {
			t.Errorf("index %d to %d", index, got)
		}
	})

	w.sub("C82_whatIsPausedIsNotAsked", func(t *testing.T, w *world) {
		w.engine.Run("pause", "c72")
		testbed.Eventually(t, soon, "the container's check", func() error {
			k, _, err := w.consul.Client.Health().Checks("web", nil)
			if err == nil && k.AggregatedStatus() != "critical" {
				err = fmt.Errorf("%s", k.AggregatedStatus())
			}
			return err
		})
		asked := s.asked.Load()
		w.never(2500*time.Millisecond, "asked while paused", func() error {
			if n := s.asked.Load() - asked; n > 1 { // one may have been on its way
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
		w.engine.Run("unpause", "c72")
	})

	w.sub("C69_scriptInTheContainer", func(t *testing.T, w *world) {
		w.run("c69", "-e", "SERVICE_CHECK_INTERVAL=1s", "-e",
			`SERVICE_CHECK_SCRIPT=busybox cat /state | (read code; echo "said $code on $SERVICE_IP"; exit $code)`, "shell")
		set := func(code string) { w.engine.Run("exec", "c69", "/bin/sh", "-c", "echo "+code+" > /state") }
		set("2") // a changed verdict brings its words along at once
		w.check("c69", "script", "critical: exit code 2: said 2 on "+s.ip)
		set("1")
		w.check("c69", "script", "warning: exit code 1: said 1 on "+s.ip)
		set("0")
		w.check("c69", "script", "passing: exit code 0: said 0 on "+s.ip)
	})

	w.sub("C69_aScriptThatHangsIsStartedOnce", func(t *testing.T, w *world) {
		w.run("hangs", "-e", "SERVICE_CHECK_INTERVAL=1s", "-e", "SERVICE_CHECK_TIMEOUT=1s", "-e", "SERVICE_CHECK_CMD=busybox sleep 77", "shell")
		w.check("hangs", "cmd", "critical: no answer within 1s")
		w.never(3*time.Second, "started beside itself", func() error {
			if top := w.engine.Run("top", "hangs"); strings.Count(top, "sleep 77") > 2 { // the shell's line and its own
				return fmt.Errorf("%s", top)
			}
			return nil
		})
	})

	w.sub("C69_aContainerWithoutAShell", func(t *testing.T, w *world) {
		w.run("bare", "-e", "SERVICE_CHECK_CMD=/web", "web")
		testbed.Eventually(t, soon, "the check says why", func() error {
			got, err := w.checkNow("bare", "cmd")
			if err == nil && (!strings.HasPrefix(got, "critical: ") || !strings.Contains(got, "/bin/sh")) {
				err = fmt.Errorf("is %q", got)
			}
			return err
		})
	})

	w.sub("C104_aRestartOfRegistratorChangesNothing", func(t *testing.T, w *world) {
		w.check("c72", "http", "passing: GET "+url+": 200 OK")
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		same := *w
		same.t = w.t
		stop = same.start(at)
		w.admin = same.admin
		w.never(3*time.Second, "not passing", func() error {
			got, err := w.checkNow("c72", "http")
			if err == nil && !strings.HasPrefix(got, "passing: ") {
				err = fmt.Errorf("is %q", got)
			}
			return err
		})
	})
}

// TestDeregisterAfter_C74 keeps a row out whose check has been critical for too long.
func TestDeregisterAfter_C74(t *testing.T) {
	w := newWorld(t)
	s := newSite(t)
	at := func(o *Options) { o.IP = s.ip }
	stop := w.start(at)
	w.ready()
	w.run("c74", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_PORT="+s.port, "-e", "SERVICE_CHECK_INTERVAL=1s",
		"-e", "SERVICE_CHECK_DEREGISTER_AFTER=3s", "-e", "SERVICE_CHECK_INITIAL_STATUS=passing", "web")
	w.check("c74", "http", fmt.Sprintf("passing: GET http://%s:%s/: 200 OK", s.ip, s.port))
	s.code.Store(http.StatusInternalServerError)
	w.check("c74", "http", fmt.Sprintf("critical: GET http://%s:%s/: 500 Internal Server Error", s.ip, s.port))
	critical := time.Now()
	w.row(id("c74"), "")
	if took := time.Since(critical); took < 2*time.Second {
		t.Errorf("gone after %s", took)
	}
	w.never(2*time.Second, "back although it fails", func() error {
		rows, err := w.rows()
		if err == nil && len(rows) > 0 {
			err = fmt.Errorf("%v", rows)
		}
		return err
	})
	s.code.Store(http.StatusOK)
	w.check("c74", "http", fmt.Sprintf("passing: GET http://%s:%s/: 200 OK", s.ip, s.port))

	// A restart in the middle counts on.
	s.code.Store(http.StatusInternalServerError)
	w.check("c74", "http", fmt.Sprintf("critical: GET http://%s:%s/: 500 Internal Server Error", s.ip, s.port))
	critical = time.Now()
	testbed.Eventually(t, soon, "two of the three seconds are over", func() error {
		if left := 2*time.Second - time.Since(critical); left > 0 {
			return fmt.Errorf("%s left", left)
		}
		return nil
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		t.Fatal(err)
	}
	noted := false
	for _, k := range checks {
		noted = noted || strings.HasPrefix(k.Notes, "critical since ")
	}
	if !noted {
		t.Errorf("no check notes since when it is critical: %+v", checks)
	}
	w.start(at)
	restarted := time.Now()
	w.row(id("c74"), "")
	if took := time.Since(restarted); took > 2800*time.Millisecond {
		t.Errorf("gone %s after a restart: counted anew", took)
	}
}

// TestGRPC_C71 asks a real gRPC server for its health, over TLS and without.
func TestGRPC_C71(t *testing.T) {
	w := newWorld(t)
	s := newSite(t)
	w.start(func(o *Options) { o.IP = s.ip })
	w.ready()
	serve := func(opts ...grpc.ServerOption) (*grpchealth.Server, string) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", net.JoinHostPort(s.ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		server, h := grpc.NewServer(opts...), grpchealth.NewServer()
		grpc_health_v1.RegisterHealthServer(server, h)
		go func() { _ = server.Serve(l) }() // ends with Stop
		t.Cleanup(server.Stop)
		return h, l.Addr().String()
	}
	run := func(name, address string, env ...string) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		args := []string{"-e", "SERVICE_CHECK_PORT=" + port, "-e", "SERVICE_CHECK_INTERVAL=1s"}
		for _, e := range env {
			args = append(args, "-e", e)
		}
		w.run(name, append(args, "web")...)
	}
	plain, address := serve()
	run("plain", address, "SERVICE_CHECK_GRPC=shop.v1.Cart")
	asked := "gRPC health of " + address + ", service shop.v1.Cart: "
	w.check("plain", "grpc", "critical: "+asked+"NotFound: unknown service")
	plain.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_SERVING)
	w.check("plain", "grpc", "passing: "+asked+"SERVING")
	plain.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	w.check("plain", "grpc", "critical: "+asked+"NOT_SERVING")

	borrowed := httptest.NewUnstartedServer(nil) // only for its certificate, which nobody vouches for
	borrowed.StartTLS()
	t.Cleanup(borrowed.Close)
	_, address = serve(grpc.Creds(credentials.NewServerTLSFromCert(&borrowed.TLS.Certificates[0])))
	run("unverified", address, "SERVICE_CHECK_GRPC=true", "SERVICE_CHECK_GRPC_USE_TLS=true", "SERVICE_CHECK_TLS_SKIP_VERIFY=true")
	w.check("unverified", "grpc", "passing: gRPC health of "+address+": SERVING")
	run("verified", address, "SERVICE_CHECK_GRPC=true", "SERVICE_CHECK_GRPC_USE_TLS=true")
	testbed.Eventually(t, soon, "the certificate is refused", func() error {
		got, err := w.checkNow("verified", "grpc")
		if err == nil && (!strings.HasPrefix(got, "critical: ") || !strings.Contains(got, "certificate")) {
			err = fmt.Errorf("is %q", got)
		}
		return err
	})
	checks, _, err := w.consul.Client.Health().Node(testNode, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range checks { // what Consul is told of how it is made
		if k.CheckID == "check:"+id("unverified")+":grpc" && (k.Definition.GRPC != address || !k.Definition.GRPCUseTLS || !k.Definition.TLSSkipVerify) {
			t.Errorf("%+v", k)
		}
	}
}
