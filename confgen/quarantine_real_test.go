//go:build real

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"github.com/hashicorp/consul/api"
)

// careless are templates of an operator's own that print what a checker refuses, where a service
// asks for 7 failed checks.
var careless = map[string]string{
	"haproxy": `{{define "backend"}}
backend {{haproxyWord .Name}}
    balance roundrobin
{{- with .Options}}{{if eq .Check.Fall 7}}
    balance nonsense
{{- end}}{{end}}
{{- range .Servers}}
    server {{.Name}} {{.Address}}:{{.Port}} id {{.ID}}
{{- end}}
{{end}}`,
	"nginx": `{{define "upstream"}}
    upstream {{nginxQuote .Name}} {
{{- range .Servers}}
        server {{.Address}}:{{.Port}}{{with $.Options}}{{if eq .Check.Fall 7}} nonsense{{end}}{{end}};
{{- end}}
    }
{{end}}`,
}

// One of 500 services asks for what the real checker refuses: it alone is taken out, by the
// checker's own words, and everybody else goes on.
func TestRun_F24_oneOf500IsQuarantined(t *testing.T) {
	for kind, words := range map[string]string{"haproxy": "] : balance only supports", "nginx": `invalid parameter "nonsense"`} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, kind)
			a, b := r.web("a"), r.web("b")
			put := func(name string, w web, meta ...string) {
				t.Helper()
				labels := host(name + ".test")
				for i := 0; i < len(meta); i += 2 {
					labels[meta[i]] = meta[i+1]
				}
				_, err := r.consul.Client.Catalog().Register(&api.CatalogRegistration{
					Node: "n1", Address: "127.0.0.1",
					Service: &api.AgentService{ID: name, Service: name, Address: w.host, Port: w.port, Meta: labels},
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
			}
			for i := range 499 {
				put(fmt.Sprintf("s%03d", i), a)
			}
			put("s250", a, "fairway-check-fall", "7") // bad from the start
			own := filepath.Join(t.TempDir(), "own.tmpl")
			if err := os.WriteFile(own, []byte(careless[kind]), 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"--template", own}
			if kind == "nginx" {
				args = append(args, "--", testbed.Program(t, kind))
			} else {
				r.haproxy()
			}
			c := r.confgen(args...)
			c.ready()
			r.answers("s000.test", "a")
			r.answers("s498.test", "a")
			quarantined := func(want ...string) {
				t.Helper()
				testbed.Eventually(t, 20*time.Second, fmt.Sprintf("quarantine %q", want), func() error {
					var problems []string
					for _, p := range c.status().Problems {
						if p.Key == quarantineKey {
							problems = append(problems, p.Service+": "+p.Reason)
						}
					}
					if len(problems) != len(want) {
						return fmt.Errorf("%q", problems)
					}
					for i := range want {
						if name, _, _ := strings.Cut(want[i], " "); !strings.HasPrefix(problems[i], name+":") ||
							!strings.Contains(problems[i], words) || !strings.Contains(problems[i], want[i][len(name)+1:]) {
							return fmt.Errorf("%q", problems[i])
						}
					}
					return nil
				})
				c.ready()
			}
			quarantined("s250 it is not routed")
			if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), "s250.test"); code != http.StatusNotFound {
				t.Errorf("in quarantine and never good: %d %s", code, body)
			}
			put("late", b) // the others go on
			r.answers("late.test", "b")

			put("s100", b, "fairway-check-fall", "7", "fairway-host", "s100.test, more.test") // was good before
			quarantined("s100 by the labels that were accepted last", "s250 it is not routed")
			r.answers("s100.test", "b") // its old labels, with its new instance
			if out, err := r.command("explain", "--http-addr", c.addr, "http://s100.test/"); err != nil || !strings.Contains(out, words) {
				t.Errorf("explain: %v\n%s", err, out)
			}
			if n := c.metric("fairway_confgen_quarantined_services"); n != 2 {
				t.Errorf("quarantined_services %g", n)
			}
			if kind == "haproxy" { // nginx is a child, and would end with it
				c.stop()
				c = r.confgen(args...)
				c.ready()
				quarantined("s100 by the labels that were accepted last", "s250 it is not routed")
				r.answers("s100.test", "b") // a restart has not cost it its routes
			}
			put("later", a)
			r.answers("later.test", "a")

			put("s250", b) // mended
			put("s100", a, "fairway-check-fall", "2", "fairway-host", "s100.test, more.test")
			quarantined()
			r.answers("s250.test", "b")
			r.answers("more.test", "a")
			starts := map[string]int{"haproxy": 2, "nginx": 1}[kind]
			if n := strings.Count(r.log.String(), "service in quarantine"); n != 2*starts {
				t.Errorf("%d lines of log for two services and %d starts", n, starts)
			}
		})
	}
}
