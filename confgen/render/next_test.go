package render_test

import (
	"strings"
	"testing"

	"fairway/confgen/render"
	"fairway/templates"
)

// A worker hands over where it surely can: beside the runtime socket, under a path that HAProxy takes.
func TestRender_nextSocket(t *testing.T) {
	long := "/run/" + strings.Repeat("x", 80) + "/haproxy.sock"
	for stats, want := range map[string]string{
		"/run/fairway/haproxy.sock": "bind *:80,unix@/run/fairway/haproxy-next-web.sock mode 600\n",
		"/run/edge/admin":           "bind *:80,unix@/run/edge/admin-next-web.sock mode 600\n",
		"/run/a,b/haproxy.sock":     "bind *:80\n",
		long:                        "bind *:80\n",
		"":                          "bind *:80\n",
	} {
		v := render.View{Settings: render.DefaultSettings()}
		v.Settings.StatsSocket = stats
		v.Entrypoints = someView(t).Entrypoints
		config := one(t, v, templates.HAProxy()...)["haproxy.cfg"]
		if !strings.Contains(config, want) || strings.Contains(config, "_web-next") != strings.Contains(want, "next") {
			t.Errorf("runtime socket %q: want %q in\n%s", stats, want, config)
		}
	}
}
