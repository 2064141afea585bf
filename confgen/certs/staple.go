package certs

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Staple is what an authority says of a certificate, to be shown with it in the handshake.
type Staple struct {
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time // until then it counts; it is shown until margin before
}

// responseExt ends the name of a file with an OCSP response.
const responseExt = ".ocsp"

// mostResponse bounds a response: HAProxy has 16 kB for one. Usual ones have 500 to 2500 bytes.
const mostResponse = 12 << 10

// Equal reports whether two are the same, or both nil.
func (s *Staple) Equal(o *Staple) bool {
	if s == nil || o == nil {
		return s == o
	}
	return bytes.Equal(s.DER, o.DER)
}

func splitResponses(files []file) (others, responses []file) {
	for _, f := range files {
		if strings.HasSuffix(f.path, responseExt) {
			responses = append(responses, f)
		} else {
			others = append(others, f)
		}
	}
	return others, responses
}

// staple gives a certificate the OCSP response that lies beside it. One of no use is reported, and
// the certificate is served with what it had before, as long as that counts, else without any.
func (s *Store) staple(c *Contents, cert *Certificate, responses []file, now time.Time) {
	if len(responses) == 0 {
		return
	}
	staple, err := readStaple(responses, cert.PEM)
	if err == nil {
		s.periods = append(s.periods, staple.period())
		err = staple.validAt(now)
	}
	if err == nil {
		cert.Staple = staple
		return
	}
	old, known := s.before(cert.Name)
	kept := known && old.Digest == cert.Digest && old.Staple != nil && old.Staple.validAt(now) == nil
	if kept {
		cert.Staple = old.Staple
	}
	c.Faults = append(c.Faults, Fault{File: responses[0].path, Reason: "OCSP response: " + err.Error(), Kept: kept})
}

// checkStaples lets go of what counts no more, also where everything else is kept as it was.
func (s *Store) checkStaples(c *Contents, now time.Time) {
	for i := range c.Certificates {
		cert := &c.Certificates[i]
		if cert.Staple == nil {
			continue
		}
		s.periods = append(s.periods, cert.Staple.period())
		if cert.Staple.validAt(now) != nil {
			cert.Staple = nil
		}
	}
}

// margin is how long before its end a response is shown no more, since clients' clocks differ.
// HAProxy has the same.
const margin = 5 * time.Minute

func (s *Staple) period() period { return period{s.ThisUpdate, s.NextUpdate.Add(-margin)} }

// validAt refuses a response outside of its validity.
func (s *Staple) validAt(now time.Time) error {
	switch p := s.period(); {
	case now.After(p.until):
		return fmt.Errorf("counts until %s, and is shown until %s before that", s.NextUpdate.UTC().Format(time.RFC3339), margin)
	case now.Before(p.from):
		return fmt.Errorf("does not count before %s", p.from.UTC().Format(time.RFC3339))
	}
	return nil
}

// readStaple reads a response and checks that the issuer of a certificate has given it for just
// that one, whatever the time.
func readStaple(files []file, chain []byte) (*Staple, error) {
	if len(files) > 1 {
		return nil, fmt.Errorf("%d files stand under this name: want one", len(files))
	}
	der, err := files[0].read()
	if err != nil {
		return nil, errors.New(reasonOf(err))
	}
	if len(der) > mostResponse {
		return nil, fmt.Errorf("has %d bytes: want at most %d", len(der), mostResponse)
	}
	leaf, issuer, err := issuerOf(chain)
	if err != nil {
		return nil, err
	}
	// Without a certificate to look for, it wants a single answer, as HAProxy does.
	r, err := ocsp.ParseResponse(der, issuer)
	if err != nil {
		return nil, fmt.Errorf("cannot be used: %s", strings.TrimPrefix(err.Error(), "ocsp: "))
	}
	switch {
	case r.SerialNumber.Cmp(leaf.SerialNumber) != 0:
		return nil, errors.New("is for another certificate")
	case r.Certificate != nil && !r.Certificate.Equal(issuer) && !slices.Contains(r.Certificate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return nil, errors.New("is signed by one whom the issuer has not let sign OCSP responses")
	case r.IssuerHash != crypto.SHA1:
		return nil, fmt.Errorf("names the issuer by %s: want SHA-1, which HAProxy finds it by", r.IssuerHash)
	case r.Status == ocsp.Revoked:
		return nil, fmt.Errorf("says that the certificate is revoked since %s", r.RevokedAt.UTC().Format(time.RFC3339))
	case r.Status != ocsp.Good:
		return nil, errors.New("says that the authority does not know the certificate")
	case r.NextUpdate.IsZero():
		return nil, errors.New("does not say until when it counts")
	}
	return &Staple{DER: der, ThisUpdate: r.ThisUpdate, NextUpdate: r.NextUpdate}, nil
}

// issuerOf finds the first certificate of a chain and the one that has signed it.
func issuerOf(chain []byte) (leaf, issuer *x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			return nil, nil, errors.New("needs the issuer's certificate in the chain to be checked with")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("certificate cannot be read: %w", err)
		}
		switch {
		case leaf == nil:
			leaf = c
		case bytes.Equal(leaf.RawIssuer, c.RawSubject) && leaf.CheckSignatureFrom(c) == nil:
			return leaf, c, nil
		}
	}
}
