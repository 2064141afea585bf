//go:build real

package render_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// profiled is a proxy that serves a.com with an ECDSA certificate and r.com with an RSA one.
type profiled struct {
	t    *testing.T
	ca   *testbed.Authority
	port int
}

func newProfiled(t *testing.T, proxy int, dir string) profiled {
	t.Helper()
	ca, st := testbed.NewAuthority(t, "ca"), &store{}
	st.add("a", ca.Pair(t, "a.com"), "a.com")
	st.add("r", ca.PairRSA(t, "r.com"), "r.com")
	v := storeView(t, proxy, catalog(t, "a n ADDRESS passing 1 fairway-host=a.com\nr n ADDRESS passing 2 fairway-host=r.com"), st, dir)
	start(t, proxy, dir, v)
	return profiled{t, ca, v.Entrypoints[1].Port}
}

// dial shakes hands as a client of a configuration does, and asks once, so that what a server
// sends after its handshake has come.
func (p profiled) dial(host string, c *tls.Config) (tls.ConnectionState, error) {
	p.t.Helper()
	c.RootCAs, c.ServerName = p.ca.Pool, host
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", p.port), c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		_, _ = io.ReadAll(conn)
	}
	return conn.ConnectionState(), nil
}

// openssl is a client that can do what Go's cannot. It returns what it says.
func (p profiled) openssl(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), testbed.Program(p.t, "openssl"),
		append([]string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", p.port), "-servername", "a.com", "-ign_eof"}, args...)...)
	cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n")
	out, _ := cmd.CombinedOutput() // A refusal is one of the answers.
	return string(out)
}

// TestProfile is Mozilla's intermediate profile as a client sees it: versions, curves, protocols.
func TestProfile(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		p := newProfiled(t, proxy, dir)
		curve := func(id tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: []tls.CurveID{id}} }
		for name, c := range map[string]struct {
			config *tls.Config
			ok     bool
		}{
			"1.0":           {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, false},
			"1.1":           {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
			"1.2":           {&tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}, true},
			"1.3":           {&tls.Config{MinVersion: tls.VersionTLS13}, true},
			"X25519":        {curve(tls.X25519), true},
			"P-256":         {curve(tls.CurveP256), true},
			"P-384":         {curve(tls.CurveP384), true},
			"P-521":         {curve(tls.CurveP521), false},
			"only http/1.1": {&tls.Config{NextProtos: []string{"http/1.1"}}, true},
		} {
			if _, err := p.dial("a.com", c.config); (err == nil) != c.ok {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s, err := p.dial("a.com", &tls.Config{NextProtos: []string{"http/1.1", "h2"}}); err != nil || s.NegotiatedProtocol != "h2" {
			t.Errorf("%v: no h2 for who can", err)
		}
		if s, err := p.dial("a.com", &tls.Config{}); err != nil || s.Version != tls.VersionTLS13 {
			t.Errorf("%v: version %x for who can speak 1.3", err, s.Version)
		}
	})
}

// TestProfile_ciphers offers each cipher alone, and two in either order: those of the profile are
// taken and no other, and the client chooses.
func TestProfile_ciphers(t *testing.T) {
	profile := map[string][]uint16{
		"a.com": {tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		"r.com": {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
	}
	each(t, func(t *testing.T, proxy int, dir string) {
		p := newProfiled(t, proxy, dir)
		for host, list := range profile {
			for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
				if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
					continue
				}
				s, err := p.dial(host, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
				if want := slices.Contains(list, suite.ID); (err == nil) != want || want && s.CipherSuite != suite.ID {
					t.Errorf("%s, %s: %v", host, suite.Name, err)
				}
			}
		}
		const taken, refused = "Cipher is %s", "Cipher is (NONE)"
		// ChaCha is the last of the profile; a proxy that chooses may still favour it where a client does.
		const last, second, first = "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
		const last13, second13, first13 = "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"
		for _, c := range []struct{ option, offer, want string }{
			{"-tls1_2 -cipher", last + ":" + first, fmt.Sprintf(taken, last)},
			{"-tls1_2 -cipher", second + ":" + first, fmt.Sprintf(taken, second)},
			{"-tls1_2 -cipher", first + ":" + second, fmt.Sprintf(taken, first)},
			{"-tls1_3 -ciphersuites", last13 + ":" + first13, fmt.Sprintf(taken, last13)},
			{"-tls1_3 -ciphersuites", second13 + ":" + first13, fmt.Sprintf(taken, second13)},
			{"-tls1_3 -ciphersuites", first13 + ":" + second13, fmt.Sprintf(taken, first13)},
			{"-tls1_3 -ciphersuites", "TLS_AES_128_CCM_SHA256", refused},
			{"-tls1_2 -servername r.com -cipher", "DHE-RSA-AES128-GCM-SHA256", refused}, // of the profile; left out, as the template says
		} {
			if got := p.openssl(append(strings.Fields(c.option), c.offer)...); !strings.Contains(got, c.want) {
				t.Errorf("%s %s: want %q\n%s", c.option, c.offer, c.want, got)
			}
		}
	})
}

// TestProfile_sessions resumes sessions of both versions, and hands out no tickets: what TLS 1.3
// calls one is a number that the proxy finds the session by in its own memory, where a ticket of
// its full meaning would hold the session under a key that opens all of them.
func TestProfile_sessions(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		p := newProfiled(t, proxy, dir)
		// Go resumes by tickets only, and so in 1.2 never.
		for version, resumed := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
			kept := &lastSession{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			for i := range 2 {
				s, err := p.dial("a.com", &tls.Config{ClientSessionCache: kept, MinVersion: version, MaxVersion: version})
				if want := resumed && i > 0; err != nil || s.DidResume != want {
					t.Errorf("version %x, connection %d: resumed %v, want %v: %v", version, i, s.DidResume, want, err)
				}
			}
			if (kept.ticket != nil) != resumed || len(kept.ticket) > 32 {
				t.Errorf("version %x: a ticket of %d bytes", version, len(kept.ticket))
			}
		}
		for version, words := range map[string]string{"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"} {
			session := filepath.Join(t.TempDir(), "session")
			first := p.openssl(version, "-sess_out", session)
			again := p.openssl(version, "-sess_in", session)
			if !strings.Contains(first, "New, "+words) || !strings.Contains(again, "Reused, "+words) {
				t.Errorf("%s is not resumed\n%s", words, again)
			}
			if ticket := strings.Contains(first, "TLS session ticket:"); ticket && version == "-tls1_2" {
				t.Errorf("a ticket in 1.2\n%s", first)
			}
		}
	})
}

// lastSession remembers the newest ticket.
type lastSession struct {
	tls.ClientSessionCache
	ticket []byte
}

func (l *lastSession) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		l.ticket, _, _ = s.ResumptionState()
	}
	l.ClientSessionCache.Put(key, s)
}
