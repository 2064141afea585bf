package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// errNothing: no file of a name is meant for the store.
var errNothing = errors.New("no PEM")

// assemble makes a certificate or an authority of the files of one name, whatever the time.
func assemble(name string, files []file) (*Certificate, *Authority, error) {
	p, err := parse(files)
	if err != nil {
		return nil, nil, err
	}
	if err := checkName(name); err != nil {
		return nil, nil, err
	}
	switch {
	case len(p.keys) == 0 && len(p.certificates) == 0:
		return nil, nil, errors.New("holds no certificate")
	case len(p.certificates) == 0:
		return nil, nil, errors.New("is a key without a certificate beside it: want NAME.crt and NAME.key, or both in NAME.pem")
	case len(p.keys) > 1:
		return nil, nil, fmt.Errorf("%d keys stand under this name: want one", len(p.keys))
	case len(p.keys) == 0 && slices.ContainsFunc(p.certificates, func(c *x509.Certificate) bool { return !c.IsCA }):
		return nil, nil, errors.New("is a certificate without a key beside it: want NAME.crt and NAME.key, or both in NAME.pem")
	case len(p.keys) == 0:
		data := encode(p.certificates)
		return nil, &Authority{Name: name, PEM: data, Digest: digest(data)}, nil
	}
	c, err := p.certificate()
	if err != nil {
		return nil, nil, err
	}
	c.Name, c.File = name, files[0].path
	return c, nil, nil
}

// parsed is what stands in the files of one name.
type parsed struct {
	certificates []*x509.Certificate
	keys         []*pem.Block
}

func parse(files []file) (parsed, error) {
	var p parsed
	meant := false // by its extension, or by what it holds
	for _, f := range files {
		data, err := f.read()
		if err != nil {
			return p, errors.New(reasonOf(err))
		}
		expected := slices.Contains(extensions, filepath.Ext(f.path))
		found := false
		for {
			var block *pem.Block
			if block, data = pem.Decode(data); block == nil {
				break
			}
			found = true
			if err := p.add(block); err != nil {
				return p, err
			}
		}
		if expected && !found {
			return p, errors.New("holds no PEM: want text that begins with -----BEGIN")
		}
		meant = meant || found
	}
	if !meant {
		return p, errNothing
	}
	return p, nil
}

func (f file) read() ([]byte, error) {
	if f.data != nil {
		return f.data, nil
	}
	in, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer in.Close() //nolint:errcheck // Only read.
	data, err := io.ReadAll(io.LimitReader(in, most+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("is larger than %d bytes", most)
	}
	return data, err
}

func (p *parsed) add(block *pem.Block) error {
	switch {
	case block.Type == "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d cannot be read: %w", len(p.certificates)+1, err)
		}
		p.certificates = append(p.certificates, c)
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return errors.New("the key has a passphrase, which a proxy that starts by itself cannot give")
	case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
		p.keys = append(p.keys, &pem.Block{Type: block.Type, Bytes: block.Bytes})
	}
	return nil // Parameters and the like are not served.
}

// certificate puts the one that belongs to the key first, checks all, and writes them down the
// way that both proxies read them.
func (p parsed) certificate() (*Certificate, error) {
	key := pem.EncodeToMemory(p.keys[0])
	var leaf *x509.Certificate
	var reason error
	for i, c := range p.certificates {
		if _, err := tls.X509KeyPair(encode([]*x509.Certificate{c}), key); err != nil {
			reason = err
			continue
		}
		leaf = c
		p.certificates = slices.Insert(slices.Delete(slices.Clone(p.certificates), i, i+1), 0, c)
		break
	}
	if leaf == nil {
		if len(p.certificates) > 1 {
			reason = errors.New("none of them belongs to the key")
		}
		return nil, fmt.Errorf("certificate and key do not go together: %s", strings.TrimPrefix(reason.Error(), "tls: "))
	}
	hosts, err := hostsOf(leaf)
	if err != nil {
		return nil, err
	}
	for _, c := range p.certificates {
		if err := checkStrength(c); err != nil {
			return nil, err
		}
	}
	data := append(encode(p.certificates), key...)
	return &Certificate{Hosts: hosts, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, PEM: data, Digest: digest(data)}, nil
}

// validAt refuses a certificate outside of its validity.
func (c *Certificate) validAt(now time.Time) error {
	switch p := (period{c.NotBefore, c.NotAfter}); {
	case now.After(p.until):
		return fmt.Errorf("expired on %s", p.until.UTC().Format(time.RFC3339))
	case now.Before(p.from):
		return fmt.Errorf("is not valid before %s", p.from.UTC().Format(time.RFC3339))
	}
	return nil
}

// hostsOf returns the DNS names of a certificate, or the common name of one that has none. An
// address alone is fine too: as the default certificate.
func hostsOf(c *x509.Certificate) ([]string, error) {
	names := c.DNSNames
	if len(names) == 0 && len(c.IPAddresses) == 0 {
		names = []string{c.Subject.CommonName}
	}
	var hosts []string
	for _, name := range names {
		name = strings.TrimSuffix(strings.ToLower(name), ".")
		if validHost(strings.TrimPrefix(name, "*.")) {
			hosts = append(hosts, name)
		}
	}
	if len(hosts) == 0 && len(c.IPAddresses) == 0 {
		return nil, errors.New("names no host: want a DNS name in its subjectAltName")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// checkStrength refuses what OpenSSL refuses at its default security level of 2, and with that
// would stop the whole proxy from loading.
func checkStrength(c *x509.Certificate) error {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			return fmt.Errorf("the RSA key of %q has %d bits: want at least 2048", c.Subject.CommonName, bits)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return fmt.Errorf("the key of %q is neither RSA nor ECDSA nor Ed25519", c.Subject.CommonName)
	}
	weak := []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1}
	if slices.Contains(weak, c.SignatureAlgorithm) && !bytes.Equal(c.RawIssuer, c.RawSubject) {
		return fmt.Errorf("%q is signed with %s, which proxies no longer load", c.Subject.CommonName, c.SignatureAlgorithm)
	}
	return nil
}

// checkName accepts what can be the name of a file of the proxy's.
func checkName(name string) error {
	ok := name != "" && len(name) <= 128 && name[0] != '.' && name[0] != '-'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return errors.New("the name of the file is that of the certificate: want 1 to 128 of a-z A-Z 0-9 . _ -, and not . or - in front")
	}
	return nil
}

func encode(list []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range list {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // A buffer takes everything.
	}
	return out.Bytes()
}

// ReadAuthorities reads a file of certificates that sign others.
func ReadAuthorities(path string) ([]byte, error) {
	data, err := file{path: path}.read()
	if err != nil {
		return nil, err
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		// The bundles of systems hold some that Go does not read; the others count.
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return encode(list), nil
}
