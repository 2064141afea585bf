package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"fairway/confgen/route"
)

// TestEntrypoints reads entrypoints from the command line and from the environment, where commas
// stand between them and inside them.
func TestEntrypoints(t *testing.T) {
	web := route.Entrypoint{Name: "web", Port: 80}
	secure := route.Entrypoint{Name: "websecure", Address: "10.0.0.1", Port: 8443, TLS: true}
	tests := []struct {
		name, env string
		args      []string
		want      []route.Entrypoint
	}{
		{name: "default", want: []route.Entrypoint{web}},
		{name: "flags", args: []string{"--entrypoint", "web=:80", "--entrypoint", "websecure=10.0.0.1:8443,tls"}, want: []route.Entrypoint{web, secure}},
		{name: "one flag", args: []string{"--entrypoint", "websecure=10.0.0.1:8443,tls,web=:80"}, want: []route.Entrypoint{secure, web}},
		{name: "environment", env: "web=:80,websecure=10.0.0.1:8443,tls", want: []route.Entrypoint{web, secure}},
		{name: "no such option", args: []string{"--entrypoint", "web=:80,tsl"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("CONFGEN_ENTRYPOINT", tt.env)
			}
			var o Options
			app := &cli.App{Flags: flags(), Action: func(c *cli.Context) error { return o.readListen(c) }}
			err := app.Run(append([]string{"confgen"}, tt.args...))
			if (err != nil) != (tt.want == nil) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, o.Routing.Entrypoints); err == nil && diff != "" {
				t.Errorf("entrypoints (-want +got):\n%s", diff)
			}
		})
	}
}
