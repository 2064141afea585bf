package dialect

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxChain is how deep middlewares made of others are followed.
const maxChain = 4

// servedWithout are middlewares without which a route lets in nobody it should not.
var servedWithout = []string{"buffering", "circuitbreaker", "contenttype", "errors", "grpcweb", "inflightreq", "passtlsclientcert", "retry"}

// middleware applies one to a router. One that is defined elsewhere, or of an unknown kind, may
// keep somebody out, so that it costs the route.
func (t *traefik) middleware(router *httpRouter, out *route, name, label string, depth int) {
	settings := t.middlewares[strings.TrimSuffix(name, "@docker")]
	if settings == nil {
		t.withhold(out, label, "the middleware %s is not defined on this container; write what it does as fairway labels", quote(name))
		return
	}
	kinds := make(map[string]map[string]Value)
	for key, v := range settings {
		kind, rest, _ := strings.Cut(key, ".")
		if kinds[kind] == nil {
			kinds[kind] = make(map[string]Value)
		}
		kinds[kind][rest] = v
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		m := kinds[kind]
		anyLabel := m[slices.Sorted(maps.Keys(m))[0]].Label
		switch kind {
		case "stripprefix":
			t.stripPrefix(out, m)
		case "basicauth":
			t.basicAuth(out, strings.TrimSuffix(name, "@docker"), m)
		case "ratelimit":
			t.rateLimit(out, anyLabel, m)
		case "ipallowlist", "ipwhitelist":
			t.ipAllowList(out, anyLabel, m)
		case "redirectscheme":
			t.redirectScheme(router, out, anyLabel, m)
		case "headers":
			t.headers(out, m)
		case "compress":
			if on, ok := parseBool(m[""].Text); on || !ok {
				out.set("compress", "true", anyLabel)
			}
		case "chain":
			for _, next := range splitList(m["middlewares"].Text) {
				if depth == maxChain {
					t.withhold(out, anyLabel, "middlewares are chained too deeply")
					return
				}
				t.middleware(router, out, strings.ToLower(next), anyLabel, depth+1)
			}
		default:
			if slices.Contains(servedWithout, kind) {
				t.problem(anyLabel, "the middleware %s (%s) is not translated; the route is served without it", quote(name), kind)
			} else {
				t.withhold(out, anyLabel, "the middleware %s (%s) is not translated; write what it does as fairway labels", quote(name), clip(kind))
			}
		}
	}
}

func (t *traefik) stripPrefix(out *route, m map[string]Value) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		v := m[key]
		switch key {
		case "prefixes":
			for _, prefix := range splitList(v.Text) {
				if err := plainPath(prefix); err != nil {
					t.withhold(out, v.Label, "%s: %s", quote(prefix), err)
					return
				}
				if prefix = strings.TrimRight(prefix, "/"); prefix != "" {
					out.add("strip", ",", prefix, v.Label)
				}
			}
		case "forceslash":
			t.note("%s is not needed: what is left of a path begins with a slash", v.Label)
		default:
			t.problem(v.Label, "%s: this label is not translated", quote(v.Text))
		}
	}
}

// basicAuth asks for a password. Users and their hashes stay where they are: labels are readable
// by many, and nothing of them is copied or quoted.
func (t *traefik) basicAuth(out *route, name string, m map[string]Value) {
	label := m[slices.Sorted(maps.Keys(m))[0]].Label
	if !isToken(name) {
		t.withhold(out, label, "%s cannot be the name of a user list; write fairway.auth=NAME", quote(name))
		return
	}
	if old := out.get("auth"); old != "" && old != name {
		t.withhold(out, label, "a route has one user list, and this is the second")
		return
	}
	out.set("auth", name, label)
	t.note("basicauth: the front end needs a user list called %s; the users in the label are not read", name)
	if remove, _ := parseBool(m["removeheader"].Text); remove {
		out.add("headers.request", "; ", "-Authorization", m["removeheader"].Label)
	}
	if v := m["headerfield"]; v.Text != "" {
		t.problem(v.Label, "%s: the user's name is not passed on in a header", quote(v.Text))
	}
}

func (t *traefik) rateLimit(out *route, label string, m map[string]Value) {
	limit := rate{period: time.Second, key: "ip"}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if err := limit.read(name, m[name].Text); err != nil {
			t.withhold(out, m[name].Label, "%s", err)
			return
		}
	}
	if limit.average == 0 {
		return // Traefik's way to say that there is no limit
	}
	if err := limit.wholeSeconds(); err != nil {
		t.withhold(out, m["period"].Label, "%s: %s", quote(m["period"].Text), err)
		return
	}
	if out.get("rate") != "" {
		t.withhold(out, label, "a route has one rate, and this is the second")
		return
	}
	out.set("rate", limit.String(), label)
}

// rate is how often one client may ask.
type rate struct {
	average, burst uint64
	period         time.Duration
	key            string
}

func (l *rate) read(name, text string) (err error) {
	switch name {
	case "average", "burst":
		n, bad := strconv.ParseUint(text, 10, 31)
		if bad != nil || n == 0 && name == "burst" {
			return fmt.Errorf("%s is not a number of requests", quote(text))
		}
		if name == "burst" {
			l.burst = n
		} else {
			l.average = n
		}
	case "period":
		if l.period, err = parseDuration(text, time.Second); err != nil {
			return fmt.Errorf("%s: %w", quote(text), err)
		}
	case "sourcecriterion.requestheadername":
		if !isToken(text) {
			return fmt.Errorf("%s is not the name of a header", quote(text))
		}
		l.key = "header:" + text
	default:
		if on, ok := parseBool(text); name == "sourcecriterion.requesthost" && ok && !on {
			return nil
		}
		return fmt.Errorf("%s: requests are counted by client address or by a header only; write fairway.rate=100/1s,burst=50", quote(text))
	}
	return nil
}

