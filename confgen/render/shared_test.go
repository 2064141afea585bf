package render_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
	"fairway/templates"
)

var serverName = regexp.MustCompile(`(?m)^        server_name (.+);$`)

// blocksOf are the names of the server blocks of a catalog, in order; the default server has none.
func blocksOf(t *testing.T, catalog string, settings route.Settings) (list []string, conf string) {
	t.Helper()
	settings.Proxy = "nginx"
	v := render.View{Table: route.Build(routetest.Snapshot(t, catalog), settings), Settings: render.DefaultSettings()}
	if len(v.Problems) > 0 {
		t.Fatal(v.Problems)
	}
	conf = one(t, v, templates.Nginx()...)["nginx.conf"]
	for _, block := range strings.Split(conf, "\n    server {\n")[2:] { // what is before, and the generation's
		var names []string
		for _, m := range serverName.FindAllStringSubmatch(block, -1) {
			names = append(names, m[1])
		}
		list = append(list, strings.Join(names, " "))
	}
	return list, conf
}

// TestRender_sharedServers wants hosts to share a server block where all else in it is the same,
// and only there.
func TestRender_sharedServers(t *testing.T) {
	for _, c := range []struct {
		name, catalog string
		want          []string
	}{
		{
			"hosts of a service, and a wildcard that leads where they do",
			`web n 10.0.0.1:80 passing 1 fairway-host=b.test,a.test,*.c.test`,
			[]string{"a.test b.test *.c.test", ""},
		},
		{
			"another service", `
web n 10.0.0.1:80 passing 1 fairway-host=a.test,c.test
api n 10.0.0.2:80 passing 1 fairway-host=b.test`,
			[]string{"a.test c.test", "b.test", ""},
		},
		{
			"a path more", `
web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test,c.test
api n 10.0.0.2:80 passing 1 fairway-host=b.test fairway-path=/api`,
			[]string{"a.test c.test", "b.test", ""},
		},
		{
			"another path",
			`web n 10.0.0.1:80 passing 1 fairway-host=a.test fairway-path=/x fairway-b-host=b.test fairway-b-path=/y fairway-c-host=c.test fairway-c-path==/x`,
			[]string{"a.test", "b.test", "c.test", ""},
		},
		{
			"a wildcard behind one of them", `
web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.sub.test fairway-path=/x
sub n 10.0.0.2:80 passing 1 fairway-host=*.sub.test`,
			[]string{"b.sub.test", "a.test", "*.sub.test", ""},
		},
		{
			"a regular expression that one of them matches", `
web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test fairway-path=/x
any n 10.0.0.2:80 passing 1 fairway-host=~^a`,
			[]string{"a.test", "b.test", ""},
		},
		{
			"a condition",
			`web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test fairway-x-host=c.test fairway-x-methods=GET`,
			[]string{"a.test b.test", "c.test", ""},
		},
		{
			"options of a route",
			`web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test fairway-x-host=c.test,d.test fairway-x-strip=/x`,
			[]string{"a.test b.test", "c.test d.test", ""},
		},
		{
			"raw lines, which may ask for the name",
			`web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test "fairway-snippet-nginx=add_header X-Name $server_name;"`,
			[]string{"a.test", "b.test", ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, conf := blocksOf(t, c.catalog, route.Settings{Snippets: []string{"web"}})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, conf)
			}
		})
	}
}

// TestRender_sharedServersOfTLS wants a block for each certificate and entrypoint, and one for all
// hosts that are only led to TLS.
func TestRender_sharedServersOfTLS(t *testing.T) {
	got, conf := blocksOf(t, `
web n 10.0.0.1:80 passing 1 fairway-host=a.test,b.test,www.a.test
api n 10.0.0.2:80 passing 1 fairway-host=api.a.test`, route.Settings{
		Entrypoints: []route.Entrypoint{{Name: "web", Port: 80}, {Name: "websecure", Port: 443, TLS: true}},
		Certificates: &route.Certificates{List: []route.Certificate{
			{Name: "a", Hosts: []string{"a.test", "*.a.test"}}, {Name: "b", Hosts: []string{"b.test"}},
		}},
	})
	want := []string{
		"api.a.test www.a.test a.test b.test", "",
		"api.a.test", "www.a.test a.test", "b.test", "*.a.test", "",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, conf)
	}
}

// TestRender_F70_sharedServers wants a host that comes, and one that goes, to leave the same bytes
// as if it had always been so, from what is remembered as well.
func TestRender_F70_sharedServers(t *testing.T) {
	r, err := render.New(templates.Nginx()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, hosts := range []string{"b.test,c.test", "b.test", "b.test,c.test", "a.test,b.test,c.test", "b.test,c.test", "c.test", "b.test"} {
		v := render.View{Settings: render.DefaultSettings(), Table: route.Build(routetest.Snapshot(t,
			"web n 10.0.0.1:80 passing 1 fairway-host="+hosts+"\napi n 10.0.0.2:80 passing 1 fairway-host=api.test"), route.Settings{Proxy: "nginx"})}
		files, err := r.Render(v)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(one(t, v, templates.Nginx()...)["nginx.conf"], string(files[0].Data)); diff != "" {
			t.Errorf("%s (-anew +again):\n%s", hosts, diff)
		}
	}
}
