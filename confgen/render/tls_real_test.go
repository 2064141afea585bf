//go:build real

package render_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/internal/testbed"
)

// store is a certificate store for a test, and what it is to the route table.
type store struct {
	route.Certificates
	secrets render.Secrets
}

func (s *store) add(name string, pem []byte, hosts ...string) {
	if s.secrets.Certificates == nil {
		s.secrets = render.Secrets{Certificates: map[string][]byte{}, Authorities: map[string][]byte{}}
	}
	s.List = append(s.List, route.Certificate{Name: name, Hosts: hosts})
	s.secrets.Certificates[name] = pem
}

func (s *store) trust(name string, a *testbed.Authority) {
	s.Authorities = append(s.Authorities, name)
	s.secrets.Authorities[name] = a.PEM
}

// storeView is a view with an entrypoint websecure that serves from a store, whose files are
// already in dir.
func storeView(t testing.TB, proxy int, s route.Snapshot, st *store, dir string) render.View {
	t.Helper()
	v := hostileView(t, proxy, s, st, dir)
	for _, p := range v.Problems {
		t.Errorf("%s %s: %s", p.Service, p.Key, p.Reason)
	}
	writeSecrets(t, proxy, v, st, dir)
	return v
}

// hostileView is a storeView of which nothing is wanted or written yet.
func hostileView(t testing.TB, proxy int, s route.Snapshot, st *store, dir string) render.View {
	t.Helper()
	v := view(t, s, dir)
	secure := route.Entrypoint{Name: "websecure", Address: "127.0.0.1", Port: testbed.Port(t), TLS: true}
	v.Table = route.Build(s, route.Settings{
		Proxy: route.Proxy(proxies[proxy].name), Entrypoints: []route.Entrypoint{v.Entrypoints[0], secure}, Certificates: &st.Certificates,
		SystemAuthorities: st.secrets.Authorities[route.SystemAuthorities] != nil,
	})
	return v
}

func writeSecrets(t testing.TB, proxy int, v render.View, st *store, dir string) {
	t.Helper()
	files, err := render.CertificateFiles(v, route.Proxy(proxies[proxy].name), st.secrets)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Mode != 0o600 {
			t.Errorf("%s has mode %o", f.Path, f.Mode)
		}
		testbed.WriteSecret(t, filepath.Join(dir, f.Path), f.Data)
	}
}

// client asks over TLS with full verification.
type client struct {
	t    testing.TB
	port int
	tls  *tls.Config
}

// ask sends a request with one host in TLS and one in the request, and says what came of it: who
// answered, or the status, or "refused" where TLS does not get through.
func (c client) ask(sni, host, path string) string {
	c.t.Helper()
	config := c.tls.Clone()
	config.ServerName = sni
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", c.port), config)
	if err != nil {
		if _, bad := errors.AsType[*tls.CertificateVerificationError](err); bad {
			return "wrong certificate"
		}
		return "refused"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); err != nil {
		return "refused"
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "refused" // TLS 1.3 learns of a client's certificate after its own handshake
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return answer{r.StatusCode, string(body), r.Header}.who()
}

// show has the client show a certificate to whoever asks for one, suitable or not.
func (c *client) show(pair tls.Certificate) {
	c.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
}

// TestStore serves each host under its own certificate, wildcards included, and refuses those
// that have none. Clients of hosts with a certificate are sent to TLS, the others are not.
func TestStore(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	s := catalog(t, `
a n ADDRESS passing 1 fairway-host=a.com
wild n ADDRESS passing 2 fairway-host=*.b.com
deep n ADDRESS passing 3 fairway-host=x.b.com
none n ADDRESS passing 4 fairway-host=none.com
named n ADDRESS passing 5 fairway-host=n.b.com fairway-cert=named
regex n ADDRESS passing 6 "fairway-host=~^v[0-9]\\.c\\.com$"
any n ADDRESS passing 7 fairway-path=/any
`)
	for name, fallback := range map[string]string{"refuse": "", "default": "a"} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, proxy int, dir string) {
				st := &store{Certificates: route.Certificates{Default: fallback}}
				st.add("a", ca.Pair(t, "a.com"), "a.com")
				st.add("b", ca.Pair(t, "*.b.com"), "*.b.com")
				st.add("c", ca.Pair(t, "*.c.com", "c.com"), "*.c.com", "c.com")
				st.add("named", ca.Pair(t, "n.b.com"), "elsewhere.com")
				v := storeView(t, proxy, s, st, dir)
				address := start(t, proxy, dir, v)
				c := client{t: t, port: v.Entrypoints[1].Port, tls: &tls.Config{RootCAs: ca.Pool}}
				without := map[string]string{"": "refused", "a": "wrong certificate"}[fallback]
				for _, q := range []struct{ sni, host, path, want string }{
					{"a.com", "a.com", "/", "a"},
					{"A.COM", "a.com", "/", "a"},
					{"y.b.com", "y.b.com", "/", "wild"},
					{"x.b.com", "x.b.com", "/", "deep"},
					{"n.b.com", "n.b.com", "/", "named"},
					{"v1.c.com", "v1.c.com", "/", "regex"},
					{"c.com", "c.com", "/", "404"},
					{"c.com", "c.com", "/any", "any"},
					{"none.com", "none.com", "/", without},
					{"xa.com", "xa.com", "/", without},
					{"a.com.evil.org", "a.com.evil.org", "/", without},
					{"", "a.com", "/", without},
					{"a.com", "none.com", "/", "none"}, // one connection may serve several hosts
				} {
					if q.sni == "" { // Go's client does not name an address
						q.sni = "127.0.0.1"
					}
					if got := c.ask(q.sni, q.host, q.path); got != q.want {
						t.Errorf("default %q, %+v: %s", fallback, q, got)
					}
				}
				for host, want := range map[string]string{"a.com": "308", "y.b.com": "308", "x.b.com": "308", "n.b.com": "308", "none.com": "none", "v1.c.com": "regex"} {
					if got := get(t, address, host, "/"); got.who() != want {
						t.Errorf("in the clear, %s: %s", host, got.who())
					}
				}
			})
		})
	}
}

