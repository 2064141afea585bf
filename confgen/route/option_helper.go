package route

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ForwardAuth is a service that is asked about each request before it goes on: 2xx lets it, 401
// and 403 are the answer, anything else is 500.
type ForwardAuth struct {
	Service string `json:",omitzero"` // whose backend is asked
	Address string `json:",omitzero"` // or an IP address and port
	Backend string `json:",omitzero"` // of Service
	Host    string // as the label names it
	Path    string // with its query
}

// Mirror is a service that gets a copy of every request; nobody waits for its answers.
type Mirror struct {
	Service string
	Backend string `json:",omitzero"` // of Service
}

// readForwardAuth takes the URL of an authorising service, whose host is the name of a service
// in the catalog or an IP address. No name is looked up in DNS: nginx would do that once, at its
// start, and not start when there is no answer.
func readForwardAuth(r reading, value string) error {
	const want = "write http://SERVICE/PATH with a service that is routed too, or http://ADDRESS:PORT/PATH"
	if err := checkURL(value); err != nil {
		return fmt.Errorf("%w; %s", err, want)
	}
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" || u.User != nil || strings.ContainsAny(value, "$#") {
		return errors.New(want)
	}
	a := ForwardAuth{Host: u.Host, Path: cmp.Or(u.EscapedPath(), "/")}
	if u.RawQuery != "" {
		a.Path += "?" + u.RawQuery
	}
	ip, err := netip.ParseAddr(u.Hostname())
	switch {
	case err == nil:
		port, err := strconv.Atoi(cmp.Or(u.Port(), "80"))
		if err != nil || port < 1 || port > 65535 || ip.Zone() != "" {
			return errors.New(want)
		}
		a.Address = netip.AddrPortFrom(ip, uint16(port)).String() //nolint:gosec // Checked.
	case u.Port() != "":
		return fmt.Errorf("a service has its port in the catalog; %s", want)
	default:
		a.Service = u.Host
	}
	r.ForwardAuth = &a
	return nil
}

func readMirror(r reading, value string) error {
	if value == "" || len(value) > 128 || !printable(value) {
		return errors.New("write the name of a service that is routed too")
	}
	r.Mirror = &Mirror{Service: value}
	return nil
}

// helpers finds the backends of the services that others name, and takes the claims away of
// those that nobody could authorise.
func (b *builder) helpers(claims []Route) []Route {
	if !slices.ContainsFunc(b.backends, func(x Backend) bool {
		return x.Options != nil && (x.Options.ForwardAuth != nil || x.Options.Mirror != nil)
	}) {
		return claims
	}
	backends := make(map[string]string) // by service, in lower case: a URL has no other
	for _, backend := range b.backends {
		name := strings.ToLower(backend.Service)
		if plain := backend.Options == nil || backend.Options.Redirect.Code == 0; plain && (backends[name] == "" || backend.Name < backends[name]) {
			backends[name] = backend.Name
		}
	}
	withheldBackends := make(map[string]bool)
	for _, backend := range b.backends {
		o := backend.Options
		if o == nil {
			continue
		}
		if a := o.ForwardAuth; a != nil && a.Service != "" {
			if a.Backend = backends[strings.ToLower(a.Service)]; a.Backend == "" {
				withheldBackends[backend.Name] = true
			}
		}
		if o.Mirror != nil {
			o.Mirror.Backend = backends[strings.ToLower(o.Mirror.Service)]
		}
	}
	said := make(map[string]bool)
	missing := func(c Route, key, service, end string) {
		if id := c.Service + "\x00" + c.Name + "\x00" + key; !said[id] {
			said[id] = true
			b.problem(Problem{Service: c.Service, Key: label(b.parser.name, c.Name, key), Reason: fmt.Sprintf("no service %s is routed here; it needs a host, path or default of its own%s", quote(service), end)})
		}
	}
	options := make(map[string]*Options)
	for _, backend := range b.backends {
		options[backend.Name] = backend.Options
	}
	return slices.DeleteFunc(claims, func(c Route) bool {
		o := options[c.Backend]
		if o == nil {
			return false
		}
		if o.Mirror != nil && o.Mirror.Backend == "" {
			missing(c, "mirror", o.Mirror.Service, "")
		}
		if withheldBackends[c.Backend] {
			missing(c, "forward-auth", o.ForwardAuth.Service, withheld)
		}
		return withheldBackends[c.Backend]
	})
}
