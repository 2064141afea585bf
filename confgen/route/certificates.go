package route

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Certificates are what the operator's store holds. What labels choose from it are names.
type Certificates struct {
	List        []Certificate
	Authorities []string // names of bundles, for client-ca and backend.verify
	Default     string   // for clients that name no host, or one without a certificate; "" refuses them
}

// Certificate is one of the store.
type Certificate struct {
	Name     string
	Hosts    []string // of its subjectAltName: "a.com", and "*.a.com" for one label in front
	NotAfter time.Time
}

// Handshake says how TLS is begun with clients that name a host. Of two patterns that match, the
// exact one counts.
type Handshake struct {
	Pattern     string // "a.com", or "*.a.com" for one label in front
	Certificate string // a Certificate.Name
	Authority   string // clients are asked for a certificate signed by it; "" asks for none
	Optional    bool   // some route of the host is open to clients without one
}

// demand is what a route asks of the handshake.
type demand struct {
	cert      string
	authority string
	served    []string // entrypoints with TLS that serve it
}

// certificates finds those of a store by host.
type certificates struct {
	names       map[string]bool
	authorities map[string]bool
	byPattern   map[string]string // the certificate that lasts longest
	fallback    string
}

func newCertificates(c *Certificates) *certificates {
	if c == nil {
		return nil
	}
	x := &certificates{names: make(map[string]bool), authorities: make(map[string]bool), byPattern: make(map[string]string), fallback: c.Default}
	best := make(map[string]Certificate)
	for _, cert := range c.List {
		x.names[cert.Name] = true
		for _, pattern := range cert.Hosts {
			old, taken := best[pattern]
			if !taken || cert.NotAfter.After(old.NotAfter) || cert.NotAfter.Equal(old.NotAfter) && cert.Name < old.Name {
				best[pattern], x.byPattern[pattern] = cert, cert.Name
			}
		}
	}
	for _, name := range c.Authorities {
		x.authorities[name] = true
	}
	return x
}

// of returns the certificate that a client takes for a host: one of its name, or a wildcard for
// its last label but the first.
func (c *certificates) of(h host) (string, bool) {
	if c == nil || h.kind != HostExact && h.kind != HostWildcard {
		return "", false
	}
	if name, ok := c.byPattern[h.pattern()]; ok || h.kind == HostWildcard {
		return name, ok
	}
	name, ok := c.byPattern[parentPattern(h.name)]
	return name, ok
}

// pattern is how a host stands in a certificate.
func (h host) pattern() string {
	if h.kind == HostWildcard {
		return "*." + h.name
	}
	return h.name
}

// parentPattern is the wildcard that matches a name, as certificates mean it.
func parentPattern(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return "*." + rest
}

func noSuch(kind string, have map[string]bool) error {
	list := slices.Sorted(maps.Keys(have))
	if len(list) == 0 {
		return fmt.Errorf("the operator's store has no %s", kind)
	}
	const most = 20
	more := ""
	if len(list) > most {
		list, more = list[:most], " …"
	}
	return fmt.Errorf("the operator's store has no %s of that name; it has %s%s", kind, strings.Join(list, ", "), more)
}

const noStore = "the operator declared no certificate store (--certificates)"

// readDemand applies the keys cert and client-ca. It returns false when the route must be
// withheld.
func (p *parser) readDemand(out *parsed, w *wish) bool {
	if name, given := w.values["cert"]; given {
		switch {
		case p.certs == nil:
			p.problem(out, w.name, "cert", noStore)
		case !p.certs.names[name]:
			p.problem(out, w.name, "cert", quote(name)+": "+noSuch("certificate", p.certs.names).Error())
		case !slices.ContainsFunc(w.hosts, host.named):
			p.problem(out, w.name, "cert", "the route has no host that is a name or a wildcard, to serve it for")
		default:
			w.demand.cert = name
		}
	}
	name, given := w.values["client-ca"]
	if !given {
		return true
	}
	reason := ""
	switch {
	case p.certs == nil:
		reason = noStore
	case !p.certs.authorities[name]:
		reason = quote(name) + ": " + noSuch("authority", p.certs.authorities).Error()
	case w.catchAll || len(w.hosts) == 0 || slices.ContainsFunc(w.hosts, func(h host) bool { return !h.named() }):
		reason = "every host of the route must be a name or a wildcard, since a certificate is asked for by the name that a client gives in TLS"
	}
	if reason != "" {
		p.problem(out, w.name, "client-ca", reason+withheld)
		return false
	}
	w.demand.authority = name
	return true
}

// named reports whether a host can be named in TLS.
func (h host) named() bool { return h.kind == HostExact || h.kind == HostWildcard }

