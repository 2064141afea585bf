package catalog

import (
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// An agent adds tagged addresses of its own, which must not look like a difference.
func TestAgent_taggedAddressesOfItsOwn(t *testing.T) {
	at := func(ip string) api.ServiceAddress { return api.ServiceAddress{Address: ip, Port: 80} }
	for name, test := range map[string]struct {
		held map[string]api.ServiceAddress
		want int
	}{
		"none":        {nil, 0},
		"defaults":    {map[string]api.ServiceAddress{"lan_ipv4": at("192.0.2.1"), "wan_ipv4": at("192.0.2.1")}, 0},
		"twoFamilies": {map[string]api.ServiceAddress{"lan_ipv4": at("192.0.2.1"), "lan_ipv6": at("2001:db8::1"), "wan_ipv4": at("192.0.2.1"), "wan_ipv6": at("2001:db8::1")}, 2},
		"another":     {map[string]api.ServiceAddress{"lan_ipv4": at("192.0.2.9")}, 1},
	} {
		got := tagged(given(&api.AgentService{Address: "192.0.2.1", Port: 80, TaggedAddresses: test.held}))
		if len(got) != test.want {
			t.Errorf("%s: %v", name, got)
		}
		if test.want == 2 && got["lan_ipv6"].IP != netip.MustParseAddr("2001:db8::1") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What an agent does not tell of a check stands in its notes, and no word of a header does.
func TestAgent_notesOfChecks(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 6_000_000, time.UTC)
	k := service.Check{
		Kind: service.HTTP, Target: "http://192.0.2.1/", Header: "Authorization: s3cret", Interval: time.Second,
		DeregisterAfter: time.Hour, CriticalSince: since,
	}
	print, got := readNotes(checkNotes(k))
	if print != k.Fingerprint() || !got.Equal(since) {
		t.Errorf("%q: %s, %s", checkNotes(k), print, got)
	}
	read := service.Check{Kind: service.HTTP, Print: print}
	if !read.SameWay(k) || !k.SameWay(read) {
		t.Error("read back, it is another check")
	}
	for name, change := range map[string]func(*service.Check){
		"header":    func(k *service.Check) { k.Header = "Authorization: other" },
		"interval":  func(k *service.Check) { k.Interval++ },
		"threshold": func(k *service.Check) { k.FailuresBeforeCritical++ },
		"kind":      func(k *service.Check) { k.Kind = service.HTTPS },
	} {
		other := k
		if change(&other); read.SameWay(other) {
			t.Errorf("another %s is not seen", name)
		}
	}
	same := k
	same.Status, same.Output, same.Container, same.Suspended, same.CriticalSince = service.Passing, "x", "id", true, time.Time{}
	if !read.SameWay(same) {
		t.Error("what changes with time makes it another check")
	}
	if theirs, _ := readNotes("by hand"); theirs == "" || (service.Check{Kind: service.HTTP, Print: theirs}).SameWay(k) {
		t.Error("somebody else's notes pass for ours")
	}
}

func TestAgent_whoKeepsARow(t *testing.T) {
	a := NewAgent(nil, AgentOptions{Registry: "app-1", TTL: 10 * time.Minute})
	row := func(notes, status, output string) service.Registration {
		s := &api.AgentService{ID: "x", Service: "x", Meta: map[string]string{service.Owner: "m"}}
		r, _ := a.row(s, map[string]*api.AgentCheck{"service:x": {
			CheckID: "service:x", ServiceID: "x", Notes: notes, Status: status, Output: output, Type: "ttl",
		}})
		if s.Meta[service.Owner] == "" {
			t.Error("the agent's own answer is changed")
		}
		return r
	}
	other := NewAgent(nil, AgentOptions{Registry: "app-1-rootless", TTL: time.Minute})
	for name, test := range map[string]struct {
		row  service.Registration
		ours bool
	}{
		"ours":                   {row(a.keeperNotes(), "passing", "running"), true},
		"of another registrator": {row(other.keeperNotes(), "passing", "running"), false},
		"of one that is gone":    {row(other.keeperNotes(), "critical", "TTL expired (last output before timeout follows): running"), true},
		"without notes":          {row("", "passing", ""), true},
	} {
		if test.row.Owned() != test.ours {
			t.Errorf("%s: %+v", name, test.row)
		}
	}
}
