package route

import (
	"reflect"
	"testing"
)

func routedInstance(id, address string, port int, status Status) Instance {
	return Instance{Node: "n", ID: id, Address: address, Port: port, Status: status, Created: 1, Meta: map[string]string{"fairway-host": "a.test"}}
}

func serversOf(instances ...Instance) []Server {
	table := Build(Snapshot{Services: []Service{{Name: "web", Instances: instances}}}, Settings{})
	if len(table.Backends) == 0 {
		return nil
	}
	return table.Backends[0].Servers
}

// An instance that comes back at its address under another ID is the same server, also while
// both are registered.
func TestBuild_F21_anotherIDIsTheSameServer(t *testing.T) {
	before, after := routedInstance("old", "10.0.0.1", 80, Passing), routedInstance("new", "10.0.0.1", 80, Passing)
	after.Created = 2
	one := serversOf(before)
	for _, now := range [][]Server{serversOf(after), serversOf(before, after), serversOf(after, before)} {
		if !reflect.DeepEqual(one, now) {
			t.Errorf("%+v, before %+v", now, one)
		}
	}
}

func TestBuild_F23_edges(t *testing.T) {
	warned := routedInstance("a", "10.0.0.1", 80, Warning)
	warned.Weight = 1 // Consul's for instances that warn
	weightless := routedInstance("w0", "10.0.0.1", 80, Passing)
	weightless.Meta["fairway-weight"] = "0"
	for name, c := range map[string]struct {
		in      Instance
		servers int
		address string
		state   State
		weight  int
	}{
		"IPv6":            {routedInstance("a", "2001:DB8::0:1", 80, Passing), 1, "2001:db8::1", Ready, 100},
		"IPv4 in IPv6":    {routedInstance("a", "::ffff:10.0.0.1", 80, Passing), 1, "10.0.0.1", Ready, 100},
		"no address":      {routedInstance("a", "", 80, Passing), 0, "", "", 0},
		"port 0":          {routedInstance("a", "10.0.0.1", 0, Passing), 0, "", "", 0},
		"weight 0":        {weightless, 1, "10.0.0.1", Ready, 0},
		"maintenance":     {routedInstance("a", "10.0.0.1", 80, Maintenance), 1, "10.0.0.1", Maint, 100},
		"warning":         {warned, 1, "10.0.0.1", Ready, 100},
		"critical, alone": {routedInstance("a", "10.0.0.1", 80, Critical), 1, "10.0.0.1", Ready, 100},
	} {
		servers := serversOf(c.in)
		if len(servers) != c.servers {
			t.Errorf("%s: %+v", name, servers)
			continue
		}
		if c.servers == 1 && (servers[0].Address != c.address || servers[0].State != c.state || servers[0].Weight != c.weight) {
			t.Errorf("%s: %+v", name, servers[0])
		}
	}
}
