package route

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// detour is what a wish claims beside its own hosts and paths, to send clients on from there.
type detour struct {
	key         string // the label that asked for it
	suffix      string // of its backend's name
	shared      bool   // its backend is called suffix and serves all who ask for the same
	hosts       []host
	paths       []path
	catchAll    bool
	entrypoints []string
	options     *Options
}

const permanent = 308 // unlike 301 it keeps the method

var redirectCodes = []string{"301", "302", "307", "308"}

// readRedirect takes "CODE URL".
func readRedirect(r reading, value string) error {
	code, to, _ := strings.Cut(value, " ")
	to = strings.TrimSpace(to)
	if !slices.Contains(redirectCodes, code) || to == "" {
		return errors.New("write 301, 302, 307 or 308 and a URL, such as 302 https://example.com/")
	}
	if err := checkURL(to); err != nil {
		return err
	}
	r.Redirect.Code, _ = strconv.Atoi(code) // one of redirectCodes
	r.Redirect.To = to
	return nil
}

// checkURL accepts an absolute http or https URL, or an absolute path, of the characters that a
// URL may have.
func checkURL(s string) error {
	if len(s) > maxHeaderValue {
		return fmt.Errorf("a URL has at most %d characters", maxHeaderValue)
	}
	for i := range len(s) {
		if s[i] <= 0x20 || s[i] > 0x7e || strings.IndexByte("\"<>\\^`{|}", s[i]) >= 0 {
			return fmt.Errorf("%q must be percent-encoded in a URL", s[i])
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("not a URL")
	}
	switch {
	case u.Scheme == "" && u.Host == "" && strings.HasPrefix(s, "/"):
		return nil
	case u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"):
		return nil
	}
	return errors.New("a URL starts with http://, https:// or one slash")
}

// redirectFrom reads the hosts that are sent to the first host of the route.
func (p *parser) redirectFrom(out *parsed, w *wish) {
	if _, given := w.values["redirect-from"]; !given {
		return
	}
	hosts, ok := patterns(p, out, w.name, w.values, "redirect-from", parseHost)
	if !ok {
		return
	}
	if len(w.hosts) == 0 || w.hosts[0].kind != HostExact {
		p.problem(out, w.name, "redirect-from", "the first host of the route must be a name, to send clients there")
		return
	}
	hosts = slices.DeleteFunc(hosts, func(h host) bool {
		own := slices.Contains(w.hosts, h)
		if own {
			p.problem(out, w.name, "redirect-from", quote(h.name)+" is a host of the route itself")
		}
		return own
	})
	if len(hosts) == 0 {
		return
	}
	w.detours = append(w.detours, detour{
		key: "redirect-from", suffix: "from", hosts: hosts, paths: orRoot(nil), entrypoints: w.entrypoints,
		options: &Options{Redirect: Redirect{Code: permanent, Host: w.hosts[0].name}},
	})
}

// readTLS applies the key tls: which of the route's entrypoints serve it, and which send clients
// on to TLS. It returns false when the route must be withheld.
func (p *parser) readTLS(out *parsed, w *wish) bool {
	value, given := w.values["tls"]
	plain, secure := p.byTLS(w.entrypoints)
	w.demand.served = secure
	if !given {
		return p.defaultTLS(out, w, plain, secure)
	}
	value = strings.ToLower(value)
	wants := map[string][]string{"off": plain, "on": secure, "only": secure, "redirect": secure}
	serving, known := wants[value]
	reason := ""
	switch {
	case !known:
		reason = "write off, on, only or redirect"
	case len(serving) == 0 && value == "off":
		reason = "all entrypoints of the route speak TLS"
	case len(serving) == 0:
		reason = "none of the route's entrypoints (" + strings.Join(w.entrypoints, ", ") + ") speaks TLS"
	case w.demand.authority != "" && (value == "off" || value == "on" && len(plain) > 0):
		reason = "clients can show the certificate that client-ca wants only over TLS; write only or redirect"
	}
	if reason != "" {
		p.problem(out, w.name, "tls", quote(value)+": "+reason+withheld)
		return false
	}
	if value == "redirect" && len(plain) > 0 {
		p.toTLS(w, w.hosts, w.catchAll, plain, secure)
	}
	if value != "on" {
		w.entrypoints = serving
	}
	return true
}

// readHSTS takes "off" or what Strict-Transport-Security says (RFC 6797).
func readHSTS(r reading, value string) error {
	if strings.EqualFold(value, "off") {
		return nil
	}
	var parts []string
	for i, part := range strings.Split(value, ";") {
		part = strings.TrimSpace(part)
		age, isAge := strings.CutPrefix(strings.ToLower(part), "max-age=")
		_, err := strconv.ParseUint(age, 10, 32)
		switch {
		case i == 0 && isAge && err == nil:
			parts = append(parts, "max-age="+age)
		case i > 0 && strings.EqualFold(part, "includeSubDomains") && !slices.Contains(parts, "includeSubDomains"):
			parts = append(parts, "includeSubDomains")
		case i > 0 && strings.EqualFold(part, "preload") && !slices.Contains(parts, "preload"):
			parts = append(parts, "preload")
		default:
			return errors.New("write off or max-age=SECONDS, which may be followed by ; includeSubDomains and ; preload")
		}
	}
	if !slices.ContainsFunc(r.wish.entrypoints, r.tls) {
		return errors.New("none of the route's entrypoints speaks TLS, and browsers heed it only there")
	}
	r.HSTS = strings.Join(parts, "; ")
	return nil
}
