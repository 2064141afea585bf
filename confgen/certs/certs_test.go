package certs_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/certs"
	"fairway/internal/testbed"

	"github.com/google/go-cmp/cmp"
)

// summary is what a store holds, for a person.
func summary(c certs.Contents) []string {
	var list []string
	for _, x := range c.Certificates {
		list = append(list, x.Name+" for "+strings.Join(x.Hosts, " "))
	}
	for _, x := range c.Authorities {
		list = append(list, "authority "+x.Name)
	}
	for _, f := range c.Faults {
		line := "fault " + filepath.Base(f.File) + ": " + f.Reason
		if f.Kept {
			line += " (kept)"
		}
		list = append(list, line)
	}
	return list
}

func TestStore_layouts(t *testing.T) {
	ca, dir := testbed.NewAuthority(t, "ca"), t.TempDir()
	write := func(name string, parts ...[]byte) {
		var data []byte
		for _, p := range parts {
			data = append(data, p...)
		}
		testbed.WriteSecret(t, filepath.Join(dir, name), data)
	}
	cert, key := ca.Issue(t, time.Hour, "A.test.", "*.a.test")
	write("one.pem", key, ca.PEM, cert) // in any order
	cert, key = ca.Issue(t, time.Hour, "two.test")
	write("two.crt", cert, ca.PEM)
	write("two.key", key)
	write("live/fullchain.pem", cert)
	write("live/privkey.pem", key)
	write("live/README", []byte("x"))
	write("k8s/tls.crt", cert)
	write("k8s/tls.key", key)
	write("_.wild.test.crt", cert) // as lego names a wildcard
	write("_.wild.test.key", key)
	write("staff.pem", ca.PEM)
	write("README", []byte("not for us"))
	write("account.json", []byte("{}"))
	secret := filepath.Join(t.TempDir(), "from_secret")
	testbed.WriteSecret(t, secret, append(cert, key...))

	s := certs.New([]string{dir, secret}, nil)
	if !s.Refresh(time.Now(), false) || s.Refresh(time.Now(), false) {
		t.Error("one change, and then none")
	}
	want := []string{
		"_.wild.test for two.test", "from_secret for two.test", "k8s for two.test", "live for two.test",
		"one for *.a.test a.test", "two for two.test", "authority staff",
	}
	if diff := cmp.Diff(want, summary(s.Contents())); diff != "" {
		t.Error(diff)
	}
	for _, c := range s.Contents().Certificates {
		if block, _ := pem.Decode(c.PEM); block.Type != "CERTIFICATE" || !strings.Contains(string(c.PEM), "PRIVATE KEY") {
			t.Errorf("%s: the certificate comes first, the key with it", c.Name)
		}
	}
}

// TestStore_extensions pairs a key with a certificate of each extension, as folders and as single
// files, which is how Swarm's secrets come. One of them that holds no PEM is a fault.
func TestStore_extensions(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	cert, key := ca.Issue(t, time.Hour, "demo.local")
	for _, ext := range []string{".pem", ".crt", ".cer", ".cert"} {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "demo.local"+ext), filepath.Join(dir, "demo.local.key")
		testbed.WriteSecret(t, certFile, cert)
		testbed.WriteSecret(t, keyFile, key)
		for _, paths := range [][]string{{dir}, {certFile, keyFile}} {
			s := certs.New(paths, nil)
			s.Refresh(time.Now(), false)
			if got := summary(s.Contents()); len(got) != 1 || got[0] != "demo.local for demo.local" {
				t.Errorf("%s of %q: %q", ext, paths, got)
			}
		}
		dir = t.TempDir()
		testbed.WriteSecret(t, filepath.Join(dir, "broken"+ext), []byte("hello\n"))
		s := certs.New([]string{dir}, nil)
		s.Refresh(time.Now(), false)
		if got := summary(s.Contents()); len(got) != 1 || !strings.HasPrefix(got[0], "fault broken"+ext+": holds no PEM") {
			t.Errorf("a broken file %s: %q", ext, got)
		}
	}
}

