package certs_test

import (
	"bytes"
	"crypto"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/certs"
	"fairway/internal/testbed"

	"golang.org/x/crypto/ocsp"
)

// good is a response that counts for a while from an hour ago.
func good(until time.Duration) ocsp.Response {
	now := time.Now()
	return ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(until)}
}

func TestStore_staple(t *testing.T) {
	ca, other := testbed.NewAuthority(t, "ca"), testbed.NewAuthority(t, "ca")
	pair := ca.Pair(t, "a.test")
	chain := append(slices.Clip(pair), ca.PEM...)
	deputy := ca.TLS(t, "not a responder")
	with := func(change func(*ocsp.Response)) []byte {
		r := good(time.Hour)
		change(&r)
		return ca.Answer(t, pair, r, nil)
	}
	for reason, c := range map[string]struct{ cert, response []byte }{
		"":                            {chain, ca.Answer(t, pair, good(time.Hour), nil)},
		"cannot be used":              {chain, []byte("hello\n")},
		"signature":                   {chain, other.Answer(t, pair, good(time.Hour), nil)},
		"is for another certificate":  {chain, with(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(1 << 40) })},
		"not let sign":                {chain, ca.Answer(t, pair, good(time.Hour), &deputy)},
		"names the issuer by SHA-256": {chain, with(func(r *ocsp.Response) { r.IssuerHash = crypto.SHA256 })},
		"is revoked since":            {chain, with(func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now() })},
		"does not know":               {chain, with(func(r *ocsp.Response) { r.Status = ocsp.Unknown })},
		"until when":                  {chain, with(func(r *ocsp.Response) { r.NextUpdate = time.Time{} })},
		"counts until":                {chain, ca.Answer(t, pair, good(4*time.Minute), nil)},
		"does not count before":       {chain, with(func(r *ocsp.Response) { r.ThisUpdate = time.Now().Add(time.Minute) })},
		"in the chain":                {pair, ca.Answer(t, pair, good(time.Hour), nil)},
		"want at most":                {chain, make([]byte, 20<<10)},
	} {
		for _, name := range []string{"a.ocsp", "a.pem.ocsp"} {
			dir := t.TempDir()
			testbed.WriteSecret(t, filepath.Join(dir, "a.pem"), c.cert)
			testbed.WriteSecret(t, filepath.Join(dir, name), c.response)
			s := certs.New([]string{dir}, nil)
			s.Refresh(time.Now(), false)
			got := s.Contents()
			if len(got.Certificates) != 1 || (got.Certificates[0].Staple != nil) != (reason == "") || (len(got.Faults) == 0) != (reason == "") {
				t.Errorf("%q: %q", reason, summary(got))
				continue
			}
			if reason == "" && !bytes.Equal(got.Certificates[0].Staple.DER, c.response) {
				t.Error("another response")
			}
			if reason != "" && (!strings.HasPrefix(got.Faults[0].Reason, "OCSP response: ") || !strings.Contains(got.Faults[0].Reason, reason) || filepath.Base(got.Faults[0].File) != name) {
				t.Errorf("%q: %+v", reason, got.Faults)
			}
		}
	}
}

// TestStore_stapleChanges follows a response from file to file and through the hours.
func TestStore_stapleChanges(t *testing.T) {
	ca, dir, start := testbed.NewAuthority(t, "ca"), t.TempDir(), time.Now()
	pair := ca.Pair(t, "a.test")
	write := func(name string, data ...[]byte) {
		testbed.WriteSecret(t, filepath.Join(dir, name), slices.Concat(data...))
	}
	first, second := ca.Answer(t, pair, good(time.Hour), nil), ca.Answer(t, pair, good(2*time.Hour), nil)
	s := certs.New([]string{dir}, nil)
	for _, step := range []struct {
		name  string
		do    func()
		after time.Duration
		want  []byte
		fault string // "" for none
		kept  bool
	}{
		{"alone", func() { write("a.ocsp", first) }, 0, nil, "without a certificate", false},
		{"beside a certificate", func() { write("a.pem", pair, ca.PEM) }, 0, first, "", false},
		{"a new one", func() { write("a.ocsp", second) }, 0, second, "", false},
		{"a broken one", func() { write("a.ocsp", []byte("x")) }, 0, second, "cannot be used", true},
		{"a broken certificate", func() { write("a.pem", []byte("x")) }, 0, second, "holds no PEM", true},
		{"which the response does not outlive", func() {}, 3 * time.Hour, nil, "holds no PEM", true},
		{"mended", func() { write("a.pem", pair, ca.PEM); write("a.ocsp", first) }, 0, first, "", false},
		{"too old", func() {}, 90 * time.Minute, nil, "counts until", false},
		{"replaced", func() { write("a.ocsp", second) }, 90 * time.Minute, second, "", false},
		{"of the certificate before", func() { write("a.pem", ca.Pair(t, "a.test"), ca.PEM) }, 0, nil, "is for another certificate", false},
		{"gone", func() { _ = os.Remove(filepath.Join(dir, "a.ocsp")) }, 0, nil, "", false},
	} {
		step.do()
		if !s.Refresh(start.Add(step.after), false) {
			t.Errorf("%s: not seen", step.name)
		}
		got := s.Contents()
		var staple []byte
		for _, c := range got.Certificates {
			if c.Staple != nil {
				staple = c.Staple.DER
			}
		}
		if !bytes.Equal(staple, step.want) {
			t.Errorf("%s: response of %d bytes, want %d", step.name, len(staple), len(step.want))
		}
		if len(got.Faults) != min(1, len(step.fault)) || len(got.Faults) == 1 && (!strings.Contains(got.Faults[0].Reason, step.fault) || got.Faults[0].Kept != step.kept) {
			t.Errorf("%s: %+v", step.name, got.Faults)
		}
	}
}
