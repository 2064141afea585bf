package swarm

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway/registrator/service"
)

// TestRecord_C111_bytes: what stands in Consul, for other programs to read, and what comes back.
func TestRecord_C111_bytes(t *testing.T) {
	s := service.SwarmService{
		ID: "s1", Name: "stack_web",
		Labels: map[string]string{"fairway.host": "a.test", "traefik.rule": "Host(`a`) && <b>", "com.docker.stack.image": "web:7"},
		Mesh:   []service.Publication{{Target: 80, Published: 8080, Protocol: "tcp"}, {Target: 53, Published: 5353, Protocol: "udp"}},
		VIPs:   []service.VIP{{Network: "n1", Addr: netip.MustParseAddr("10.0.1.2")}},
	}
	const want = `{"swarm":"c1","name":"stack_web","ports":["8080:80/tcp","5353:53/udp"],"vips":{"n1":"10.0.1.2"},` +
		`"labels":{"fairway.host":"a.test","traefik.rule":"Host(` + "`a`" + `) && <b>"}}`
	value := encode(recordOf("c1", s))
	if string(value) != want {
		t.Errorf("encoded\n%s, want\n%s", value, want)
	}
	r, err := decode(value)
	if err != nil {
		t.Fatal(err)
	}
	back, err := r.service("s1")
	delete(s.Labels, "com.docker.stack.image")
	if diff := cmp.Diff(s, back, cmpopts.EquateComparable(netip.Addr{})); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

// TestRecord_bounded: whatever a service says fits into a value of Consul's, and what does not is named.
func TestRecord_bounded(t *testing.T) {
	s := service.SwarmService{ID: "s1", Name: "web", Labels: map[string]string{"a": strings.Repeat("x", maxLabel)}}
	for i := range 1000 {
		s.Labels[fmt.Sprintf("control.%04d", i)] = strings.Repeat("\x01", 200) // six bytes each in JSON
	}
	s.Labels["fairway.host"] = "a.test"
	for i := range 65535 {
		s.Mesh = append(s.Mesh, service.Publication{Target: 65535, Published: uint16(65535 - i), Protocol: "sctp"})
	}
	value := encode(recordOf("c1", s))
	if len(value) > 512<<10-1024 {
		t.Errorf("%d bytes", len(value))
	}
	n := Normal(s)
	if len(n.Labels) == 0 || n.Omitted[0] != "a" || len(n.Omitted) != maxOmitted || len(n.Mesh) != maxPorts {
		t.Errorf("%d labels, %d ports, omitted %q", len(n.Labels), len(n.Mesh), n.Omitted)
	}
	if again := Normal(n); !reflect.DeepEqual(again.Labels, n.Labels) {
		t.Error("what fits does not fit again")
	}
}

func TestRecord_whatCannotBeRead(t *testing.T) {
	for value, ok := range map[string]bool{
		``: false, `[]`: false, `{"labels":7}`: false, `{}`: true,
		`{"name":"web","of tomorrow":{"x":1}}`: true,
		`{"ports":["80"]}`:                     false, `{"ports":["0:80/tcp"]}`: false, `{"ports":["80:80/"]}`: false,
	} {
		r, err := decode([]byte(value))
		if err == nil {
			_, err = r.service("s1")
		}
		if (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
	}
}