// wholeSeconds writes a rate of fractions of a second as one of whole seconds, which is how the
// front end counts: 5 in 500ms are 10 in 1s.
func (l *rate) wholeSeconds() error {
	switch n := time.Second / l.period; {
	case l.period%time.Second == 0 && l.period <= 24*time.Hour:
	case n > 1 && n*l.period == time.Second:
		l.average, l.period = l.average*uint64(n), time.Second
	default:
		return errors.New("requests are counted in whole seconds, up to 24h; write fairway.rate=100/1s,burst=50")
	}
	return nil
}

func (l *rate) String() string {
	s := fmt.Sprintf("%d/%s", l.average, shortDuration(l.period))
	if l.burst > 0 {
		s += fmt.Sprintf(",burst=%d", l.burst)
	}
	return s + ",key=" + l.key
}

func (t *traefik) ipAllowList(out *route, label string, m map[string]Value) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if v := m[key]; key != "sourcerange" {
			t.withhold(out, v.Label, "%s: clients are known by their address, or by what the operator's trusted proxies say; write fairway.allow=NETWORKS", quote(v.Text))
			return
		}
	}
	list, err := networks(splitList(m["sourcerange"].Text))
	if err != nil {
		t.withhold(out, label, "%s: %s", quote(m["sourcerange"].Text), err)
		return
	}
	if old := out.get("allow"); old != "" && old != list {
		t.withhold(out, label, "two lists of networks hold at once; write the networks that are in both as fairway.allow")
		return
	}
	out.set("allow", list, label)
}

func (t *traefik) redirectScheme(router *httpRouter, out *route, label string, m map[string]Value) {
	if scheme := m["scheme"]; !strings.EqualFold(scheme.Text, "https") {
		t.withhold(out, label, "%s: clients can be sent on to https only", quote(scheme.Text))
		return
	}
	if m["port"].Text != "" {
		t.note("%s is not needed: the port is that of the TLS entrypoint", m["port"].Label)
	}
	router.toTLS = Value{"https", label}
}

// fixedHeaders are settings of the middleware headers that stand for one header of the answer.
var fixedHeaders = map[string]string{
	"contentsecuritypolicy": "Content-Security-Policy", "referrerpolicy": "Referrer-Policy",
	"permissionspolicy": "Permissions-Policy", "customframeoptionsvalue": "X-Frame-Options",
	"framedeny": "X-Frame-Options", "contenttypenosniff": "X-Content-Type-Options", "browserxssfilter": "X-XSS-Protection",
}

// secretHeaders carry what must not be copied into Consul.
var secretHeaders = []string{"authorization", "cookie", "proxy-authorization"}

var switchedHeaders = map[string]string{"framedeny": "DENY", "contenttypenosniff": "nosniff", "browserxssfilter": "1; mode=block"}

func (t *traefik) headers(out *route, m map[string]Value) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		v := m[key]
		err := error(nil)
		kind, name, _ := strings.Cut(key, ".")
		switch {
		case kind == "customrequestheaders" && v.Text != "" && slices.Contains(secretHeaders, name):
			t.problem(v.Label, "a secret has no place in the catalog, which many can read; let the service know it otherwise")
		case kind == "customrequestheaders":
			err = out.setHeader("headers.request", headerName(v.Label, name), v.Text, v.Label)
		case kind == "customresponseheaders":
			err = out.setHeader("headers.response", headerName(v.Label, name), v.Text, v.Label)
		case switchedHeaders[key] != "":
			if on, _ := parseBool(v.Text); on && (key != "framedeny" || m["customframeoptionsvalue"].Text == "") {
				err = out.setHeader("headers.response", fixedHeaders[key], switchedHeaders[key], v.Label)
			}
		case fixedHeaders[key] != "" && v.Text != "":
			err = out.setHeader("headers.response", fixedHeaders[key], v.Text, v.Label)
		case key == "stsseconds":
			err = t.hsts(out, m)
		case key == "stsincludesubdomains" || key == "stspreload":
		case key == "accesscontrolalloworiginlist":
			out.set("cors", strings.Join(splitList(v.Text), ","), v.Label)
		case key == "allowedhosts" || strings.HasPrefix(key, "ssl"):
			t.withhold(out, v.Label, "%s: this setting of headers keeps requests out and is not translated; say it with fairway.host or fairway.tls", quote(v.Text))
		default:
			t.problem(v.Label, "%s: this setting of headers is not translated; write fairway.headers.response or fairway.cors", quote(v.Text))
		}
		if err != nil {
			t.problem(v.Label, "%s", err)
		}
	}
}

// headerName is the last part of a label as it was written: keys are read in lower case.
func headerName(label, lower string) string {
	if len(label) >= len(lower) && strings.EqualFold(label[len(label)-len(lower):], lower) {
		return label[len(label)-len(lower):]
	}
	return lower
}

func (t *traefik) hsts(out *route, m map[string]Value) error {
	v := m["stsseconds"]
	n, err := strconv.ParseUint(v.Text, 10, 31)
	if err != nil {
		return fmt.Errorf("%s is not a number of seconds", quote(v.Text))
	}
	if n == 0 {
		return nil
	}
	value := "max-age=" + strconv.FormatUint(n, 10)
	if on, _ := parseBool(m["stsincludesubdomains"].Text); on {
		value += "; includeSubDomains"
	}
	if on, _ := parseBool(m["stspreload"].Text); on {
		value += "; preload"
	}
	out.set("hsts", value, v.Label)
	return nil
}
