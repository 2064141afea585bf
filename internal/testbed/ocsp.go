package testbed

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/ocsp"
)

// Answer signs an OCSP response for a certificate, which stands first in pair; r says the rest.
// With a deputy, a certificate and its key, it is that one's signature.
func (a *Authority) Answer(t testing.TB, pair []byte, r ocsp.Response, deputy *tls.Certificate) []byte {
	t.Helper()
	block, _ := pem.Decode(pair)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	responder, key := a.Certificate, crypto.Signer(a.key)
	if deputy != nil {
		key, _ = deputy.PrivateKey.(crypto.Signer)
		if responder, err = x509.ParseCertificate(deputy.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		r.Certificate = responder
	}
	if r.SerialNumber == nil {
		r.SerialNumber = leaf.SerialNumber
	}
	der, err := ocsp.CreateResponse(a.Certificate, responder, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
