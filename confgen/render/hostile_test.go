package render_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"fairway/confgen/route"
)

// pieces are what hostile and merely odd values are made of.
var pieces = []string{
	"a.com", "b-1.org", "*.", "~", "/", "/p", "=/", ",", ".", "..", ":80", "^", "$", "\\.", "[a-z]+", "[[.a.]]", "[[:alpha:]]", "(", ")", "(x|y)", "{", "}", "{2,3}",
	";", "'", "\"", "\\", "\\\\", "`", "$host", "$request_uri", "${x}", "#", "%", "%41", "%{+Q}o", "%[src]", "@", "*", "?", "+", "|", "!", "&", "=", "<", ">",
	"\n", "\r", "\t", "\x00", "\x1b[31m", "\x7f", " ", "é", "\u202e", "e\u0301", "😀", "\xff", "\\x{10FFFF}", "\\p{Greek}", "(?i)k", "(?i)[a-z]", "(?m)^x$", "\\Q'\\E", "\\b", "\\z", "(?U)a*", "a??", "[^a]", "\\x00", "\\n",
	"true", "false", "0", "256", "-1", "99999999999999999999", "web", "default_server", "return 200", "acl x", "}\nserver {", "} location / { return 200; }", "-- ", " -f /etc/passwd ", "// comment", "null",
	"5s", "100ms", "/p => /q", "~^/(a)$ => /$1", " => ", "$1", "Name: ", "; ", "+X-A: b", "-X-B", "X-C: ", `\;`, "header:", "leastconn", "source",
	"https", "grpcs", "h2c", "fcgi", "v1", "v2", "none", "system", "staff", "shop", "5432", "302 /", "301 https://x.test/", "redirect", "only", "max-age=1", "GET /x 200", "off", "GET,POST", "a=b&c", "~^x", "cookie:", "cookie", "10.0.0.0/8", "::/0",
	"10/1s", ",burst=2", ",key=header:X-A", "10k", "502", "connect", "https://a.test", "https://*.b.test:1", "credentials", "brand", "http-request deny", "return 200;", "http://shop/", "http://10.0.0.1:9/",
}

var hostileKeys = []string{
	"host", "path", "port", "default", "entrypoints", "weight", "priority", "enable", "x-host", "x-path", "a b-host", "host\n", "hots", "auth", "é-host",
	"auth", "rate", "inflight", "body-max", "retry-on", "cors", "errors", "snippet-haproxy", "snippet-nginx", "queue", "instance", "forward-auth", "mirror",
	"methods", "header", "query", "x-methods", "x-header", "x-query", "strip", "rewrite", "timeout-connect", "timeout-server", "timeout-tunnel", "timeout-queue", "x-strip", "x-rewrite",
	"cert", "client-ca", "proto", "backend-verify", "backend-sni", "backend-cert", "fcgi-root", "proxy-protocol", "tcp", "sni",
	"check", "check-interval", "check-fall", "retries", "compress", "sticky", "maxconn", "backup", "slowstart", "allow", "deny", "redirect", "redirect-from", "tls", "hsts", "balance", "headers-request", "headers-response",
}

func hostileValue(r *rand.Rand) string {
	var v strings.Builder
	switch r.IntN(10) { // most random strings are refused early; these get further
	case 0, 1:
		v.WriteString("~^")
	case 2:
		v.WriteString("/")
	case 3:
		v.WriteString("a.com,")
	case 4:
		v.WriteString("X-A: ")
	case 5:
		v.WriteString("/p => /")
	}
	for range r.IntN(5) {
		v.WriteString(pieces[r.IntN(len(pieces))])
	}
	if r.IntN(100) == 0 {
		v.WriteString(strings.Repeat(pieces[r.IntN(len(pieces))], 3000))
	}
	return v.String()
}

// hostileService makes a service that anybody who may register one could register.
func hostileService(r *rand.Rand, n int) route.Service {
	s := route.Service{Name: fmt.Sprintf("h%d%s", n, hostileValue(r))}
	for i := range 1 + r.IntN(2) {
		in := route.Instance{
			Node: hostileValue(r), ID: hostileValue(r), Address: fmt.Sprintf("10.9.%d.%d", n%250, i+1), Port: 1 + r.IntN(65535),
			Status: []route.Status{route.Passing, route.Warning, route.Critical, route.Maintenance}[r.IntN(4)],
			Weight: r.IntN(3), Created: 1000 + uint64(n), Meta: map[string]string{},
		}
		switch r.IntN(8) {
		case 0:
			in.Address = hostileValue(r)
		case 1:
			in.Address = fmt.Sprintf("fd00::%x", n)
		case 2:
			in.Port = r.IntN(200000) - 70000
		}
		for range 1 + r.IntN(4) {
			key, value := hostileKeys[r.IntN(len(hostileKeys))], hostileValue(r)
			if r.IntN(4) == 0 {
				in.Tags = append(in.Tags, "fairway."+strings.ReplaceAll(key, "-", ".")+"="+value)
			} else {
				in.Meta["fairway-"+key] = value
			}
		}
		if r.IntN(3) == 0 {
			in.Owner = hostileValue(r)
		}
		s.Instances = append(s.Instances, in)
	}
	return s
}
