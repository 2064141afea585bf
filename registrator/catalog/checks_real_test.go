//go:build real

package catalog

import (
	"net/netip"
	"testing"
	"time"

	"fairway/internal/testbed"
	"fairway/registrator/service"
)

// TestChecks_C63_asConsulHoldsThem proves that a real server returns an active check as it was
// written, and what it then says about it.
func TestChecks_C63_asConsulHoldsThem(t *testing.T) {
	consul := testbed.Consul(t).Client
	c := New(consul, Options{Node: service.Node{Name: "hostname", IPv4: netip.MustParseAddr("192.168.1.102")}})
	severalChecks(t, c, checked, func() {
		checks, _, err := consul.Health().Checks("a", nil)
		if err != nil || len(checks) != 4 {
			t.Fatalf("%v, %v", checks, err)
		}
		for _, k := range checks {
			d := k.Definition
			if k.CheckID == "check:hostname:a:80:http" && (d.HTTP != "http://192.168.1.102:10000/h" || d.Method != "HEAD" ||
				d.IntervalDuration != 15*time.Second || d.TimeoutDuration != time.Second || len(d.Header["X-A"]) != 2) {
				t.Errorf("%+v", d)
			}
		}
	})
	// The same for a row with tagged addresses, which no transaction can write.
	severalChecks(t, c, func(status service.Status, output string) service.Plan { return bothFamilies(checked(status, output)) }, func() {
		list, _, err := consul.Catalog().Service("a", "", nil)
		if err != nil || len(list) != 1 || list[0].ServiceTaggedAddresses["lan_ipv6"].Address != "2001:db8::1" {
			t.Fatalf("%+v, %v", list, err)
		}
	})
}
