//go:build real

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/daemon"
	"fairway/internal/testbed"
	"fairway/registrator/swarm"
)

// filter is a socket proxy before a Docker Engine that lets through what it is told, and nothing else.
type filter struct {
	host string // for DOCKER_HOST

	mu      sync.Mutex
	allowed map[string]*regexp.Regexp
	passed  map[string]int
	denied  map[string]int
}

// endpointsOf reads the endpoints that docs/security.md lists, "GET /containers/{id}/json".
func endpointsOf(t *testing.T) map[string]*regexp.Regexp {
	t.Helper()
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]*regexp.Regexp{}
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:GET|HEAD|POST) /[^`]*)` \\|").FindAllStringSubmatch(string(page), -1) {
		pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(m[1]), `.+`)
		list[m[1]] = regexp.MustCompile("^" + pattern + "$")
	}
	if len(list) < 8 {
		t.Fatalf("docs/security.md lists %d endpoints", len(list))
	}
	return list
}

func newFilter(t *testing.T, engine string) *filter {
	t.Helper()
	f := &filter{allowed: endpointsOf(t)}
	f.reset("")
	socket := strings.TrimPrefix(engine, "unix://")
	to := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	version := regexp.MustCompile(`^/v1\.\d+/`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.count(r.Method + " " + version.ReplaceAllString(r.URL.Path, "/")) {
			to.ServeHTTP(w, r)
			return
		}
		http.Error(w, `{"message":"not allowed by the socket proxy"}`, http.StatusForbidden)
	}))
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	f.host = "tcp://" + server.Listener.Addr().String()
	return f
}

// reset forgets the counts, and takes one endpoint away.
func (f *filter) reset(without string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passed, f.denied = map[string]int{}, map[string]int{}
	f.denied[without] = 0
}

func (f *filter) count(request string) (allowed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, pattern := range f.allowed {
		if pattern.MatchString(request) {
			if _, without := f.denied[name]; without {
				f.denied[name]++
				return false
			}
			f.passed[name]++
			return true
		}
	}
	f.denied[request]++
	return false
}

func (f *filter) counts() (passed, denied map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	passed, denied = map[string]int{}, map[string]int{}
	maps.Copy(passed, f.passed)
	for k, n := range f.denied {
		if n > 0 {
			denied[k] = n
		}
	}
	return passed, denied
}

