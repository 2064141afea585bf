package main

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

// world is a catalog of services whose labels are written like "host=a.test path=/x".
func world(t *testing.T, services ...string) route.Table {
	t.Helper()
	var snap route.Snapshot
	for i, text := range services {
		name, labels, _ := strings.Cut(text, ": ")
		in := route.Instance{
			Node: "n1", ID: "n1:" + name + ":80", Address: "10.0.0.1", Port: 8000 + i,
			Status: route.Passing, Weight: 1, Created: uint64(i + 1), Meta: map[string]string{},
		}
		for label := range strings.FieldsSeq(labels) {
			key, value, _ := strings.Cut(label, "=")
			if key == "status" {
				in.Status = route.Status(value)
				continue
			}
			in.Meta["fairway-"+key] = value
		}
		snap.Services = append(snap.Services, route.Service{Name: name, Instances: []route.Instance{in}})
	}
	return route.Build(snap, route.Settings{Entrypoints: []route.Entrypoint{
		{Name: "web", Port: 80},
		{Name: "websecure", Port: 8443, TLS: true},
		{Name: "inner", Port: 9000},
		{Name: "innersecure", Port: 9443, TLS: true},
	}})
}

func TestExplain_F65_whoWinsAndWhy(t *testing.T) {
	table := world(t,
		"exact: host=shop.test path==/cart",
		"shop: host=shop.test path=/",
		"api: host=shop.test path=/api",
		"v1: host=shop.test path=/api/v1",
		"wild: host=*.test",
		"all: default=true",
		"late: host=shop.test path=/api",
		"inside: host=shop.test path=/api/v1/inside entrypoints=inner",
		"urgent: host=*.deep.test priority=5",
		"down: host=down.test status=maintenance",
		"typo: hots=typo.test",
		"old: host=old.test tls=redirect",
	)
	for _, c := range []struct {
		name, url, entrypoint string
		answered              bool
		want                  string // in the outcome
		listener, service     string
		others                map[string]string // service: why it does not get the request
		problems              string
	}{
		{
			name: "longest prefix", url: "http://shop.test/api/v1/x?q", answered: true,
			want: "goes to service v1, 1 of 1", listener: "web", service: "v1",
			others: map[string]string{
				"api": "the longer path /api/v1 goes before /api", "shop": "the longer path /api/v1 goes before /",
				"wild": "an exact host goes before a wildcard", "all": "an exact host goes before no host",
				"exact": "its path does not match /api/v1/x", "inside": "it is not on web but on inner; its path",
			},
		},
		{
			name: "a claim that another holds", url: "shop.test/api", answered: true, want: "goes to service api", listener: "web", service: "api",
			problems: "late fairway.host: shop.test /api on web, websecure belongs to service api, which was registered first",
		},
		{
			name: "exact path", url: "HTTP://SHOP.test.:80/cart", answered: true, want: "service exact", listener: "web", service: "exact",
			others: map[string]string{"shop": "an exact path goes before a prefix"},
		},
		{
			name: "another entrypoint", url: "http://shop.test:9000/api/v1/inside", answered: true, want: "service inside", listener: "inner", service: "inside",
			others: map[string]string{"v1": "it is not on inner but on web, websecure"},
		},
		{name: "by name", url: "http://shop.test:12345/api/v1/inside", entrypoint: "inner", answered: true, want: "service inside", listener: "inner", service: "inside"},
		{name: "https", url: "https://shop.test/", answered: true, want: "service shop", listener: "websecure", service: "shop"},
		{name: "catch-all", url: "http://else.where/", answered: true, want: "service all", listener: "web", service: "all", problems: "typo (n1:typo:80) fairway.hots: unknown key"},
		{
			name: "longer wildcard", url: "http://x.deep.test/", answered: true, want: "service urgent", listener: "web", service: "urgent",
			others: map[string]string{"wild": "the longer wildcard *.deep.test goes before *.test"},
		},
		{name: "redirect", url: "http://old.test/", answered: true, want: "redirected with 308 by service old", listener: "web", service: "old"},
		{name: "no server", url: "http://down.test/", want: "no server of service down takes requests: answered with 503", listener: "web", service: "down"},
		{
			name: "no route", url: "http://shop.tset:9000/api/v1/inside", want: "no route: answered with 404", listener: "inner",
			others:   map[string]string{"inside": "its host is not shop.tset", "v1": "it is not on inner but on web, websecure; its host is not shop.tset"},
			problems: "typo (n1:typo:80) fairway.hots: unknown key",
		},
		{name: "no listener", url: "http://shop.test:81/", want: "no listener for it; there is web (http, port 80), websecure (https, port 8443)"},
		{name: "no such entrypoint", url: "http://shop.test/", entrypoint: "outer", want: "no listener"},
		{name: "dots", url: "http://shop.test/api/%2e%2e/secret", want: "refused with 400", listener: "web"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, err := parseQuestion(url.Values{"url": {c.url}, "entrypoint": {c.entrypoint}})
			if err != nil {
				t.Fatal(err)
			}
			e := explain(table, q)
			var printed strings.Builder
			if err := e.print(&printed); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if t.Failed() {
					t.Log(printed.String())
				}
			}()
			if !strings.Contains(e.Outcome, c.want) || e.Answered != c.answered {
				t.Errorf("%q, answered %t; want %q", e.Outcome, e.Answered, c.want)
			}
			if (e.Listener == nil) != (c.listener == "") || e.Listener != nil && e.Listener.Name != c.listener {
				t.Errorf("listener %+v", e.Listener)
			}
			if (e.Route == nil) != (c.service == "") || e.Route != nil && e.Route.Service != c.service {
				t.Errorf("route %+v", e.Route)
			}
			for service, why := range c.others {
				found := false
				for _, o := range e.Others {
					found = found || o.Route.Service == service && strings.Contains(strings.Join(o.Why, "; "), why)
				}
				if !found {
					t.Errorf("%s: want %q in %+v", service, why, e.Others)
				}
			}
			for _, o := range e.Others {
				if e.Route != nil && o.Route.Service == e.Route.Service && o.Route.Pattern == e.Route.Pattern && slices.Equal(o.Route.Entrypoints, e.Route.Entrypoints) {
					t.Errorf("the winner is among the losers: %+v", o)
				}
			}
			if !strings.Contains(printed.String(), c.problems) {
				t.Errorf("problems: want %q", c.problems)
			}
		})
	}
}

