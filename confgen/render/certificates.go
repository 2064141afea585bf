package render

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"fairway/confgen/route"
)

// CertificateList is HAProxy's crt-list: which certificate is for which host. What a certificate
// file holds, and the lines of the list, HAProxy is told at run time.
const CertificateList = "certs.crtlist"

// nobody is the name of a certificate that no client is ever shown: HAProxy and old versions of
// nginx want one to be there before they refuse a handshake. No file of a store can be called so.
const nobody = "~none"

// Secrets are the contents of a certificate store by name, as PEM.
type Secrets struct {
	Certificates map[string][]byte // certificate, chain and key
	Authorities  map[string][]byte
	Staples      map[string][]byte // OCSP responses by the names of certificates, as DER
}

// CertificateFiles are the files that a table with a store needs beside what templates print:
// the certificates that are in use, the authorities, and for HAProxy the list of them. They hold
// keys, and are for their owner alone.
func CertificateFiles(v View, proxy route.Proxy, s Secrets) ([]File, error) {
	d := &data{View: v}
	var files []File
	if v.Store {
		placeholder, err := placeholderPEM()
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: "certs/" + nobody + ".pem", Mode: 0o600, Data: placeholder})
	}
	for _, name := range d.certificatesInUse() {
		pem, known := s.Certificates[name]
		if !known {
			return nil, fmt.Errorf("certificate %s: not in the store", name)
		}
		files = append(files, File{Path: "certs/" + name + ".pem", Mode: 0o600, Data: pem})
		if v.Stapled[name] {
			files = append(files, File{Path: "certs/" + name + ".pem.ocsp", Mode: 0o600, Data: s.Staples[name]})
		}
	}
	for _, name := range d.authoritiesInUse() {
		pem, known := s.Authorities[name]
		if !known {
			return nil, fmt.Errorf("authority %s: not in the store", name)
		}
		files = append(files, File{Path: "ca/" + name + ".pem", Mode: 0o600, Data: pem})
	}
	if v.Store && proxy == route.HAProxy {
		files = append(files, File{Path: CertificateList, Mode: 0o600, Data: []byte(d.certificateList())})
	}
	return files, nil
}

func (d *data) certificatesInUse() []string {
	used := make(map[string]bool)
	for _, h := range d.Handshakes {
		used[h.Certificate] = true
	}
	if d.Certificate != "" {
		used[d.Certificate] = true
	}
	for _, b := range d.Backends {
		if b.Options != nil && b.Options.TLS.Certificate != "" {
			used[b.Options.TLS.Certificate] = true
		}
	}
	return slices.Sorted(maps.Keys(used))
}

func (d *data) authoritiesInUse() []string {
	used := make(map[string]bool)
	for _, h := range d.Handshakes {
		if h.Authority != "" {
			used[h.Authority] = true
		}
	}
	for _, b := range d.Backends {
		if b.Options != nil && b.Options.TLS.Authority != "" {
			used[b.Options.TLS.Authority] = true
		}
	}
	return slices.Sorted(maps.Keys(used))
}

// certificateList prints a line for each certificate and what is asked of clients. The first is
// the default: what a client is shown whose host is in no line, unless such clients are refused.
func (d *data) certificateList() string {
	var lines []string
	if d.Certificate == "" {
		lines = append(lines, d.CertificateFile("")+" fairway.invalid")
	} else {
		// Its own hosts stand in a line below; a name that cannot be asked for stands here.
		lines = append(lines, d.CertificateFile(d.Certificate)+" fairway.invalid")
	}
	groups := make(map[route.Handshake][]string)
	for _, h := range d.Handshakes {
		key := route.Handshake{Certificate: h.Certificate, Authority: h.Authority, Optional: h.Optional}
		groups[key] = append(groups[key], h.Pattern)
	}
	first := len(lines)
	for h, patterns := range groups {
		options := ""
		switch {
		case h.Authority != "" && h.Optional:
			options = " [verify optional ca-file " + d.AuthorityFile(h.Authority) + "]"
		case h.Authority != "":
			options = " [verify required ca-file " + d.AuthorityFile(h.Authority) + "]"
		}
		slices.Sort(patterns)
		for some := range slices.Chunk(patterns, 20) {
			lines = append(lines, d.CertificateFile(h.Certificate)+options+" "+strings.Join(some, " "))
		}
	}
	slices.Sort(lines[first:])
	return strings.Join(lines, "\n") + "\n"
}

