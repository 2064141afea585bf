//go:build real

package main

import (
	"strings"
	"testing"
)

func TestPage_F66_ofARunningConfgen(t *testing.T) {
	r := newRig(t, "haproxy")
	r.register("web", r.web("a"), "passing", map[string]string{"fairway-host": "cluster.test", "fairway-hots": "x"})
	c := r.confgen()
	r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	code, body := get(t, "http://"+c.addr+"/", "")
	for _, want := range []string{"<title>ready", "cluster.test /", "fairway.hots", "1 to 1 backends", "nothing is held back"} {
		if code != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %q in\n%s", code, want, body)
		}
	}
	if code, _ := get(t, "http://"+c.addr+"/nothing", ""); code != 404 {
		t.Errorf("a page that is none: %d", code)
	}
	if _, body := get(t, "http://"+c.addr+"/?q=nobody", ""); strings.Contains(body, "cluster.test /") || strings.Contains(body, "fairway.hots") {
		t.Errorf("the search finds everything:\n%s", body)
	}
}
