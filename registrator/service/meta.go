package service

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Consul's limits for service meta (agent/structs ValidateServiceMetadata). A registration with
// one pair beyond them is refused as a whole, so such a pair is dropped here.
const (
	maxPairs = 64
	maxKey   = 128
	maxValue = 512
)

// pair is one element of service meta and the label it comes from.
type pair struct{ key, value, label string }

// refusePair says why Consul would refuse a pair, or return it changed; empty when it takes it.
func refusePair(p pair) string {
	switch {
	case p.key == "":
		return "names no key"
	case !isMetaKey(p.key):
		return fmt.Sprintf("Consul's meta keys hold letters, digits, _ and - only; %q does not fit", p.key)
	case len(p.key) > maxKey:
		return fmt.Sprintf("the key is longer than Consul's %d characters", maxKey)
	case strings.HasPrefix(p.key, "consul-"):
		return `keys that begin with "consul-" are Consul's own`
	case len(p.value) > maxValue:
		return fmt.Sprintf("the value has %d characters and Consul takes %d", len(p.value), maxValue)
	case !utf8.ValidString(p.value):
		return "the value is not valid UTF-8"
	case strings.ContainsRune(p.value, 0):
		return "the value holds a NUL"
	}
	return ""
}

func isMetaKey(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	return strings.Trim(s, allowed) == ""
}

// buildMeta puts pairs into service meta in their order, which is the order of their importance:
// the owner mark, the routing keys, then the user's own. What does not fit is reported.
func buildMeta(pairs []pair, report reporter) map[string]string {
	meta := make(map[string]string, len(pairs))
	for _, p := range pairs {
		if why := refusePair(p); why != "" {
			report(p.label, why)
			continue
		}
		if _, replaces := meta[p.key]; !replaces && len(meta) == maxPairs {
			report(p.label, fmt.Sprintf("Consul takes %d meta pairs for a service and this is one too many", maxPairs))
			continue
		}
		meta[p.key] = p.value
	}
	return meta
}
