package route

import (
	"fmt"
	"slices"
	"strings"
)

// byTLS separates entrypoints.
func (p *parser) byTLS(names []string) (plain, secure []string) {
	for _, name := range names {
		if p.entrypoints[name].TLS {
			secure = append(secure, name)
		} else {
			plain = append(plain, name)
		}
	}
	return plain, secure
}

// defaultTLS is what a route without the label tls does: clients of a host that the store has a
// certificate for are sent on to TLS, all others are served where they come. Whoever must show a
// certificate is sent on too. It returns false when the route must be withheld.
func (p *parser) defaultTLS(out *parsed, w *wish, plain, secure []string) bool {
	if len(secure) == 0 && w.demand.authority != "" {
		p.problem(out, w.name, "client-ca", "none of the route's entrypoints ("+strings.Join(w.entrypoints, ", ")+") speaks TLS"+withheld)
		return false
	}
	if len(plain) == 0 || len(secure) == 0 || p.certs == nil {
		return true
	}
	w.certified = make(map[host]bool)
	var hosts []host
	for _, h := range w.hosts {
		_, known := p.certs.of(h)
		if known || w.demand.authority != "" || w.demand.cert != "" && h.named() {
			hosts = append(hosts, h)
			w.certified[h] = true
		}
	}
	if len(hosts) > 0 {
		p.toTLS(w, hosts, false, plain, secure)
	}
	return true
}

// toTLS sends the clients of some hosts on.
func (p *parser) toTLS(w *wish, hosts []host, catchAll bool, plain, secure []string) {
	port := p.entrypoints[secure[0]].Port
	w.detours = append(w.detours, detour{
		key: "tls", suffix: tlsBackend(port), shared: true, hosts: hosts, paths: w.paths, catchAll: catchAll, entrypoints: plain,
		options: &Options{Redirect: Redirect{Code: permanent, TLSPort: port}},
	})
}

// tlsBackend is the name of the backend that sends clients on to a port. Like all names of
// Fairway's own it begins with "_", as no service's does.
func tlsBackend(port int) string { return fmt.Sprintf("_tls-%d", port) }

// serving are the entrypoints on which a wish is served for one of its hosts.
func (w *wish) serving(h host) []string {
	if w.certified[h] {
		return w.demand.served
	}
	return w.entrypoints
}

// demands is what the routes of a wish ask of the handshake; nil for nothing.
func (w *wish) demands() *demand {
	if w.demand.cert == "" && w.demand.authority == "" {
		return nil
	}
	return &w.demand
}

// detourBackend adds the backend of a detour, unless there is one that it shares.
func (b *builder) detourBackend(of, service string, d detour) string {
	if !d.shared {
		name := b.unique(of + "." + d.suffix)
		b.backends = append(b.backends, Backend{Name: name, Service: service, Options: d.options})
		return name
	}
	b.share(d.suffix, d.options)
	return d.suffix
}

func (b *builder) share(name string, options *Options) {
	backend := Backend{Name: name, Service: "(all)", Options: options}
	if b.own != nil {
		b.own.shared = append(b.own.shared, backend)
	}
	if b.shared[name] {
		return
	}
	if b.shared == nil {
		b.shared = make(map[string]bool)
	}
	b.shared[name] = true
	b.backends = append(b.backends, backend)
}

// shareTLS adds the backends that send clients on before any route needs them, so that a
// certificate which comes into the store changes entries of maps only.
func (b *builder) shareTLS() {
	if b.set.Certificates == nil || !slices.ContainsFunc(b.set.Entrypoints, func(e Entrypoint) bool { return !e.TLS }) {
		return
	}
	_, secure := b.parser.byTLS(b.set.defaultEntrypoints())
	if len(secure) > 0 {
		port := b.parser.entrypoints[secure[0]].Port
		b.share(tlsBackend(port), &Options{Redirect: Redirect{Code: permanent, TLSPort: port}})
	}
}

func (p *parser) fallbackCertificate() string {
	if p.certs == nil {
		return ""
	}
	return p.certs.fallback
}
