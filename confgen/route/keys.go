package route

import (
	"slices"
	"strings"
)

// keys is the whole vocabulary of routing labels, as written in a label. In meta the dots are
// hyphens. Whether a proxy can do what a key asks for is said where the key is read: a key that
// does nothing is a problem, never silence.
var keys = []string{
	"enable", "host", "path", "port", "default", "entrypoints", "instance",
	"methods", "header", "query", "priority",
	"tcp", "sni", "proto", "fcgi.root", "proxy-protocol",
	"tls", "cert", "client-ca", "hsts", "backend.verify", "backend.sni", "backend.cert",

	"balance", "sticky", "weight", "group", "share", "maintenance",
	"backup", "maxconn", "queue", "slowstart", "drain",
	"check", "check.interval", "check.timeout", "check.rise", "check.fall",
	"timeout.connect", "timeout.server", "timeout.tunnel", "timeout.queue", "retries", "retry-on",

	"allow", "deny", "auth", "forward-auth", "rate", "inflight", "body-max", "cors",
	"redirect", "redirect-from", "strip", "rewrite", "headers.request", "headers.response",
	"compress", "errors", "mirror", "snippet.haproxy", "snippet.nginx",

	"network", // registrator acts on it, and nothing is left to do here
}

// hyphened maps the form that keys have in meta to the one they have in a label.
var hyphened = func() map[string]string {
	h := make(map[string]string, len(keys))
	for _, k := range keys {
		h[strings.ReplaceAll(k, ".", "-")] = k
	}
	return h
}()

// reserved are the keys and the first words of dotted keys; no route may be called like one, so
// that "fairway.check.path" is a slip and not a route named check.
var reserved = func() map[string]bool {
	r := make(map[string]bool)
	for h, k := range hyphened {
		r[h] = true
		if first, _, dotted := strings.Cut(k, "."); dotted {
			r[first] = true
		}
	}
	return r
}()

// sortedKeys makes suggestions independent of the order above.
var sortedKeys = slices.Sorted(slices.Values(keys))

// Vocabulary is every key that a routing label may have, as labels write it, sorted.
func Vocabulary() []string { return slices.Clone(sortedKeys) }

// maxKey is what Consul allows a meta key; a tag may be longer, and no route's name is.
const maxKey = 128

// splitKey takes what follows the prefix, hyphened and in lower case, apart into the name of a
// route and a key: "host" is the key host of the unnamed route, "api-check-interval" is the key
// check.interval of the route api.
func splitKey(rest string) (route, key string, ok bool) {
	if k, known := hyphened[rest]; known {
		return "", k, true
	}
	if len(rest) > maxKey {
		return "", "", false
	}
	// From the left, so that the longest key wins.
	for i := range len(rest) {
		if rest[i] != '-' || i == 0 {
			continue
		}
		if k, known := hyphened[rest[i+1:]]; known {
			return rest[:i], k, validRouteName(rest[:i])
		}
	}
	return "", "", false
}

func validRouteName(s string) bool {
	if reserved[s] {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// nearest suggests the valid label for one that is unknown, or "" when nothing is close.
func nearest(prefix, rest string) string {
	if len(rest) > maxKey {
		return ""
	}
	best, found := 3, ""
	consider := func(route, part string) {
		for _, k := range sortedKeys {
			d := distance(part, strings.ReplaceAll(k, ".", "-"))
			if d < best && d*2 < len(part) {
				best, found = d, label(prefix, route, k)
			}
		}
	}
	consider("", rest)
	for i := range len(rest) {
		if rest[i] == '-' && validRouteName(rest[:i]) {
			consider(rest[:i], rest[i+1:])
		}
	}
	return found
}

// label writes a key the way a user does.
func label(prefix, route, key string) string {
	if route == "" {
		return prefix + "." + key
	}
	return prefix + "." + route + "." + key
}

// distance counts the edits between two words: insert, delete, replace, or swap two neighbours.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 3 || d < -3 {
		return 4
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