// TestSocketProxy runs registrator behind a proxy that lets through exactly what docs/security.md
// lists: each is asked for, nothing else is, and without it something is missing.
func TestSocketProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.shellImage()
	w.engine.Run("swarm", "init", "--advertise-addr", "172.17.0.1")
	const image = "127.0.0.1:1/web:1"
	w.engine.Image(image)
	w.engine.Run("service", "create", "-d", "--name", "task", "--publish", "mode=host,target=8080,published=8088", "--no-resolve-image", image)
	full := w.engine.Run("image", "inspect", "-f", "{{.Id}}", "web")
	w.run("plain", "web")
	w.run("bare", full)
	w.run("script", "-e", "SERVICE_CHECK_SCRIPT=exit 0", "shell")
	f := newFilter(t, w.engine.Host)
	behind := func(o *Options) { o.Docker.Host = f.host }
	complete := func() error {
		rows, err := w.rows()
		if err != nil {
			return err
		}
		task := false
		for id := range rows {
			task = task || strings.Contains(id, ":task.1.")
		}
		switch {
		case !task || rows[id("plain")] != passing || rows[id("bare")] != passing:
			return fmt.Errorf("rows %v", rows)
		case w.service(id("bare")).Service != "web":
			return fmt.Errorf("bare is called %s", w.service(id("bare")).Service)
		}
		if check, err := w.checkNow("script", "script"); err != nil || !strings.HasPrefix(check, "passing") {
			return fmt.Errorf("script check %q, %w", check, err)
		}
		text, err := w.readyz()
		if err == nil && strings.Count(text, ": ok\n") != strings.Count(text, "\n") {
			err = errors.New(text)
		}
		return err
	}

	stop := w.start(behind)
	testbed.Eventually(t, 2*soon, "all is registered", complete)
	testbed.Eventually(t, soon, "each endpoint is asked", func() error {
		passed, denied := f.counts()
		if len(denied) > 0 {
			t.Fatalf("registrator asks for what docs/security.md does not list: %v", denied)
		}
		for name := range f.allowed {
			if passed[name] == 0 {
				return fmt.Errorf("%s is not asked", name)
			}
		}
		return nil
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	for without := range f.allowed {
		f.reset(without)
		w.deregisterNode()
		stop := w.start(behind)
		testbed.Eventually(t, 2*soon, "denied: "+without, func() error {
			if _, denied := f.counts(); denied[without] == 0 {
				return errors.New("not asked for yet")
			}
			return nil
		})
		w.never(400*time.Millisecond, "without "+without+" something is missing", func() error {
			if complete() == nil {
				return errors.New("nothing is")
			}
			return nil
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		_, denied := f.counts()
		if without == "HEAD /_ping" {
			delete(denied, "GET /_ping") // what Docker's client tries next
		}
		if len(denied) > 1 {
			t.Errorf("without %s: %v", without, denied)
		}
	}
}

// deregisterNode removes what registrator wrote, also what it shared as a Swarm manager.
func (w *world) deregisterNode() {
	w.t.Helper()
	if _, err := w.consul.Client.KV().DeleteTree(swarm.Prefix, nil); err != nil {
		w.t.Fatal(err)
	}
	node, _, err := w.consul.Client.Catalog().Node(testNode, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range node.Services {
		if _, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: testNode, ServiceID: s.ID}, nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

// certificates is a folder of ca.pem, cert.pem and key.pem, of an authority of the test's own, for a
// server and a client on loopback; foreign is of another authority.
func certificates(t *testing.T) (dir, foreign string) {
	t.Helper()
	return authority(t), authority(t)
}

func authority(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	must(err)
	write("ca.pem", "CERTIFICATE", der)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost", "server.dc1.consul"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err = x509.CreateCertificate(rand.Reader, leaf, root, &key.PublicKey, rootKey)
	must(err)
	write("cert.pem", "CERTIFICATE", der)
	der, err = x509.MarshalECPrivateKey(key)
	must(err)
	write("key.pem", "EC PRIVATE KEY", der)
	return dir
}

// TestMutualTLS reaches a Docker Engine and a Consul that both want a certificate of their callers.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir, foreign := certificates(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	https := testbed.Port(t)
	w := &world{t: t, log: &testbed.Log{}}
	w.engine = testbed.Docker(t, "--host", "tcp://0.0.0.0:2376", "--tlsverify",
		"--tlscacert", file("ca.pem"), "--tlscert", file("cert.pem"), "--tlskey", file("key.pem"))
	w.consul = testbed.Consul(t, "-hcl", fmt.Sprintf(`ports { https = %d }
tls { https { ca_file = %q  cert_file = %q  key_file = %q  verify_incoming = true } }`, https, file("ca.pem"), file("cert.pem"), file("key.pem")))
	w.engine.Image("web")
	w.run("tls", "web")
	docker := forward(t, w.engine.Address+":2376")
	secure := func(certs string) func(*Options) {
		return func(o *Options) {
			o.Docker.Host, o.Docker.CertPath = "tcp://"+docker, certs
			o.Consul.Addresses = []string{fmt.Sprintf("https://127.0.0.1:%d", https)}
			o.Consul.CACert, o.Consul.ClientCert, o.Consul.ClientKey = filepath.Join(certs, "ca.pem"), filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem")
		}
	}
	stop := w.start(secure(dir))
	w.ready()
	w.is(map[string]string{id("tls"): passing})
	w.engine.Run("pause", "tls")
	w.row(id("tls"), "critical: paused")
	w.engine.Run("unpause", "tls")
	w.row(id("tls"), passing)
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	for name, change := range map[string]func(*Options){
		"docker: of another authority": func(o *Options) { secure(dir)(o); o.Docker.CertPath = foreign },
		"docker: without TLS":          func(o *Options) { secure(dir)(o); o.Docker.CertPath = "" },
		"consul: of another authority": func(o *Options) {
			secure(dir)(o)
			o.Consul.CACert = filepath.Join(foreign, "ca.pem")
		},
		"consul: without a certificate": func(o *Options) { secure(dir)(o); o.Consul.ClientCert, o.Consul.ClientKey = "", "" },
	} {
		part, _, _ := strings.Cut(name, ": ")
		stop := w.start(change)
		testbed.Eventually(t, soon, name+" is no way in", func() error { return w.notReadyBecause(part) })
		if err := stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// notReadyBecause wants a condition to be told with a reason that has to do with TLS.
func (w *world) notReadyBecause(part string) error {
	text, err := w.readyz()
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		if reason, found := strings.CutPrefix(line, part+": "); found && regexp.MustCompile(`(?i)certificate|tls|https`).MatchString(reason) {
			return nil
		}
	}
	return errors.New(text)
}

// forward listens on loopback and passes bytes on: the engine's own address is in no certificate.
func forward(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			onward, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			go func() { _, _ = io.Copy(onward, from); onward.Close() }()
			go func() { _, _ = io.Copy(from, onward); from.Close() }()
		}
	}()
	return l.Addr().String()
}

// TestSecrets_areNowhere puts canaries where secrets stand, and looks for them wherever a person or
// a collector looks, at the loudest level of the log.
func TestSecrets_areNowhere(t *testing.T) {
	t.Parallel()
	const token, password, secret = "5ecre7c0-aaaa-bbbb-cccc-dddddddddddd", "c4n4ry-password", "c4n4ry-environment"
	w := newWorld(t)
	w.run("web", "-e", "DB_PASSWORD="+secret, "-l", "other.secret="+secret, "-e", "SERVICE_a.b="+secret,
		"-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_HEADER=broken "+secret, "web")
	w.run("keyed", "-e", "SERVICE_CHECK_HTTP=/", "-e", "SERVICE_CHECK_INTERVAL=1s", "-e", "SERVICE_CHECK_HEADER=Authorization: Bearer "+secret, "web")
	refuse := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Error(rw, "no", http.StatusInternalServerError)
	}))
	defer refuse.Close()
	said := &bytes.Buffer{}
	look := func(where, text string) {
		t.Helper()
		fmt.Fprintln(said, text)
		for _, canary := range []string{token, password, secret} {
			if strings.Contains(text, canary) {
				t.Errorf("%s has %s:\n%s", where, canary, text)
			}
		}
	}
	withPassword := func(address string) string {
		return strings.Replace(address, "http://", "http://operator:"+password+"@", 1)
	}
	for _, address := range []string{withPassword("http://" + w.consul.Addr), withPassword(refuse.URL), withPassword("http://127.0.0.1:1")} {
		opt := func(o *Options) { o.Consul.Addresses, o.Consul.Token = []string{address}, token }
		stop := w.start(opt)
		if strings.Contains(address, w.consul.Addr) {
			w.row(id("keyed"), passing)
			list, _, err := w.consul.Client.Catalog().NodeServiceList(testNode, nil)
			if err != nil {
				t.Fatal(err)
			}
			checks, _, err := w.consul.Client.Health().Node(testNode, nil)
			if err != nil {
				t.Fatal(err)
			}
			catalog, err := json.Marshal([]any{list, checks})
			if err != nil {
				t.Fatal(err)
			}
			look("the catalog", string(catalog))
		}
		testbed.Eventually(t, soon, "the address was asked", func() error {
			text, err := w.readyz()
			if err == nil && strings.Contains(text, "consul: not yet") {
				err = errors.New(text)
			}
			return err
		})
		text, err := w.readyz()
		if err != nil {
			t.Fatal(err)
		}
		look("/readyz", text)
		look("/metrics", w.metrics())
		if err := stop(); err != nil {
			t.Error(err)
		}
		o := w.options()
		opt(&o)
		var out strings.Builder
		if err := explain(t.Context(), o, &out, nil, true, false); err != nil {
			t.Error(err)
		}
		look("explain", out.String())
		o.DryRun = true
		out.Reset()
		err = once(t.Context(), o, daemon.ForTest(discard(), ""), &out)
		look("dry run", fmt.Sprint(out.String(), err))
	}
	look("the log", w.log.String())
	if !strings.Contains(said.String(), "web 8080/tcp") || !strings.Contains(said.String(), "keyed 8080/tcp") || !strings.Contains(said.String(), "SERVICE_a.b") {
		t.Errorf("this proves nothing:\n%s", said)
	}
	for _, bad := range []string{"http://operator:" + password + "@:8500/x y", "ftp://operator:" + password + "@h"} {
		o := w.options()
		o.Consul.Addresses = []string{bad}
		if err := run(t.Context(), o, daemon.ForTest(discard(), "")); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%v", err)
		}
	}
	for _, bad := range []string{"tcp://operator:" + password + "@h:1 2", "operator:" + password + "@h"} {
		o := w.options()
		o.Docker.Host = bad
		if err := run(t.Context(), o, daemon.ForTest(discard(), "")); err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("%v", err)
		}
	}
}
