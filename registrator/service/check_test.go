package service

import "testing"

func TestShownHeader(t *testing.T) {
	for given, want := range map[string]string{
		"":                        "",
		"Host: shop.test":         "Host: shop.test",
		"Authorization: Bearer x": "Authorization: (not shown)",
		"host: a\nX-A: 1\nx-a: 2": "Host: a\nX-A: (not shown)\nX-A: (not shown)",
		"no header":               "no header",
	} {
		got := ShownHeader(given)
		if got != want || ShownHeader(got) != got {
			t.Errorf("%q: %q, %q", given, got, ShownHeader(got))
		}
	}
}

// TestCheck_SameWay_headers: what is read back lacks the values; what is remembered has them.
func TestCheck_SameWay_headers(t *testing.T) {
	with := func(header string) Check { return Check{Kind: HTTP, Header: header} }
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"A: 1", "A: 1", true},
		{"A: 1", "A: 2", false},
		{"A: 1", "A: (not shown)", true},
		{"A: (not shown)", "A: 1", true},
		{"A: 1", "B: (not shown)", false},
		{"A: 1\nA: 2", "A: (not shown)", false},
		{"Host: a", "Host: b", false},
		{"", "A: (not shown)", false},
	} {
		if got := with(tt.a).SameWay(with(tt.b)); got != tt.same {
			t.Errorf("%q and %q: %t", tt.a, tt.b, got)
		}
	}
}