// TestStore_oldNginx has an nginx of unknown version, which is asked for nothing new.
func TestStore_oldNginx(t *testing.T) {
	ca, dir := testbed.NewAuthority(t, "ca"), t.TempDir()
	st := &store{}
	st.add("a", ca.Pair(t, "a.com"), "a.com")
	v := storeView(t, 1, catalog(t, "a n ADDRESS passing 1 fairway-host=a.com\nnone n ADDRESS passing 4 fairway-host=none.com"), st, dir)
	v.Settings.Version = ""
	start(t, 1, dir, v)
	c := client{t: t, port: v.Entrypoints[1].Port, tls: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // It looks at what is refused.
	for sni, want := range map[string]string{"a.com": "a", "none.com": "refused", "other.com": "refused"} {
		if got := c.ask(sni, sni, "/"); got != want {
			t.Errorf("%s: %s", sni, got)
		}
	}
}

// TestClientCA wants a certificate from clients, whichever way they come.
func TestClientCA(t *testing.T) {
	ca, staff, stranger := testbed.NewAuthority(t, "ca"), testbed.NewAuthority(t, "staff"), testbed.NewAuthority(t, "stranger")
	s := catalog(t, `
open n ADDRESS passing 1 fairway-host=open.com
staff n ADDRESS passing 2 fairway-host=staff.com fairway-client-ca=staff
mixed n ADDRESS passing 3 fairway-host=mixed.com
admin n ADDRESS passing 4 fairway-host=mixed.com fairway-path=/admin fairway-client-ca=staff
wild n ADDRESS passing 5 fairway-host=*.w.com fairway-client-ca=staff
under n ADDRESS passing 6 fairway-host=x.w.com fairway-path=/open
other n ADDRESS passing 7 fairway-host=other.com fairway-client-ca=stranger
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("all", ca.Pair(t, "open.com", "staff.com", "mixed.com", "*.w.com", "other.com"), "open.com", "staff.com", "mixed.com", "*.w.com", "other.com")
		st.trust("staff", staff)
		st.trust("stranger", stranger)
		v := storeView(t, proxy, s, st, dir)
		address := start(t, proxy, dir, v)
		nobody := client{t: t, port: v.Entrypoints[1].Port, tls: &tls.Config{RootCAs: ca.Pool}}
		worker, visitor := nobody, nobody
		worker.tls, visitor.tls = nobody.tls.Clone(), nobody.tls.Clone()
		worker.show(staff.TLS(t, "worker"))
		visitor.show(stranger.TLS(t, "visitor"))
		for _, q := range []struct{ sni, host, path, nobody, worker, visitor string }{
			{"open.com", "open.com", "/", "open", "open", "open"},
			{"staff.com", "staff.com", "/", "refused", "staff", "refused"},
			{"mixed.com", "mixed.com", "/", "mixed", "mixed", "refused"},
			{"mixed.com", "mixed.com", "/admin", "403", "admin", "refused"},
			{"mixed.com", "mixed.com", "/%61dmin", "403", "admin", "refused"},
			{"y.w.com", "y.w.com", "/", "refused", "wild", "refused"},
			{"x.w.com", "x.w.com", "/open", "under", "under", "refused"},
			{"x.w.com", "x.w.com", "/", "403", "wild", "refused"},
			// Under another name in TLS than in the request nobody gets in.
			{"open.com", "staff.com", "/", "421", "421", "421"},
			{"open.com", "mixed.com", "/admin", "421", "421", "421"},
			{"y.w.com", "staff.com", "/", "refused", "421", "refused"},
			{"staff.com", "y.w.com", "/", "refused", "421", "refused"},
			{"other.com", "staff.com", "/", "refused", "refused", "421"},
			{"other.com", "other.com", "/", "refused", "refused", "other"},
		} {
			for who, got := range map[string][2]string{
				"nobody": {q.nobody, nobody.ask(q.sni, q.host, q.path)}, "worker": {q.worker, worker.ask(q.sni, q.host, q.path)}, "visitor": {q.visitor, visitor.ask(q.sni, q.host, q.path)},
			} {
				// nginx answers itself where it misses or refuses a certificate.
				if proxies[proxy].name == "nginx" && got[0] == "refused" && (got[1] == "400" || got[1] == "421") {
					continue
				}
				if got[0] != got[1] {
					t.Errorf("%s %+v: %s, want %s", who, q, got[1], got[0])
				}
			}
		}
		for _, host := range []string{"staff.com", "y.w.com"} {
			if got := get(t, address, host, "/"); got.who() != "308" {
				t.Errorf("in the clear, %s: %s", host, got.who())
			}
		}
		// A session that began under one name opens nothing under another.
		sessions := tls.NewLRUClientSessionCache(8)
		sharing := visitor
		sharing.tls = visitor.tls.Clone()
		sharing.tls.ClientSessionCache = everySession{sessions}
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			sharing.tls.MinVersion, sharing.tls.MaxVersion = version, version
			if got := sharing.ask("other.com", "other.com", "/"); got != "other" {
				t.Errorf("visitor: %s", got)
			}
			if got := sharing.ask("staff.com", "staff.com", "/"); got != "refused" && got != "400" {
				t.Errorf("visitor with the session of another host: %s", got)
			}
		}
	})
}

// everySession resumes any session under any name.
type everySession struct{ tls.ClientSessionCache }

func (e everySession) Get(string) (*tls.ClientSessionState, bool) {
	return e.ClientSessionCache.Get("one")
}

func (e everySession) Put(_ string, s *tls.ClientSessionState) { e.ClientSessionCache.Put("one", s) }

// TestReencryption has servers that speak TLS: verified unless a label says otherwise, with the
// certificate that a label names.
func TestReencryption(t *testing.T) {
	ca, inner, system := testbed.NewAuthority(t, "ca"), testbed.NewAuthority(t, "inner"), testbed.NewAuthority(t, "system")
	secure := func(name string, a *testbed.Authority, hosts ...string) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown := "nothing"
			if len(r.TLS.PeerCertificates) > 0 {
				shown = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			fmt.Fprintf(w, "%s\n%s sees %s over %s\n", name, r.TLS.ServerName, shown, r.Proto)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{a.TLS(t, hosts...)}, ClientAuth: tls.RequestClientCert} //nolint:gosec // A test's own.
		s.Config.ErrorLog = nil
		s.StartTLS()
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "https://")
	}
	s := catalog(t, `
public n `+secure("public", system, "public.com")+` passing 1 fairway-host=public.com fairway-proto=https
system n `+secure("system", system, "system.com")+` passing 9 fairway-host=system.com fairway-proto=https fairway-backend-verify=system
untold n `+secure("untold", inner, "untold.com")+` passing 10 fairway-host=untold.com fairway-proto=https fairway-backend-verify=system
self n `+secure("self", inner, "self.com")+` passing 2 fairway-host=self.com fairway-proto=https
named n `+secure("named", inner, "internal")+` passing 3 fairway-host=named.com,*.named.com fairway-proto=https fairway-backend-verify=inner fairway-backend-sni=internal
host n `+secure("host", inner, "x.host.com")+` passing 4 fairway-host=*.host.com fairway-proto=https fairway-backend-verify=inner
wrong n `+secure("wrong", inner, "elsewhere.com")+` passing 5 fairway-host=wrong.com fairway-proto=https fairway-backend-verify=inner
none n `+secure("none", inner, "elsewhere.com")+` passing 6 fairway-host=none.com fairway-proto=https fairway-backend-verify=none
mutual n `+secure("mutual", inner, "mutual.com")+` passing 7 fairway-host=mutual.com fairway-proto=https fairway-backend-verify=inner fairway-backend-cert=front
strip n `+secure("strip", inner, "strip.com")+` passing 8 fairway-host=strip.com fairway-path=/api fairway-strip=true fairway-proto=https fairway-backend-verify=inner fairway-headers-request=X-A:b
`)
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		st.add("front", ca.Pair(t, "front"), "front.com")
		st.trust("inner", inner)
		st.secrets.Authorities[route.SystemAuthorities] = system.PEM
		v := storeView(t, proxy, s, st, dir)
		address := start(t, proxy, dir, v)
		for host, want := range map[string]string{
			"public.com": "public\npublic.com sees nothing over HTTP/1.1\n", "self.com": "503", "untold.com": "503",
			"system.com": "system\nsystem.com sees nothing over HTTP/1.1\n", "named.com": "named\ninternal sees nothing over HTTP/1.1\n",
			"x.host.com": "host\nx.host.com sees nothing over HTTP/1.1\n", "y.host.com": "503", "wrong.com": "503", "none.com": "none\nnone.com sees nothing over HTTP/1.1\n",
			"mutual.com": "mutual\nmutual.com sees front over HTTP/1.1\n", "strip.com": "strip\nstrip.com sees nothing over HTTP/1.1\n",
		} {
			got := get(t, address, host, "/api")
			if got.body != want && got.who() != want {
				t.Errorf("%s: %d %q, want %q", host, got.status, got.body, want)
			}
		}
	})
}

// TestStore_addServer adds to a running HAProxy servers with every option that a label can give
// them.
func TestStore_addServer(t *testing.T) {
	ca, dir := testbed.NewAuthority(t, "ca"), t.TempDir()
	st := &store{}
	st.add("front", ca.Pair(t, "front"), "front.com")
	st.trust("inner", ca)
	st.secrets.Authorities[route.SystemAuthorities] = ca.PEM
	var text strings.Builder
	for i, labels := range []string{
		"fairway-proto=https", "fairway-proto=https fairway-backend-verify=none", "fairway-proto=https fairway-backend-verify=inner fairway-backend-cert=front fairway-backend-sni=x",
		"fairway-proto=h2c", "fairway-proto=grpc", "fairway-proto=grpcs", "fairway-proto=fcgi", "fairway-proxy-protocol=v1", "fairway-proxy-protocol=v2 fairway-proto=https",
		`fairway-proto=h2c "fairway-check=GET /x"`, `fairway-proto=grpcs "fairway-check=GET /x"`, `fairway-proto=fcgi fairway-fcgi-root=/srv/x`,
	} {
		fmt.Fprintf(&text, "s%d n ADDRESS passing 1 fairway-host=s%d.com %s\n", i, i, labels)
	}
	v := storeView(t, 0, catalog(t, text.String()), st, dir)
	start(t, 0, dir, v)
	config, err := os.ReadFile(filepath.Join(dir, "haproxy.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	backend, added := "", 0
	for line := range strings.Lines(string(config)) {
		words := strings.Fields(line)
		if len(words) > 1 && words[0] == "backend" {
			backend = words[1]
		}
		if len(words) < 3 || words[0] != "server" || strings.HasPrefix(backend, "_") {
			continue
		}
		words[1], words[4] = backend+"/added", "77"
		if got := strings.TrimSpace(ask(t, dir+"/haproxy.sock", "add "+strings.Join(words, " "))); got != "New server registered." {
			t.Errorf("%s: %s", strings.Join(words, " "), got)
		}
		added++
	}
	if added != 12 {
		t.Errorf("%d servers", added)
	}
}