// admit settles who may ask which clients for a certificate, and returns the claims without those
// whose demand cannot be met: a host is served with one authority, also by way of the wildcard
// that its requests may fall through to, so that a certificate of one never opens what another
// guards. The older claim has it.
func (b *builder) admit(claims []Route) []Route {
	if !slices.ContainsFunc(claims, func(r Route) bool { return r.demand != nil && r.demand.authority != "" }) {
		return claims
	}
	var asking []Route
	for _, r := range claims {
		if r.demand != nil && r.demand.authority != "" {
			asking = append(asking, r)
		}
	}
	slices.SortFunc(asking, compareAge)
	refused := make(map[[2]string]bool)
	var holders []Route
	for _, r := range asking {
		i := slices.IndexFunc(holders, func(h Route) bool {
			return h.demand.authority != r.demand.authority && overlap(h, r)
		})
		if i < 0 {
			holders = append(holders, r)
			continue
		}
		if key := [2]string{r.Service, r.Name}; !refused[key] {
			refused[key] = true
			b.problem(Problem{Service: r.Service, Key: label(b.parser.name, r.Name, "client-ca"), Reason: fmt.Sprintf(
				"%s asks the clients of %s for certificates of %s, and one host can be asked for one authority only%s",
				describe(holders[i]), holders[i].Pattern(), quote(holders[i].demand.authority), withheld)})
		}
	}
	if len(refused) == 0 {
		return claims
	}
	return slices.DeleteFunc(claims, func(r Route) bool { return refused[[2]string{r.Service, r.Name}] })
}

// overlap reports whether a request for one host may be served by the routes of both.
func overlap(x, y Route) bool {
	if x.HostKind == y.HostKind && x.Host == y.Host {
		return true
	}
	under := func(a, b Route) bool { return b.HostKind == HostWildcard && strings.HasSuffix(a.Host, "."+b.Host) }
	return under(x, y) || under(y, x)
}

// handshakes says how TLS is begun for every name that the store has a certificate for, and for
// every host whose routes ask for more than that.
func (b *builder) handshakes(routes []Route) []Handshake {
	c := b.parser.certs
	if c == nil {
		return nil
	}
	at := make(map[string]*Handshake)
	for pattern, name := range c.byPattern {
		at[pattern] = &Handshake{Pattern: pattern, Certificate: name}
	}
	b.chooseCertificates(routes, at)
	b.askClients(routes, at)
	list := make([]Handshake, 0, len(at))
	for _, h := range at {
		if h.Certificate == "" {
			h.Certificate = c.fallback
		}
		if h.Certificate != "" {
			list = append(list, *h)
		}
	}
	slices.SortFunc(list, func(x, y Handshake) int { return cmp.Compare(x.Pattern, y.Pattern) })
	return list
}

// chooseCertificates follows the key cert; of two routes of one host the older one's counts.
func (b *builder) chooseCertificates(routes []Route, at map[string]*Handshake) {
	var choosing []Route
	for _, r := range routes {
		if r.demand != nil && r.demand.cert != "" && len(r.demand.served) > 0 {
			choosing = append(choosing, r)
		}
	}
	slices.SortFunc(choosing, compareAge)
	chosen := make(map[string]Route)
	for _, r := range choosing {
		pattern := r.sniPattern()
		if other, taken := chosen[pattern]; taken {
			if other.demand.cert != r.demand.cert {
				b.problem(Problem{Service: r.Service, Key: label(b.parser.name, r.Name, "cert"), Reason: fmt.Sprintf(
					"%s, which was registered first, has %s served with %s", describe(other), pattern, quote(other.demand.cert))})
			}
			continue
		}
		chosen[pattern] = r
		at[pattern] = &Handshake{Pattern: pattern, Certificate: r.demand.cert}
	}
}

func (r Route) sniPattern() string { return host{r.HostKind, r.Host}.pattern() }

// askClients follows the key client-ca. A name below a wildcard that asks is asked too, for its
// requests may fall through to the wildcard's routes; routes of its own make that optional.
func (b *builder) askClients(routes []Route, at map[string]*Handshake) {
	asks := make(map[string]string) // pattern → authority
	open := make(map[string]bool)   // pattern → has a route without
	for _, r := range routes {
		if !(host{r.HostKind, r.Host}).named() || !slices.ContainsFunc(r.Entrypoints, b.parser.speaksTLS) {
			continue
		}
		if r.demand != nil && r.demand.authority != "" {
			asks[r.sniPattern()] = r.demand.authority
		} else {
			open[r.sniPattern()] = true
		}
	}
	if len(asks) == 0 {
		return
	}
	touched := maps.Clone(asks)
	for pattern := range at {
		touched[pattern] = ""
	}
	for pattern := range open {
		touched[pattern] = ""
	}
	for pattern := range touched {
		authority := asks[pattern]
		for parent := parentOf(pattern); authority == "" && parent != ""; parent = parentOf(parent) {
			authority = asks[parent]
		}
		if authority == "" {
			continue
		}
		h := at[pattern]
		if h == nil {
			h = &Handshake{Pattern: pattern}
			if name, ok := at[parentPattern(pattern)]; ok && !strings.HasPrefix(pattern, "*.") {
				h.Certificate = name.Certificate
			}
			at[pattern] = h
		}
		h.Authority, h.Optional = authority, open[pattern]
	}
}

// parentOf is the next wildcard whose routes a request for a pattern may fall through to.
func parentOf(pattern string) string {
	name := strings.TrimPrefix(pattern, "*.")
	_, rest, ok := strings.Cut(name, ".")
	if !ok {
		return ""
	}
	return "*." + rest
}
