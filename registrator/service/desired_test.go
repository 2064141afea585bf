package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fleet is n containers as a busy node runs them.
func fleet(n int) []Container {
	var list []Container
	for i := range n {
		list = append(list, Container{
			ID: fmt.Sprintf("%064x", i+1), Name: fmt.Sprintf("shop_web.%d", i), Image: "registry:5000/team/web:1.2",
			State: Running, Health: Healthy, HealthOutput: "200 OK", NetworkMode: "shop", Created: time.Unix(int64(i), 0),
			Env: []string{"PATH=/bin", "HOME=/", "SERVICE_TAGS=blue,fast", fmt.Sprintf("SERVICE_ORDINAL=%d", i), "SERVICE_443_NAME=secure"},
			Labels: map[string]string{
				"fairway.host": fmt.Sprintf("w%d.test", i), "fairway.port": "80", "fairway.check.interval": "5s",
				"com.docker.compose.project": "shop", "maintainer": "us", "service.region": "eu",
			},
			Networks: []Network{{Name: "shop", ID: "5", IPv4: netip.AddrFrom4([4]byte{172, 18, byte(i >> 8), byte(i)})}},
			Ports: []Port{
				{80, "tcp", []Binding{{IP: netip.IPv4Unspecified(), Port: uint16(10000 + 2*i)}, {IP: netip.IPv6Unspecified(), Port: uint16(10000 + 2*i)}}},
				{443, "tcp", []Binding{{IP: netip.IPv4Unspecified(), Port: uint16(10001 + 2*i)}, {IP: netip.IPv6Unspecified(), Port: uint16(10001 + 2*i)}}},
				{9000, "tcp", nil},
			},
		})
	}
	return list
}

// C44: who holds an ID does not change when others come, whatever their ids.
func TestDesired_C44_newcomersTakeNothing(t *testing.T) {
	claimant := func(id string, created int64) Container {
		return Container{
			ID: strings.Repeat(id, 64), Name: "c" + id, Image: "web", State: Running, Created: time.Unix(created, 0), Env: []string{"SERVICE_ID=same"},
			Ports: []Port{{80, "tcp", []Binding{{IP: netip.IPv4Unspecified(), Port: uint16(created)}}}},
		}
	}
	opt := Defaults()
	opt.IP = netip.MustParseAddr("10.0.0.1")
	port := func(containers ...Container) int {
		t.Helper()
		rows := Desired(containers, opt).Registrations
		if len(rows) != len(containers) {
			t.Fatalf("%d containers have %d rows", len(containers), len(rows))
		}
		i := slices.IndexFunc(rows, func(r Registration) bool { return r.ID == "same" })
		if i < 0 {
			t.Fatalf("nobody holds the ID: %+v", rows)
		}
		return rows[i].Port
	}
	old, young := claimant("f", 1), claimant("0", 2)
	if got := port(old); got != 1 {
		t.Fatalf("alone: port %d holds it", got)
	}
	if got := port(old, young); got != 1 {
		t.Errorf("a newcomer with a lower id took it: port %d", got)
	}
	if got := port(young); got != 2 {
		t.Errorf("the first died: port %d holds it", got)
	}
}

// C36: a template that cannot be parsed is refused, with its place.
func TestParseTags_C36_errors(t *testing.T) {
	for list, want := range map[string]string{
		"a,{{.Name":                 "tag 2:1",
		"a,{{nosuch .Name}},b":      `function "nosuch" not defined`,
		"{{range .X}}a,{{.}},b":     "unexpected EOF",
		"ok,a\x00":                  "control character",
		"{{if .X}}\n{{bad}}{{end}}": "tag 1:2",
	} {
		if _, err := ParseTags(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseTags(%q): %v, want something about %q", list, err, want)
		}
	}
}

