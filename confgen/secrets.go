package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fairway/confgen/certs"
	"fairway/confgen/render"
	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// Certificates is where the operator keeps what is served with TLS.
type Certificates struct {
	Paths   []string // folders and files of the store; none for no store
	Default string   // name of the certificate for hosts without one; "" refuses them
	System  []byte   // authorities that everybody trusts, as PEM; nil where none were found
}

// secrets is the certificate store of one front.
type secrets struct {
	opt   Certificates
	kind  route.Proxy
	store *certs.Store // nil where there is none
	log   hclog.Logger
	seen  map[certs.Fault]bool
}

// newSecrets reads the store. A file that cannot be used is no error: the rest is served.
func newSecrets(opt Options, log hclog.Logger) *secrets {
	s := &secrets{opt: opt.Certificates, kind: opt.Routing.Proxy, log: log}
	if len(s.opt.Paths) == 0 {
		return s
	}
	dir := opt.Proxy.Dir
	s.store = certs.New(s.opt.Paths, func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "certs", filepath.Base(name)+".pem"))
		if err != nil {
			return nil
		}
		return data
	})
	s.refresh()
	return s
}

// refresh reads the store again if its files or what the clock says of them have changed, says what
// is new, and reports whether there is anything.
func (s *secrets) refresh() bool {
	before := s.store.Contents()
	if !s.store.Refresh(time.Now(), false) {
		return false
	}
	now := s.store.Contents()
	s.tellCertificates(before, now)
	s.tellFaults(now)
	return true
}

// tellCertificates logs which certificates and OCSP responses are new, and which have gone.
func (s *secrets) tellCertificates(before, now certs.Contents) {
	old := make(map[string]certs.Certificate)
	for _, c := range before.Certificates {
		old[c.Name] = c
	}
	for _, c := range now.Certificates {
		was := old[c.Name]
		if was.Digest != c.Digest {
			s.log.Info("certificate read", "certificate", c.Name, "hosts", strings.Join(c.Hosts, " "), "not_after", c.NotAfter.UTC().Format(time.RFC3339))
		}
		switch {
		case c.Staple == nil && was.Staple != nil:
			s.log.Info("no OCSP response is served any more", "certificate", c.Name)
		case !c.Staple.Equal(was.Staple):
			s.log.Info("OCSP response read", "certificate", c.Name, "next_update", c.Staple.NextUpdate.UTC().Format(time.RFC3339))
		}
		delete(old, c.Name)
	}
	for name := range old {
		s.log.Info("certificate is no longer in the store", "certificate", name)
	}
}

func (s *secrets) tellFaults(now certs.Contents) {
	faults := make(map[certs.Fault]bool)
	for _, f := range now.Faults {
		faults[f] = true
		if !s.seen[f] {
			s.log.Warn("file of the certificate store cannot be used", "file", f.File, "reason", f.Reason, "old_one_serves", f.Kept)
		}
	}
	s.seen = faults
}

// storePoll is how often the files of the store are looked at; a look costs one stat each.
const storePoll = time.Second

// watch calls wake whenever what is in the store has changed.
func (s *secrets) watch(ctx context.Context, wake func()) error {
	if s.store == nil {
		return nil
	}
	tick := time.NewTicker(storePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if s.refresh() {
			wake()
		}
	}
}

// inventory is what the store holds at one moment.
type inventory struct {
	certs.Contents
	*secrets
}

func (s *secrets) now() inventory {
	h := inventory{secrets: s}
	if s.store != nil {
		h.Contents = s.store.Contents()
	}
	if h.missingDefault() {
		h.Faults = append(slices.Clip(h.Faults), certs.Fault{
			File: s.opt.Default, Reason: "is to be the default certificate, and the store has none of that name; hosts without a certificate are refused",
		})
	}
	return h
}

func (h inventory) missingDefault() bool {
	if h.opt.Default == "" {
		return false
	}
	for _, c := range h.Certificates {
		if c.Name == h.opt.Default {
			return false
		}
	}
	return true
}

// routing adds what the store holds to the settings of the route table: names, and nothing secret.
func (h inventory) routing(set route.Settings) route.Settings {
	set.SystemAuthorities = h.opt.System != nil
	if h.store == nil {
		return set
	}
	c := &route.Certificates{Default: h.opt.Default}
	if h.missingDefault() {
		c.Default = ""
	}
	for _, cert := range h.Certificates {
		c.List = append(c.List, route.Certificate{Name: cert.Name, Hosts: cert.Hosts, NotAfter: cert.NotAfter})
	}
	for _, a := range h.Authorities {
		c.Authorities = append(c.Authorities, a.Name)
	}
	set.Certificates = c
	return set
}

// stapled are the certificates that an OCSP response is served with.
func (h inventory) stapled() map[string]bool {
	m := make(map[string]bool)
	for _, c := range h.Certificates {
		if c.Staple != nil {
			m[c.Name] = true
		}
	}
	return m
}

// files are those of the store that a view uses.
func (h inventory) files(v render.View) ([]render.File, error) {
	s := render.Secrets{
		Certificates: make(map[string][]byte), Staples: make(map[string][]byte),
		Authorities: map[string][]byte{route.SystemAuthorities: h.opt.System},
	}
	for _, c := range h.Certificates {
		s.Certificates[c.Name] = c.PEM
		if c.Staple != nil {
			s.Staples[c.Name] = c.Staple.DER
		}
	}
	for _, a := range h.Authorities {
		s.Authorities[a.Name] = a.PEM
	}
	return render.CertificateFiles(v, h.kind, s)
}

// renderWith prints a view's files, those of the store among them.
func renderWith(f files, h inventory, v render.View) ([]render.File, error) {
	v.Stapled = h.stapled()
	rendered, err := f.Render(v)
	if err != nil {
		return nil, err
	}
	own, err := h.files(v)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	return append(withSecrets(rendered, v.Settings), own...), nil
}

// bundles are where systems keep the authorities that everybody trusts, as in Go's crypto/x509.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// readCertificates reads the settings of the store.
func (o *Options) readCertificates(c settings) error {
	o.Certificates = Certificates{Paths: c.StringSlice("certificates"), Default: c.String("default-certificate")}
	if len(o.Certificates.Paths) > 0 && o.Render.Certificate != "" {
		return c.refuse("tls-certificates", " and certificates: want one of them; the store has what confgen reads and checks, the other what only the proxy sees")
	}
	if o.Certificates.Default != "" && len(o.Certificates.Paths) == 0 {
		return c.refuse("default-certificate", " %q: there is no store to take it from (certificates)", o.Certificates.Default)
	}
	for _, path := range o.Certificates.Paths {
		if _, err := os.Stat(path); err != nil {
			return c.refuse("certificates", ": %w", err)
		}
		if inside, err := filepath.Rel(filepath.Join(o.Proxy.Dir, "certs"), path); err == nil && filepath.IsLocal(inside) {
			return c.refuse("certificates", " %s: is where confgen itself writes; want another folder", path)
		}
	}
	file := c.String("system-authorities")
	list := []string{file}
	if file == "" {
		list = append([]string{os.Getenv("SSL_CERT_FILE")}, bundles...)
	}
	for _, path := range list {
		pem, err := certs.ReadAuthorities(path)
		switch {
		case err == nil:
			o.Certificates.System = pem
			return nil
		case file != "":
			return c.refuse("system-authorities", " %s: %w", path, err)
		case path != "" && !errors.Is(err, os.ErrNotExist):
			return c.refuse("system-authorities", ": %s: %w", path, err)
		}
	}
	return nil
}
