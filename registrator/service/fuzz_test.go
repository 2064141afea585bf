package service

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzDesired lets one container say anything about itself beside a well-behaved neighbour. No
// input may make it panic, produce a row that Consul refuses, change or take a row of the
// neighbour, or give a plan that its own writing does not satisfy.
func FuzzDesired(f *testing.F) {
	f.Add("SERVICE_NAME=a\nSERVICE_80_ID=hostname:web:80", "fairway.host=a.test\nfairway.api.port=81", "image:1", byte(0), "10.0.0.5")
	f.Add("SERVICE_80_TCP_NAME=x\nSERVICE_=y\nSERVICE__=z\nSERVICE_-=1", "service.tags=a\\,b,,c\nservice..=1", "sha256:abcdef012345", byte(1), "::1")
	f.Add("SERVICE_ALIASES=udp,80,,a:b\nSERVICE_ID=hostname:web:80:udp", "fairway.=x\nfairway.port=http", "reg:5000/a/b@sha256:00", byte(2), "fe80::1%eth0")
	f.Add("SERVICE_ID=x\nSERVICE_ALIASES=same\nSERVICE_TAGS=\\,\\", "fairway.container=1\nservice.id=y", "", byte(7), "0.0.0.0")
	f.Add("SERVICE_70000-1_X=\nSERVICE_1-65535_UDP_IGNORE=0\nSERVICE_CHECK_INITIAL_STATUS=warning", "fairway.a.port=81\nfairway.a-b.port=80\nfairway.a.b.host=x", "///", byte(31), "::ffff:10.0.0.1")
	f.Add("SERVICE_CHECK_HTTP=%zz\nSERVICE_CHECK_HEADER=a: b\nSERVICE_CHECK_METHOD=x y\nSERVICE_CHECK_INTERVAL=-1s", "SERVICE_CHECK_TCP=1\nSERVICE_CHECK_PORT=0\nSERVICE_81_CHECK_CMD=\xff", "a", byte(1), "::")
	f.Add("SERVICE_fairway-container=beefbeefbeef:80/tcp\nSERVICE_FAIRWAY-HOST=x", "service.fairway-container=x\nfairway.network=shop", "a:b:c", byte(12), "224.0.0.1")
	f.Fuzz(func(t *testing.T, env, labels, image string, how byte, address string) {
		neighbour := Container{
			ID: strings.Repeat("beef", 16), Name: "web", Image: "neighbour", State: Running, Created: time.Unix(5, 0),
			Networks: []Network{{Name: "shop", IPv4: netip.MustParseAddr("172.18.0.2")}},
			Ports:    []Port{{80, "tcp", []Binding{{IP: netip.IPv4Unspecified(), Port: 8080}}}, {80, "udp", []Binding{{IP: netip.IPv4Unspecified(), Port: 8080}}}},
		}
		opt := Defaults()
		opt.Node = Node{Name: "hostname", IPv4: netip.MustParseAddr("192.168.1.102"), IPv6: netip.MustParseAddr("2001:db8::1")}
		opt.Internal, opt.MergeTags = how&1 != 0, how&2 != 0
		alone := Desired([]Container{neighbour}, opt)
		both := []Container{fuzzed(env, labels, image, how, address), neighbour}
		plan := Desired(both, opt)

		for _, r := range plan.Registrations {
			if why := refusedByConsul(r); why != "" {
				t.Errorf("Consul refuses %+v: %s", r, why)
			}
		}
		mine := slices.DeleteFunc(slices.Clone(plan.Registrations), func(r Registration) bool {
			return marked(r.Meta[Owner]) != "beefbeefbeef"
		})
		if !slices.EqualFunc(mine, alone.Registrations, Registration.Equal) {
			t.Errorf("the neighbour's rows changed from %+v to %+v", alone.Registrations, mine)
		}
		if !slices.IsSortedFunc(plan.Registrations, func(x, y Registration) int {
			if x.ID == y.ID {
				t.Errorf("two rows have the ID %q", x.ID)
			}
			return strings.Compare(x.ID, y.ID)
		}) {
			t.Error("the rows are not sorted")
		}
		if changes := Diff(Diff(nil, plan).Put, plan); !changes.Empty() || len(changes.Problems) > 0 {
			t.Errorf("its own writing does not satisfy the plan: %+v", changes)
		}
		slices.Reverse(both)
		if again := show(Desired(both, opt)); again != show(plan) {
			t.Errorf("another order gives another plan:\n%s\n%s", show(plan), again)
		}
	})
}

