package watch

import (
	"testing"

	"fairway/confgen/route"
)

// Registrator's mark is no label: it does not make a service a routed one, and instances with the
// same labels share them.
func TestEntry_registratorsMarkIsNoLabel(t *testing.T) {
	var e entry
	e.Service.Meta = map[string]string{route.Owner: "c0ffee:80/tcp", "version": "1"}
	in := e.instance()
	if in.Owner != "c0ffee:80/tcp" || len(in.Meta) != 1 || in.Meta["version"] != "1" {
		t.Errorf("%+v", in)
	}
	if e.routed("fairway") {
		t.Error("routed by its mark alone")
	}
	other := in
	other.Owner = "decade:80/tcp"
	if sameInstance(in, other) {
		t.Error("another container is the same instance")
	}
}