func TestExplain_F65_questionsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "ftp://a.test/", "http:///x", "http://a.test:0/", "http://a.test:99999/", "http://a b/"} {
		if q, err := parseQuestion(url.Values{"url": {text}}); err == nil {
			t.Errorf("%q: %+v", text, q)
		}
	}
}

// TestExplain_otherFrontEnds wants a route that is for other front ends to be named with them,
// whether another route takes the request here or none.
func TestExplain_otherFrontEnds(t *testing.T) {
	snap := routetest.Snapshot(t, `
shop n1 10.0.0.1:80 passing 1 fairway-host=shop.test
beta n1 10.0.0.2:80 passing 2 fairway-host=shop.test fairway-path=/beta fairway-instance=edge-3,edge-2
side n1 10.0.0.3:80 passing 3 fairway-host=side.test fairway-admin-host=admin.test fairway-admin-instance=edge-2
only n1 10.0.0.4:80 passing 4 fairway-host=only.test fairway-methods=POST fairway-instance=edge-2
`)
	for _, c := range []struct{ instance, url, outcome, printed string }{
		{"edge-1", "http://shop.test/beta", "goes to service shop", "not taken  shop.test /beta (service beta, on web): it is for edge-2, edge-3 alone (fairway.instance), and this front end is edge-1\n"},
		{"edge-1", "http://shop.test/", "goes to service shop", "it is for edge-2, edge-3 alone (fairway.instance), and this front end is edge-1; its path does not match /\n"},
		{"edge-1", "http://admin.test/", "no route: answered with 404", "nearest   admin.test / (route admin of service side, on web): it is for edge-2 alone (fairway.admin.instance), and this front end is edge-1\n"},
		{"edge-1", "http://only.test/", "no route: answered with 404", "it is for edge-2 alone (fairway.instance), and this front end is edge-1; it is for POST and not for GET\n"},
		{"", "http://admin.test/", "no route: answered with 404", "it is for edge-2 alone (fairway.admin.instance), and this front end has no name (--instance)\n"},
		{"edge-2", "http://admin.test/", "goes to service side", ""},
	} {
		q, err := parseQuestion(url.Values{"url": {c.url}})
		if err != nil {
			t.Fatal(err)
		}
		e := explain(route.Build(snap, route.Settings{Instance: c.instance}), q)
		var out strings.Builder
		if err := e.print(&out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(e.Outcome, c.outcome) || !strings.Contains(out.String(), c.printed) || c.printed == "" && strings.Contains(out.String(), "alone") {
			t.Errorf("%s on %q: want %q and %q in\n%s", c.url, c.instance, c.outcome, c.printed, out.String())
		}
	}
}

// TestExplain_conditions wants every route that a condition keeps a request from to say which.
func TestExplain_conditions(t *testing.T) {
	table := world(t,
		"shop: host=shop.test",
		"write: host=shop.test methods=POST,PUT",
		"canary: host=shop.test header=X-Canary:yes query=beta=1",
		"late: host=shop.test methods=PUT",
	)
	for _, c := range []struct {
		form    url.Values
		service string
		others  map[string]string
		problem string
	}{
		{url.Values{"url": {"shop.test/?a"}}, "shop", map[string]string{
			"write":  "it is for POST, PUT and not for GET",
			"canary": `it wants the header x-canary: "yes", which is nothing; it wants "beta"="1" in the query`,
		}, `late fairway.methods: shop.test / [methods PUT] on web, websecure, inner belongs to service write`},
		{url.Values{"url": {"shop.test/?beta=1"}, "method": {"PUT"}, "header": {"x-canary: no", "X-Canary: yes"}}, "write", map[string]string{
			"canary": `it wants the header x-canary: "yes", which is "no"`, "shop": "more conditions go before fewer",
		}, ""},
		{url.Values{"url": {"shop.test/?beta=%31"}, "method": {"PUT"}, "header": {"x-canary: yes"}}, "canary", map[string]string{
			"write": "more conditions go before fewer",
		}, ""},
	} {
		q, err := parseQuestion(c.form)
		if err != nil {
			t.Fatal(err)
		}
		e := explain(table, q)
		if e.Route == nil || e.Route.Service != c.service {
			t.Errorf("%v: %+v", c.form, e.Route)
			continue
		}
		for service, want := range c.others {
			i := slices.IndexFunc(e.Others, func(o candidate) bool { return o.Route.Service == service })
			if i < 0 || !strings.Contains(strings.Join(e.Others[i].Why, "; "), want) {
				t.Errorf("%v: %s: %+v, want %q", c.form, service, e.Others, want)
			}
		}
		if len(e.Problems) == 0 && c.problem != "" {
			t.Errorf("%v: no problem", c.form)
		}
	}
	if _, err := parseQuestion(url.Values{"url": {"a.test"}, "header": {"X-Canary"}}); err == nil {
		t.Error("a header without a value is taken")
	}
}

// A host whose TLS is passed through has no route, and is served all the same.
func TestExplain_F65_aHostThatIsPassedThrough(t *testing.T) {
	table := world(t,
		"db: sni=db.test entrypoints=websecure",
		"all: sni=*.wild.test",
		"own: host=own.wild.test",
		"deep: host=*.deep.wild.test",
		"deeper: sni=*.a.deep.wild.test",
		"down: sni=down.test status=maintenance",
	)
	for _, c := range []struct {
		url, service, want string
		answered           bool
	}{
		{"https://db.test:8443/x", "db", "passed through as it comes, whatever is asked for: it goes to service db, 1 of 1", true},
		{"https://db.test:8443/a/../b", "db", "passed through", true},
		{"https://x.wild.test:8443", "all", "passed through", true},
		{"https://own.wild.test:8443", "own", "goes to service own", true},
		{"https://x.deep.wild.test:8443", "deep", "goes to service deep", true},
		{"https://x.a.deep.wild.test:8443", "deeper", "passed through", true},
		{"https://down.test:8443", "down", "no server of service down takes connections", false},
		{"http://db.test/x", "", "no route", false},
		{"https://db.test:9443/x", "", "no route", false}, // another entrypoint with TLS
		{"https://xdb.test:8443/x", "", "no route", false},
		{"https://wild.test:8443/x", "", "no route", false},
	} {
		q, err := parseQuestion(url.Values{"url": {c.url}})
		if err != nil {
			t.Fatal(err)
		}
		e := explain(table, q)
		service := ""
		if e.Route != nil {
			service = e.Route.Service
		}
		if !strings.Contains(e.Outcome, c.want) || service != c.service || e.Answered != c.answered {
			t.Errorf("%s: %q by %q, answered %v, want %q by %q", c.url, e.Outcome, service, e.Answered, c.want, c.service)
		}
	}
}
