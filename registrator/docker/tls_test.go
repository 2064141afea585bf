package docker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority of the test's own.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	der, key := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	return a
}

// sign makes a key and a certificate for it; the first one signs itself.
func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

func (a *authority) leaf(usage x509.ExtKeyUsage, ip string) tls.Certificate {
	der, key := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.ParseIP(ip)},
	})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// folder writes ca.pem, cert.pem and key.pem as Docker names them.
func (a *authority) folder(client tls.Certificate) string {
	a.t.Helper()
	dir := a.t.TempDir()
	key, err := x509.MarshalECPrivateKey(client.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		a.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: client.Certificate[0]},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return dir
}

func TestNew_TLSIsVerified(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	serve := func(cert tls.Certificate) string {
		f := newFakeEngine(t)
		server := httptest.NewUnstartedServer(f)
		pool := x509.NewCertPool()
		pool.AddCert(ours.cert)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are the point
		server.StartTLS()
		t.Cleanup(server.Close)
		return "tcp://" + server.Listener.Addr().String()
	}
	good := ours.folder(ours.leaf(x509.ExtKeyUsageClientAuth, "127.0.0.1"))
	for name, c := range map[string]struct {
		host, certs, wantErr string
	}{
		"both known":            {serve(ours.leaf(x509.ExtKeyUsageServerAuth, "127.0.0.1")), good, ""},
		"unknown engine":        {serve(theirs.leaf(x509.ExtKeyUsageServerAuth, "127.0.0.1")), good, "unknown authority"},
		"engine of other name":  {serve(ours.leaf(x509.ExtKeyUsageServerAuth, "192.0.2.1")), good, "not 127.0.0.1"},
		"unknown client":        {serve(ours.leaf(x509.ExtKeyUsageServerAuth, "127.0.0.1")), ours.folder(theirs.leaf(x509.ExtKeyUsageClientAuth, "127.0.0.1")), "certificate"},
		"no TLS where it is on": {serve(ours.leaf(x509.ExtKeyUsageServerAuth, "127.0.0.1")), "", "HTTP"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			client, err := New(Options{Host: c.host, CertPath: c.certs})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			node, err := client.Node(t.Context())
			switch {
			case c.wantErr == "" && (err != nil || node.Name != "host" || node.SwarmNode != "node" || node.SwarmAddr.String() != "192.0.2.1"):
				t.Errorf("node %+v, %v", node, err)
			case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
				t.Errorf("error %v, want one with %q", err, c.wantErr)
			}
		})
	}
}

func TestNew_whatCanNeverWork(t *testing.T) {
	for _, opt := range []Options{
		{Host: "nonsense"},
		{Host: "tcp://127.0.0.1:2376", CertPath: filepath.Join(t.TempDir(), "missing")},
	} {
		if _, err := New(opt); err == nil {
			t.Errorf("%+v: no error", opt)
		}
	}
}

func TestNew_certificatesDoNotMatterOnASocket(t *testing.T) {
	if _, err := New(Options{Host: "unix:///nowhere", CertPath: "/missing"}); err != nil {
		t.Error(err)
	}
}
