package route

import (
	"errors"
	"slices"
	"time"
)

// option is a key that becomes an option of a backend.
type option struct {
	read   func(r reading, value string) error
	unable map[Proxy]string // why a proxy cannot, and what to do instead
}

// reading is what the value of a key is read into, and what it may depend on.
type reading struct {
	*Options
	wish  *wish // hosts and paths are known
	proxy Proxy
	tls   func(entrypoint string) bool

	certs             *certificates
	systemAuthorities bool

	set     Settings
	service string // whose labels are read
}

var optionKeys = map[string]option{
	"proto":          {read: readProto},
	"fcgi.root":      {read: readRoot},
	"backend.verify": {read: encrypted(readBackendVerify)},
	"backend.sni":    {read: encrypted(readBackendSNI)},
	"backend.cert":   {read: encrypted(readBackendCert)},
	"proxy-protocol": {
		read:   readProxyProtocol,
		unable: map[Proxy]string{Nginx: "nginx cannot send it to servers of HTTP; leave the label out"},
	},
	"strip":          {read: readStrip},
	"rewrite":        {read: readRewrite},
	"redirect":       {read: readRedirect},
	"hsts":           {read: readHSTS},
	"allow":          {read: func(r reading, value string) (err error) { r.Allow, err = readPrefixes(value); return err }},
	"deny":           {read: func(r reading, value string) (err error) { r.Deny, err = readPrefixes(value); return err }},
	"balance":        {read: readBalance},
	"maxconn":        {read: readMaxConn},
	"backup":         {read: readBackup},
	"check":          {read: readCheck},
	"check.interval": {read: timing(readCheckInterval)},
	"check.fall":     {read: timing(readCheckFall)},
	"check.rise": {
		read:   timing(readCheckRise),
		unable: map[Proxy]string{Nginx: "nginx has no active checks in its open edition; it tries a server again after check.interval"},
	},
	"check.timeout": {
		read:   timing(readCheckTimeout),
		unable: map[Proxy]string{Nginx: "nginx has no active checks in its open edition; leave the label out"},
	},
	"sticky":   {read: readSticky},
	"retries":  {read: readRetries},
	"compress": {read: readCompress},
	"slowstart": {
		read:   readSlowStart,
		unable: map[Proxy]string{Nginx: "nginx has no slow start in its open edition; leave the label out"},
	},
	"forward-auth": {
		read:   readForwardAuth,
		unable: map[Proxy]string{HAProxy: "HAProxy cannot ask another service about a request without an agent of its own; write auth=LIST, or serve the route by nginx"},
	},
	"mirror": {
		read:   readMirror,
		unable: map[Proxy]string{HAProxy: "HAProxy cannot copy requests without an agent of its own; leave the label out, or serve the route by nginx"},
	},
	"auth":            {read: readAuth},
	"rate":            {read: readRate},
	"inflight":        {read: readInFlight},
	"body-max":        {read: readBodyMax},
	"retry-on":        {read: readRetryOn},
	"cors":            {read: readCORS},
	"errors":          {read: readErrors},
	"snippet.haproxy": {read: snippet(HAProxy, checkHAProxyLine)},
	"snippet.nginx":   {read: snippet(Nginx, checkNginxLine)},
	"queue": {
		read:   readQueue,
		unable: map[Proxy]string{Nginx: "nginx has no queue in its open edition; leave the label out"},
	},
	"drain": {
		read:   readDrain,
		unable: map[Proxy]string{Nginx: "nginx closes nothing of one server; give the time where the instance is stopped: docker run --stop-timeout 30, stop_grace_period: 30s in a stack"},
	},
	"headers.request":  {read: readRequestHeaders},
	"headers.response": {read: readResponseHeaders},
	"timeout.connect":  {read: timeout(func(t *Timeouts) *time.Duration { return &t.Connect })},
	"timeout.server":   {read: timeout(func(t *Timeouts) *time.Duration { return &t.Server })},
	"timeout.tunnel": {
		read:   timeout(func(t *Timeouts) *time.Duration { return &t.Tunnel }),
		unable: map[Proxy]string{Nginx: "nginx has no timeout of its own for tunnels; timeout.server counts for them too"},
	},
	"timeout.queue": {
		read:   timeout(func(t *Timeouts) *time.Duration { return &t.Queue }),
		unable: map[Proxy]string{Nginx: "nginx has no queue in its open edition; leave the label out"},
	},
}

// restricts are keys without which a route would let in what they keep out: when their value
// cannot be used the route is withheld.
var restricts = map[string]bool{
	"allow": true, "deny": true, "redirect": true, "proto": true, "auth": true, "forward-auth": true, "rate": true, "inflight": true, "body-max": true,
}

// options reads all option keys of one route. It returns false when the route must be withheld.
func (p *parser) options(out *parsed, w *wish) (*Options, bool) {
	var given []string
	for key := range w.values {
		if _, ok := optionKeys[key]; ok {
			given = append(given, key)
		}
	}
	if given == nil && w.demand.authority == "" && !w.stream {
		return nil, true
	}
	slices.Sort(given)
	var o Options
	usable := true
	for _, key := range given {
		option := optionKeys[key]
		reason := option.unable[p.proxy]
		if w.stream && key == "proxy-protocol" {
			reason = ""
		}
		if unfit := p.unfit(w, key); unfit != "" {
			reason = unfit
		}
		if reason == "" {
			before := o
			if err := option.read(reading{&o, w, p.proxy, p.speaksTLS, p.certs, p.systemAuthorities, p.set, p.service}, w.values[key]); err != nil {
				o = before
				reason = quote(w.values[key]) + ": " + err.Error()
			}
		}
		if reason == "" {
			continue
		}
		if restricts[key] {
			usable = false
			reason += withheld
		}
		p.problem(out, w.name, key, reason)
	}
	o.ClientCA, o.Stream = w.demand.authority, w.stream
	p.rawPaths(out, w, &o)
	return o.orNil(), usable
}

// longest is what HAProxy takes as a duration: 2^31 milliseconds.
const longest = 24 * 24 * time.Hour

func timeout(of func(*Timeouts) *time.Duration) func(reading, string) error {
	return func(r reading, value string) (err error) {
		*of(&r.Timeouts), err = parseDuration(value)
		return err
	}
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Millisecond || d > longest || d%time.Millisecond != 0 {
		return 0, errors.New("write a duration from 1ms to 576h, such as 500ms, 30s or 1h30m")
	}
	return d, nil
}