// The functions of gliderlabs/registrator, in the words of its manual.
func TestTag_functions(t *testing.T) {
	type config struct {
		Env    []string
		Labels map[string]string
	}
	doc := struct {
		ID, Name string
		Config   config
	}{
		ID: "e20f9c1a76565d62", Name: "/web",
		Config: config{Env: []string{"ENV=prod", "AZ=eu-1"}, Labels: map[string]string{"team": "Blue", "json": `{"a":{"b":"c"}}`}},
	}
	for text, want := range map[string][]string{
		`{{strSlice .ID 0 12}}`:                                      {"e20f9c1a7656"},
		`{{strSlice .ID 12}}`:                                        {"5d62"},
		`{{strSlice .ID 99}}`:                                        nil,
		`{{strSlice .ID 4 99}}`:                                      {"9c1a76565d62"},
		`{{sIndex 0 .Config.Env}}`:                                   {"ENV=prod"},
		`{{sIndex 9 .Config.Env}}`:                                   nil,
		`{{mIndex "team" .Config.Labels}}`:                           {"Blue"},
		`{{mIndex "none" .Config.Labels}}`:                           nil,
		`{{.Config.Labels.none}}`:                                    nil,
		`{{toUpper .Name}}{{toLower "X"}}`:                           {"/WEBx"},
		`{{replace -1 "/" "-" .Name}}`:                               {"-web"},
		`{{join "," .Config.Env}}`:                                   {"ENV=prod", "AZ=eu-1"},
		`{{splitIndex 1 "=" (sIndex 0 .Config.Env)}}`:                {"prod"},
		`{{splitIndex 7 "=" .Name}}`:                                 nil,
		`{{index (split "=" "a=b") 1}}`:                              {"b"},
		`{{matchFirstElement "^AZ=" .Config.Env}}`:                   {"AZ=eu-1"},
		`{{matchFirstElement "^X" .Config.Env}}`:                     nil,
		`{{join ";" (matchAllElements "=" .Config.Env)}}`:            {"ENV=prod;AZ=eu-1"},
		`{{$j := jsonParse .Config.Labels.json}}{{$j.a.b}}`:          {"c"},
		`{{if eq .Name "/web"}}one,two{{else}}three{{end}},plain`:    {"one", "two", "plain"},
		`{{with .Config}}{{range .Env}}x{{.}},{{end}}{{end}},a\,b`:   {"xENV=prod", "xAZ=eu-1", "a,b"},
		`{{- /* a comment, with a comma */ -}}c,{{"a string, too"}}`: {"c", "a string", "too"},
	} {
		tags, err := ParseTags(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, tag := range tags {
			rendered, err := tag.render(doc)
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			got = append(got, rendered...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	}
	for _, text := range []string{`{{matchFirstElement "(" .Config.Env}}`, `{{matchAllElements "(" .Config.Env}}`, `{{jsonParse .Name}}`} {
		tags, err := ParseTags(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tags[0].render(doc); err == nil {
			t.Errorf("%s renders %q", text, got)
		}
	}
}

// What a person reads who asks why.
func TestDecision_String(t *testing.T) {
	opt, containers := parseGiven(t, strings.Join([]string{
		"registrator -ip= -node4 10.0.0.1",
		"run -name web -p 80:80 -p 127.0.0.1:9000:9000 -p 53:53/udp -p 10.0.0.7:8443:443 -health healthy -e SERVICE_80_NAME=front -e SERVICE_TAGS=a,b -l fairway.host=a.test -e SERVICE_53_UDP_IP=10.9.9.9 shop",
	}, "\n"))
	opt.AddressFrom = "the route to Consul"
	var got strings.Builder
	for _, d := range Desired(containers, opt).Decisions {
		got.WriteString(d.String())
	}
	want := `web 53/udp
  address         10.9.9.9:53: SERVICE_53_UDP_IP (environment)
  name            shop-53: the image shop, with its port because there are several
  tags            a, b, udp
  status          passing: healthy
  id              hostname:web:53:udp
web 80/tcp
  address         10.0.0.1:80: published, node address from the route to Consul
  name            front: SERVICE_80_NAME (environment)
  tags            a, b
  meta            fairway-host=a.test
  status          passing: healthy
  id              hostname:web:80
web 443/tcp
  address         10.0.0.7:8443: published
  name            shop-443: the image shop, with its port because there are several
  tags            a, b
  meta            fairway-host=a.test
  status          passing: healthy
  id              hostname:web:443
web 9000/tcp
  not registered  bound to 127.0.0.1, which no other machine can reach (--publish-loopback registers it all the same)
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A plan must not depend on how the zero value of an option is spelt.
func TestDesired_zeroOptionsAreDefaults(t *testing.T) {
	containers := fleet(3)
	opt := Defaults()
	opt.IP = netip.MustParseAddr("10.0.0.1")
	if diff := cmp.Diff(show(Desired(containers, opt)), show(Desired(containers, Options{IP: opt.IP}))); diff != "" {
		t.Errorf("-defaults +zero:\n%s", diff)
	}
}

func BenchmarkDesiredAndDiff(b *testing.B) {
	opt := Defaults()
	opt.Node = Node{Name: "n", IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("2001:db8::1")}
	containers := fleet(500)
	written := Diff(nil, Desired(containers, opt)).Put
	b.ReportAllocs()
	for b.Loop() {
		if changes := Diff(written, Desired(containers, opt)); !changes.Empty() {
			b.Fatal("not converged")
		}
	}
}