func TestStore_F47_faults(t *testing.T) {
	ca := testbed.NewAuthority(t, "ca")
	cert, key := ca.Issue(t, time.Hour, "a.test")
	other, _ := ca.Issue(t, time.Hour, "a.test")
	expired, expiredKey := ca.Issue(t, -time.Minute, "a.test")
	small, err := rsa.GenerateKey(rand.Reader, 1024) //nolint:gosec // That is the fault.
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, small.Public(), small)
	if err != nil {
		t.Fatal(err)
	}
	weak := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(small)})...)
	locked := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	for reason, data := range map[string][]byte{
		"holds no PEM":                 []byte("hello\n"),
		"cannot be read":               pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"without a key":                cert,
		"without a certificate":        key,
		"do not go together":           append(slices.Clip(other), key...),
		"expired on":                   append(expired, expiredKey...),
		"has a passphrase":             append(slices.Clip(cert), locked...),
		"has 1024 bits":                weak,
		"2 keys":                       append(append(slices.Clip(cert), key...), expiredKey...),
		"larger than":                  make([]byte, 5<<20),
		"is not valid before":          nil, // below
		"the name of the file is that": nil,
	} {
		dir := t.TempDir()
		path, now := filepath.Join(dir, "a.pem"), time.Now()
		good := append(slices.Clip(cert), key...)
		s := certs.New([]string{dir}, nil)
		switch reason {
		case "is not valid before":
			data, now = good, now.Add(-2*time.Hour)
		case "the name of the file is that":
			data, path = good, filepath.Join(dir, "a b.pem")
		}
		testbed.WriteSecret(t, path, data)
		s.Refresh(now, false)
		if got := summary(s.Contents()); len(got) != 1 || !strings.HasPrefix(got[0], "fault ") || !strings.Contains(got[0], reason) || strings.HasSuffix(got[0], "(kept)") {
			t.Errorf("%s: %q", reason, got)
		}
		if filepath.Base(path) != "a.pem" {
			continue
		}
		// A good one mends it; the fault then leaves that in place.
		testbed.WriteSecret(t, path, good)
		s.Refresh(time.Now(), true)
		if got := summary(s.Contents()); len(got) != 1 || got[0] != "a for a.test" {
			t.Errorf("%s, mended: %q", reason, got)
		}
		testbed.WriteSecret(t, path, data)
		s.Refresh(now, true)
		if got := summary(s.Contents()); len(got) != 2 || got[0] != "a for a.test" || !strings.HasSuffix(got[1], "(kept)") {
			t.Errorf("%s, kept: %q", reason, got)
		}
		// Also by a store that finds it at its start, if the certificate was served before.
		s = certs.New([]string{dir}, func(string) []byte { return good })
		s.Refresh(now, false)
		if got := summary(s.Contents()); len(got) != 2 || got[0] != "a for a.test" || !strings.HasSuffix(got[1], "(kept)") {
			t.Errorf("%s, at the start: %q", reason, got)
		}
	}
}

// TestStore_unreadable wants a folder that is away to take nothing away, and a file that is gone
// to be gone.
func TestStore_unreadable(t *testing.T) {
	ca, dir := testbed.NewAuthority(t, "ca"), filepath.Join(t.TempDir(), "store")
	testbed.WriteSecret(t, filepath.Join(dir, "a.pem"), ca.Pair(t, "a.test"))
	testbed.WriteSecret(t, filepath.Join(dir, "ca.pem"), ca.PEM)
	s := certs.New([]string{dir}, nil)
	s.Refresh(time.Now(), false)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	s.Refresh(time.Now(), false)
	if got := summary(s.Contents()); len(got) != 3 || got[0] != "a for a.test" || got[1] != "authority ca" || !strings.HasPrefix(got[2], "fault store: stat: no such file") {
		t.Errorf("%q", got)
	}
	if err := errors.Join(os.Rename(dir+".away", dir), os.Remove(filepath.Join(dir, "a.pem"))); err != nil {
		t.Fatal(err)
	}
	s.Refresh(time.Now(), false)
	if got := summary(s.Contents()); len(got) != 1 || got[0] != "authority ca" {
		t.Errorf("%q", got)
	}
}
