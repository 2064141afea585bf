//go:build real

package render_test

import (
	"strings"
	"testing"

	"fairway/confgen/route"
)

// classes are the kinds of characters that a label may hold and a configuration must not.
var classes = []struct{ name, text string }{
	{"newline", "\nx"},
	{"carriage return", "\rx"},
	{"opening brace", "{"},
	{"closing brace", "}"},
	{"semicolon", ";"},
	{"single quote", "'"},
	{"double quote", "\""},
	{"backslash", "\\"},
	{"variable", "$host"},
	{"variable of the environment", "${HOME}"},
	{"fetch", "%[src]"},
	{"comment", " #x"},
	{"NUL", "\x00"},
	{"10 kB", strings.Repeat("a", 10<<10)},
	{"right to left", "\u202e"},
	{"combining", "e\u0301"},
	{"no UTF-8", "\xff"},
}

// placed are the values that bring a text to where a key's value is read: alone, behind each value
// that the key takes, and inside it. What is white at its ends is cut off before anybody looks.
func placed(text string, values []string) []string {
	list := []string{text}
	if strings.TrimSpace(text) != text {
		list[0] = "x" + text
	}
	for _, value := range values {
		half := len(value) / 2
		list = append(list, value+text, value[:half]+text+value[half:])
	}
	return list
}

// ofTLS are the keys that need an entrypoint with TLS, or that take no key tls beside them. The
// others go without: nginx takes a millisecond to load the certificate of each of their hosts.
var ofTLS = map[string]bool{"tls": true, "cert": true, "client-ca": true, "hsts": true, "sni": true, "tcp": true, "redirect-from": true}

// everyClass makes a service for every key, every class, and every place that the class can take.
// Meta holds at most 512 characters, tags hold any number.
func everyClass() []route.Service {
	var list []route.Service
	for _, key := range route.Vocabulary() {
		for _, class := range classes {
			for _, value := range placed(class.text, plausible[key]) {
				s, carry := hostileLabel(len(list), key), inMeta
				if !ofTLS[key] {
					s.Instances[0].Meta["fairway-tls"] = "off"
				}
				if len(value) > 512 {
					carry = inTag
				}
				list = append(list, carry(s, key, value))
			}
		}
	}
	return list
}

// TestHostileLabels_everyClass gives every key of the vocabulary every class of characters. Both
// proxies load all of them in one configuration, and no line of the innocent changes.
func TestHostileLabels_everyClass(t *testing.T) {
	eachHostility(t, func(t *testing.T, h *hostility) {
		h.wantPlausible(t)
		h.bear(t, everyClass())
	})
}

// wantPlausible wants each value to which a class is added to be one that a proxy takes: otherwise
// it would be refused for what it is, whatever stands behind it.
func (h *hostility) wantPlausible(t *testing.T) {
	t.Helper()
	for _, key := range route.Vocabulary() {
		if len(plausible[key]) == 0 {
			t.Errorf("no value for the key %s", key)
		}
		for _, value := range plausible[key] {
			if reason := h.refusal(key, value, route.HAProxy); reason != "" && h.refusal(key, value, route.Nginx) != "" {
				t.Errorf("%s takes no %q: %s", key, value, reason)
			}
		}
	}
}

// refusal is what a proxy has against a label of a service that stands alone; "" for nothing.
func (h *hostility) refusal(key, value string, proxy route.Proxy) string {
	set := h.set
	set.Proxy = proxy
	s := inMeta(hostileLabel(0, key), key, value)
	s.Name = "shop" // whom the operator trusts, and whom labels name
	for _, p := range route.Build(route.Snapshot{Services: []route.Service{s}}, set).Problems {
		if p.Key == "fairway."+key {
			return p.Reason
		}
	}
	return ""
}
