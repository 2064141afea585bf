//go:build real

package render_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"fairway/internal/testbed"

	"golang.org/x/crypto/ocsp"
)

// TestStaple shows clients the OCSP response of a certificate that has one, and of that one only.
func TestStaple(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	s := catalog(t, "a n ADDRESS passing 1 fairway-host=a.com\nb n ADDRESS passing 2 fairway-host=b.com")
	each(t, func(t *testing.T, proxy int, dir string) {
		st := &store{}
		pair := append(ca.Pair(t, "a.com"), ca.PEM...)
		st.add("a", pair, "a.com")
		st.add("b", ca.Pair(t, "b.com"), "b.com")
		staple := ca.Answer(t, pair, ocsp.Response{Status: ocsp.Good, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}, nil)
		st.secrets.Staples = map[string][]byte{"a": staple}
		v := hostileView(t, proxy, s, st, dir)
		v.Stapled = map[string]bool{"a": true}
		writeSecrets(t, proxy, v, st, dir)
		start(t, proxy, dir, v)
		for host, want := range map[string][]byte{"a.com": staple, "b.com": nil} {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port), &tls.Config{RootCAs: ca.Pool, ServerName: host, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.ConnectionState().OCSPResponse; !bytes.Equal(got, want) {
				t.Errorf("%s: a response of %d bytes, want %d", host, len(got), len(want))
			}
			_ = conn.Close()
		}
	})
}
