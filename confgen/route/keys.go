package route

import (
	"slices"
	"strings"
)

// support says what this version does with a key of the vocabulary.
type support int

const (
	works     support = iota
	elsewhere         // another program acts on it; nothing to do here
	later             // not yet: a problem, the route is served without it
	guards            // not yet, and serving the route without it would let in what it keeps out
)

// keys is the whole vocabulary of routing labels, as written in a label. In meta the dots are
// hyphens. A key that is known but does nothing yet is a problem, never silence.
var keys = map[string]support{
	"enable": works, "host": works, "path": works, "port": works, "default": works,
	"entrypoints": works, "weight": works, "priority": works, "strip": works, "rewrite": works,
	"timeout.connect": works, "timeout.server": works, "timeout.tunnel": works, "timeout.queue": works,
	"balance": works, "headers.request": works, "headers.response": works,
	"redirect": works, "redirect-from": works, "tls": works, "hsts": works, "allow": works, "deny": works,
	"retries": works, "compress": works, "sticky": works, "maxconn": works, "backup": works, "slowstart": works,
	"check": works, "check.interval": works, "check.timeout": works, "check.rise": works, "check.fall": works,

	"maintenance": works, "group": works, "share": works,

	"network": elsewhere,

	"cert": works, "client-ca": works,
	"proto": works, "fcgi.root": works, "backend.verify": works, "backend.sni": works, "backend.cert": works, "proxy-protocol": works,
	"mirror": works, "forward-auth": works,

	"auth": works, "rate": works, "inflight": works, "body-max": works, "retry-on": works, "cors": works, "errors": works,
	"snippet.haproxy": works, "snippet.nginx": works, "queue": works, "drain": works, "instance": works,
	"methods": works, "header": works, "query": works,

	"tcp": works, "sni": works,
}

// harmless are values of keys not supported yet that ask for what happens anyway.
var harmless = map[string][]string{}

// hyphened maps the form that keys have in meta to the one they have in a label.
var hyphened = func() map[string]string {
	h := make(map[string]string, len(keys))
	for k := range keys {
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

// sortedKeys makes suggestions independent of map order.
var sortedKeys = func() []string {
	all := make([]string, 0, len(keys))
	for k := range keys {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}()

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