// fuzzed is a container of which everything a user or an image can choose is arbitrary.
func fuzzed(env, labels, image string, how byte, address string) Container {
	c := Container{
		ID: strings.Repeat("0", 64), Name: "fuzzed", Image: image, State: Running, Created: time.Unix(int64(how), 0),
		Env: strings.Split(env, "\n"), Labels: map[string]string{}, HealthOutput: labels,
		Networks: []Network{{Name: "shop", IPv4: netip.MustParseAddr("172.18.0.3"), IPv6: netip.MustParseAddr("2001:db8:1::3")}},
	}
	for line := range strings.SplitSeq(labels, "\n") {
		key, value, _ := strings.Cut(line, "=")
		c.Labels[key] = value
	}
	c.Health = []Health{NoHealth, Starting, Healthy, Unhealthy}[how>>2&3]
	if how&16 != 0 {
		c.NetworkMode = "host"
	}
	if how&32 != 0 {
		c.Task = Task{ServiceName: image, Name: image, Service: &SwarmService{Labels: c.Labels, Guess: []string{"", "why"}[how>>6&1], Mesh: []Publication{{80, 81, "tcp"}, {83, uint16(how) + 1, "udp"}}}}
	}
	bind, err := netip.ParseAddr(address)
	if err != nil {
		bind = netip.IPv6Unspecified()
	}
	c.Ports = []Port{
		{80, "tcp", []Binding{{IP: bind, Port: 80}, {IP: netip.IPv4Unspecified(), Port: 80}, {IP: netip.IPv4Unspecified(), Port: uint16(how)}}},
		{80, "udp", []Binding{{IP: bind, Port: 80}}},
		{81, "tcp", []Binding{{IP: bind, Port: 81}, {IP: bind.Next(), Port: 81}}},
		{82, "sctp", nil},
	}
	return c
}

var metaKey = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// refusedByConsul says why a Consul server would refuse a row or hand it back changed. The limits
// are those of agent/structs in Consul's source.
func refusedByConsul(r Registration) string {
	addr, err := netip.ParseAddr(r.Address)
	texts := append([]string{r.ID, r.Name, r.Output}, r.Tags...)
	for _, k := range r.Checks {
		texts = append(texts, k.Target, k.Method, k.Output)
		if header, ok := ParseHeader(k.Header); !ok || FormatHeader(header) != k.Header {
			return fmt.Sprintf("header %q", k.Header)
		}
		if k.Interval < time.Second || k.Timeout <= 0 || k.DeregisterAfter < 0 || k.Status == "" {
			return fmt.Sprintf("check %+v", k)
		}
	}
	switch {
	case r.ID == "" || r.Name == "":
		return "no ID or no name"
	case err != nil || addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.Zone() != "" || addr.Is4In6():
		return "no address"
	case r.Port < 1 || r.Port > 65535:
		return "no port"
	case r.Weight < 0 || r.Weight > 65535:
		return "weight"
	case r.Status != Passing && r.Status != Warning && r.Status != Critical:
		return "status"
	case len(r.Meta) > 64:
		return "meta pairs"
	case slices.Contains(r.Tags, ""):
		return "an empty tag"
	case !r.Owned():
		return "no owner mark"
	}
	for key, value := range r.Meta {
		if !metaKey.MatchString(key) || len(key) > 128 || len(value) > 512 || strings.HasPrefix(key, "consul-") || !utf8.ValidString(value) {
			return fmt.Sprintf("meta %q=%q", key, value)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, isControl) {
			return fmt.Sprintf("text %q", text)
		}
	}
	return ""
}

// FuzzParseTags: no operator's flag may make it panic, and what is accepted can be rendered.
func FuzzParseTags(f *testing.F) {
	for _, s := range []string{"a,b", "{{.Name}},x", "{{range .Env}}{{.}},{{end}}", "{{", "}}", "\\", "{{if}}", "{{end}},{{end}}", `{{"}}"}},a`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, list string) {
		if strings.Contains(list, "range") || strings.Contains(list, "printf") || strings.Contains(list, "template") {
			return // loops and recursion that a template may ask for, on purpose, are its author's
		}
		tags, err := ParseTags(list)
		if err != nil {
			return
		}
		for _, tag := range tags {
			_, _ = tag.render(map[string]any{"Name": "x"}) // its errors are a container's problems
		}
	})
}
