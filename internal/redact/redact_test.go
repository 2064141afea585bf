package redact

import "testing"

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"http://consul:8500":             "http://consul:8500",
		"http://me:secret@consul:8500":   "http://…@consul:8500",
		"me:secret@consul:8500":          "…@consul:8500",
		"http://me:sec/ret@@consul:8500": "http://…@consul:8500",
		"ftp://me:secret@h x":            "ftp://…@h x",
		"unix:///run/a@b.sock":           "unix:///run/a@b.sock",
		"consul:8500":                    "consul:8500",
		"":                               "",
	} {
		if got := Address(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
