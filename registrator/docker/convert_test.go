package docker

import (
	"net/netip"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway/registrator/service"
)

func TestConvert(t *testing.T) {
	doc := container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{
			ID: "0123456789abcdef", Name: "/redis.0", Created: "2026-01-02T03:04:05.6Z",
			State: &container.State{Status: "running", Running: true, ExitCode: 3, Health: &container.Health{
				Status: "unhealthy", Log: []*container.HealthcheckResult{{Output: "first"}, {Output: "one\ntwo \n"}},
			}},
			HostConfig: &container.HostConfig{
				NetworkMode: "front", AutoRemove: true,
				PortBindings: nat.PortMap{"80/tcp": {{HostPort: "8000"}}, "81/tcp": {{HostPort: "8001"}}},
			},
		},
		Config: &container.Config{
			Image: "progrium/redis", Env: []string{"A=b"},
			Labels:       map[string]string{"com.docker.swarm.task.id": "t1", "com.docker.swarm.service.name": "stack_redis"},
			ExposedPorts: nat.PortSet{"6379/tcp": {}, "53/udp": {}, "80/tcp": {}},
		},
		NetworkSettings: &container.NetworkSettings{
			Networks: map[string]*network.EndpointSettings{
				"front": {NetworkID: "n2", IPAddress: "172.18.0.5", GlobalIPv6Address: "2001:db8::5", GwPriority: 2},
				"back":  {NetworkID: "n1"},
			},
		},
	}
	doc.NetworkSettings.Ports = nat.PortMap{
		"80/tcp": {{HostIP: "0.0.0.0", HostPort: "8000"}, {HostIP: "::", HostPort: "8000"}}, "53/udp": nil,
	}
	want := service.Container{
		ID: "0123456789abcdef", Name: "redis.0", Image: "progrium/redis", Env: []string{"A=b"}, Labels: doc.Config.Labels,
		Task:    service.Task{ID: "t1", ServiceName: "stack_redis"},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC),
		State:   service.Running, Health: service.Unhealthy, HealthOutput: "two", ExitCode: 3, AutoRemove: true, NetworkMode: "front",
		Networks: []service.Network{
			{Name: "back", ID: "n1"},
			{Name: "front", ID: "n2", IPv4: netip.MustParseAddr("172.18.0.5"), IPv6: netip.MustParseAddr("2001:db8::5"), GatewayPriority: 2},
		},
		Ports: []service.Port{
			{Number: 53, Protocol: "udp"},
			{Number: 80, Protocol: "tcp", Bindings: []service.Binding{
				{IP: netip.IPv4Unspecified(), Port: 8000}, {IP: netip.IPv6Unspecified(), Port: 8000},
			}},
			{Number: 81, Protocol: "tcp", Bindings: []service.Binding{{IP: netip.IPv4Unspecified()}}}, // asked for, not bound yet
			{Number: 6379, Protocol: "tcp"},
		},
	}
	if diff := cmp.Diff(want, convert(doc, nil), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestConvert_publishAll(t *testing.T) {
	doc := func(mode container.NetworkMode, running bool) container.InspectResponse {
		return container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{
				State:      &container.State{Running: running, Status: "running"},
				HostConfig: &container.HostConfig{NetworkMode: mode, PublishAllPorts: true},
			},
			Config:          &container.Config{ExposedPorts: nat.PortSet{"80/tcp": {}}},
			NetworkSettings: &container.NetworkSettings{},
		}
	}
	for _, c := range []struct {
		mode    container.NetworkMode
		running bool
		want    bool
	}{
		{"bridge", true, true},
		{"front", true, true},
		{"bridge", false, false},
		{"host", true, false},
		{"none", true, false},
		{"container:x", true, false},
	} {
		if got := unbound(convert(doc(c.mode, c.running), nil)); got != c.want {
			t.Errorf("network %s, running %v: waits for a port %v, want %v", c.mode, c.running, got, c.want)
		}
	}
}

func TestStopSettings(t *testing.T) {
	seconds := func(n int) *int { return &n }
	for _, c := range []struct {
		config  container.Config
		signal  int
		timeout time.Duration
	}{
		{container.Config{}, 15, 10 * time.Second},
		{container.Config{StopSignal: "SIGQUIT", StopTimeout: seconds(60)}, 3, time.Minute},
		{container.Config{StopSignal: "nonsense", StopTimeout: seconds(0)}, 15, 0},
		{container.Config{StopTimeout: seconds(-1)}, 15, 24 * time.Hour},
	} {
		signal, timeout := stopSettings(&c.config)
		if signal != c.signal || timeout != c.timeout {
			t.Errorf("%+v: %d, %s; want %d, %s", c.config, signal, timeout, c.signal, c.timeout)
		}
	}
}

func TestMaybeID_C32(t *testing.T) {
	for image, want := range map[string]bool{
		"sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1": true,
		"4bcff63911fc": true, "cafe": true, "redis": false, "registry:5000/cafe": false, "cafe:1": false,
	} {
		if got := maybeID(image); got != want {
			t.Errorf("%s: %v, want %v", image, got, want)
		}
	}
}