// CertificateFile is where a certificate lies as the proxy sees it; of "" the one that nobody is
// shown.
func (d *data) CertificateFile(name string) string { return certificateFile(&d.Settings, name) }

// AuthorityFile is where the certificates of an authority lie as the proxy sees it.
func (d *data) AuthorityFile(name string) string { return authorityFile(&d.Settings, name) }

func certificateFile(s *Settings, name string) string {
	if name == "" {
		name = nobody
	}
	return s.inDir("certs/" + name + ".pem")
}

func authorityFile(s *Settings, name string) string { return s.inDir("ca/" + name + ".pem") }

func (s *Settings) inDir(path string) string {
	if s.Dir == "" {
		return path
	}
	return strings.TrimSuffix(s.Dir, "/") + "/" + path
}

// ResumesSessions reports whether clients may resume TLS sessions. Where certificates of several
// authorities are asked for they may not: a session that began under one host's authority could
// be resumed under another's, and still count as verified (nginx's CVE-2025-23419).
func (d *data) ResumesSessions() bool {
	authorities := make(map[string]bool)
	for _, h := range d.Handshakes {
		if h.Authority != "" {
			authorities[h.Authority] = true
		}
	}
	return len(authorities) < 2
}

// NamesVary reports whether servers are verified for the host of each request. nginx would send a
// request for one host over a connection that was verified for another, so it keeps none.
func (b backendData) NamesVary() bool {
	return b.Options != nil && b.Options.TLS.Authority != "" && b.Options.TLS.Name == ""
}

// ServerTLS is how a server block of nginx begins TLS.
type ServerTLS struct {
	Certificate string // file; "" refuses the handshake
	Staple      string // file of an OCSP response for it; "" for none
	Authority   string // file of those who sign clients' certificates; "" asks for none
	Optional    bool   // some route of the host is open to clients without one
}

// tlsOf finds the handshake for a host pattern: its own, else that of a wildcard certificate,
// else the default certificate.
func (t tree) tlsOf(r route.Route) ServerTLS {
	d := t.data
	if !t.entrypoint.TLS {
		return ServerTLS{}
	}
	if !d.Store {
		return ServerTLS{Certificate: d.Settings.Certificate}
	}
	pattern := r.Host
	if r.HostKind == route.HostWildcard {
		pattern = "*." + r.Host
	}
	h, known := d.handshakes[pattern]
	if !known && r.HostKind == route.HostExact {
		_, rest, _ := strings.Cut(r.Host, ".")
		h, known = d.handshakes["*."+rest]
	}
	if !known || r.HostKind == route.HostAny {
		h = route.Handshake{Certificate: d.Certificate}
	}
	var s ServerTLS
	if h.Certificate != "" {
		s.Certificate = d.CertificateFile(h.Certificate)
	}
	if d.Stapled[h.Certificate] {
		s.Staple = s.Certificate + ".ocsp"
	}
	if h.Authority != "" {
		s.Authority, s.Optional = d.AuthorityFile(h.Authority), h.Optional
	}
	return s
}

// certified adds the names that the store has a certificate for and no route of their own: they
// are served what less precise hosts are, under their own certificate.
func (t tree) certified(order []route.Route) []route.Route {
	if !t.entrypoint.TLS {
		return order
	}
	for _, h := range t.data.Handshakes {
		if r := patternRoute(h.Pattern); t.byHost[patternKey(r)] == nil {
			order = append(order, r)
		}
	}
	return order
}

// patternRoute is a route without a path that stands for the pattern of a handshake.
func patternRoute(pattern string) route.Route {
	if host, wild := strings.CutPrefix(pattern, "*."); wild {
		return route.Route{HostKind: route.HostWildcard, Host: host}
	}
	return route.Route{HostKind: route.HostExact, Host: pattern}
}

// placeholderPEM is a certificate with a key that is no secret, the same everywhere.
func placeholderPEM() ([]byte, error) {
	seed := sha256.Sum256([]byte("fairway: shown to nobody"))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fairway.invalid"}, DNSNames: []string{"fairway.invalid"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	cert, err := x509.CreateCertificate(zeros{}, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate that nobody is shown: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate that nobody is shown: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

// zeros is randomness that an Ed25519 signature does not use.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var _ io.Reader = zeros{}
