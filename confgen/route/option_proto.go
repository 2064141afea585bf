package route

import (
	"errors"
	"fmt"
	"strings"
)

// Proto is what the servers of a backend speak; the zero value is HTTP/1.1 in the clear.
type Proto string

// The protocols beside plain HTTP.
const (
	HTTPS   Proto = "https"
	H2C     Proto = "h2c"   // HTTP/2 in the clear, without asking first
	GRPC    Proto = "grpc"  // gRPC over h2c
	GRPCS   Proto = "grpcs" // gRPC over TLS
	FastCGI Proto = "fcgi"
)

// HTTP2 reports whether servers are spoken to in HTTP/2.
func (p Proto) HTTP2() bool { return p == H2C || p == GRPC || p == GRPCS }

// Encrypted reports whether servers are spoken to over TLS.
func (p Proto) Encrypted() bool { return p == HTTPS || p == GRPCS }

// SystemAuthorities is the name of the authorities that everybody trusts.
const SystemAuthorities = "~system"

// BackendTLS is how servers are spoken to over TLS. The zero value of an encrypted backend is
// never used: its authority is SystemAuthorities unless a label says otherwise.
type BackendTLS struct {
	Authority   string `json:",omitzero"` // who must have signed a server's certificate; "" for anybody
	Name        string `json:",omitzero"` // that it must be for and is asked for; "" for the request's host
	Certificate string `json:",omitzero"` // that we show; "" for none
}

// defaultRoot is where php-fpm's images have their files.
const defaultRoot = "/var/www/html"

func readProto(r reading, value string) error {
	value = strings.ToLower(value)
	switch proto := Proto(value); proto {
	case "http":
		return nil
	case H2C, GRPC:
		r.Proto = proto
	case HTTPS, GRPCS:
		r.Proto = proto
		// What backend.verify says comes first, by the alphabet.
		if r.TLS.Authority == "" && !strings.EqualFold(r.wish.values["backend.verify"], "none") {
			r.TLS.Authority = SystemAuthorities
			if !r.authority(SystemAuthorities) {
				return errors.New("confgen finds no file of the system's authorities to verify the servers by (--system-authorities); name one of the store with backend.verify, or write backend.verify=none")
			}
		}
		if r.TLS.Name == "" && len(r.wish.hosts) == 1 && r.wish.hosts[0].kind == HostExact {
			r.TLS.Name = r.wish.hosts[0].name
		}
	case FastCGI:
		r.Proto = proto
		if r.Root == "" {
			r.Root = defaultRoot
		}
	case "tcp":
		if r.wish.stream {
			return nil
		}
		return errors.New("a route of hosts and paths carries HTTP; for anything else name an entry port with tcp, or hosts with sni")
	default:
		return errors.New("write http, https, h2c, grpc, grpcs or fcgi")
	}
	return nil
}

// encrypted reads a key that says something of TLS to the servers.
func encrypted(read func(r reading, value string) error) func(reading, string) error {
	return func(r reading, value string) error {
		if proto := Proto(strings.ToLower(r.wish.values["proto"])); !proto.Encrypted() {
			return errors.New("means something only with proto=https or proto=grpcs")
		}
		return read(r, value)
	}
}

func readBackendVerify(r reading, value string) error {
	switch strings.ToLower(value) {
	case "none":
		return nil // readProto knows.
	case "system":
		return nil
	}
	if !r.authority(value) {
		return fmt.Errorf("write none, system or an authority of the store: %w", noSuch("authority", r.certs.authorityNames()))
	}
	r.TLS.Authority = value
	return nil
}

func readBackendSNI(r reading, value string) error {
	name := strings.TrimSuffix(strings.ToLower(value), ".")
	if err := checkDNSName(name); err != nil {
		return err
	}
	r.TLS.Name = name
	return nil
}

func readBackendCert(r reading, value string) error {
	if r.certs == nil {
		return errors.New(noStore)
	}
	if !r.certs.names[value] {
		return noSuch("certificate", r.certs.names)
	}
	r.TLS.Certificate = value
	return nil
}

func readProxyProtocol(r reading, value string) error {
	switch value = strings.ToLower(value); value {
	case "v1", "v2":
		r.ProxyProtocol = value
	case "off":
	default:
		return errors.New("write v1, v2 or off")
	}
	return nil
}

func readRoot(r reading, value string) error {
	if Proto(strings.ToLower(r.wish.values["proto"])) != FastCGI {
		return errors.New("means something only with proto=fcgi")
	}
	if err := checkPath(value); err != nil {
		return err
	}
	for _, c := range []byte(value) {
		if strings.IndexByte("$&'()*;=:@!~", c) >= 0 {
			return fmt.Errorf("%q is not allowed in a folder", c)
		}
	}
	if r.Root = value; value != "/" { // which is where php-fpm with a chroot has its scripts
		r.Root = strings.TrimSuffix(value, "/")
	}
	return nil
}

// authority reports whether servers can be verified by an authority.
func (r reading) authority(name string) bool {
	if name == SystemAuthorities {
		return r.systemAuthorities
	}
	return r.certs != nil && r.certs.authorities[name]
}

func (c *certificates) authorityNames() map[string]bool {
	if c == nil {
		return nil
	}
	return c.authorities
}

// rawPaths takes back what nginx cannot do with a path that it does not send itself.
func (p *parser) rawPaths(out *parsed, w *wish, o *Options) {
	if p.proxy != Nginx || !o.Proto.HTTP2() && o.Proto != FastCGI {
		return
	}
	reason := "nginx cannot change the path of requests with proto=" + string(o.Proto)
	if o.Strip != nil {
		p.problem(out, w.name, "strip", reason)
	}
	if o.Rewrite != nil {
		p.problem(out, w.name, "rewrite", reason)
	}
	o.Strip, o.Rewrite = nil, nil
}
