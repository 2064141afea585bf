package docker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"

	"fairway/registrator/service"
)

// defaultStopTimeout is what the engine waits between the stop signal and SIGKILL.
const defaultStopTimeout = 10 * time.Second

// convert reduces an inspect document to what decides a registration.
func convert(doc container.InspectResponse, ingress map[string]bool) service.Container {
	c := service.Container{
		ID:          doc.ID,
		Name:        strings.TrimPrefix(doc.Name, "/"),
		Image:       doc.Config.Image,
		Env:         doc.Config.Env,
		Labels:      doc.Config.Labels,
		Task:        task(doc.Config.Labels),
		Created:     parseTime(doc.Created),
		State:       service.State(doc.State.Status),
		ExitCode:    doc.State.ExitCode,
		AutoRemove:  doc.HostConfig.AutoRemove,
		NetworkMode: string(doc.HostConfig.NetworkMode),
		Networks:    networks(doc.NetworkSettings, ingress),
		Ports:       ports(doc),
	}
	c.Health, c.HealthOutput = health(doc.State.Health)
	return c
}

// taskID is the label that tells a Swarm task's container from any other.
const taskID = "com.docker.swarm.task.id"

// task reads the labels that Swarm puts on every container of a task.
func task(labels map[string]string) service.Task {
	return service.Task{
		ID:          labels[taskID],
		Name:        labels["com.docker.swarm.task.name"],
		ServiceID:   labels["com.docker.swarm.service.id"],
		ServiceName: labels["com.docker.swarm.service.name"],
	}
}

func health(h *container.Health) (service.Health, string) {
	if h == nil || h.Status == container.NoHealthcheck {
		return service.NoHealth, ""
	}
	var last string
	if n := len(h.Log); n > 0 && h.Log[n-1] != nil {
		last = lastLine(h.Log[n-1].Output)
	}
	return service.Health(h.Status), last
}

// lastLine is the last line with something on it.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

func networks(settings *container.NetworkSettings, ingress map[string]bool) []service.Network {
	var list []service.Network
	for _, name := range slices.Sorted(maps.Keys(settings.Networks)) {
		n := settings.Networks[name]
		if n == nil {
			continue
		}
		list = append(list, service.Network{
			Name:            name,
			ID:              n.NetworkID,
			IPv4:            parseAddr(n.IPAddress),
			IPv6:            parseAddr(n.GlobalIPv6Address),
			GatewayPriority: n.GwPriority,
			Ingress:         ingress[n.NetworkID] || name == "ingress",
		})
	}
	return list
}

// ports lists every port that is exposed or published. A published port that the engine has not
// bound yet has a binding with port 0.
func ports(doc container.InspectResponse) []service.Port {
	bindings := map[nat.Port][]service.Binding{}
	for p := range doc.Config.ExposedPorts {
		bindings[p] = nil
	}
	for p, bound := range doc.NetworkSettings.Ports {
		bindings[p] = bind(bound)
	}
	if publishes(doc.HostConfig.NetworkMode) && doc.State.Running {
		for p, asked := range doc.HostConfig.PortBindings {
			if len(bindings[p]) == 0 && len(asked) > 0 {
				bindings[p] = []service.Binding{{IP: netip.IPv4Unspecified()}}
			}
		}
		for p := range doc.Config.ExposedPorts {
			if len(bindings[p]) == 0 && doc.HostConfig.PublishAllPorts {
				bindings[p] = []service.Binding{{IP: netip.IPv4Unspecified()}}
			}
		}
	}
	list := make([]service.Port, 0, len(bindings))
	for p, b := range bindings {
		number, err := strconv.ParseUint(p.Port(), 10, 16)
		if err != nil || number == 0 {
			continue // the engine refuses such ports before we could see one
		}
		list = append(list, service.Port{Number: uint16(number), Protocol: p.Proto(), Bindings: b})
	}
	slices.SortFunc(list, func(a, b service.Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	return list
}

func bind(bound []nat.PortBinding) []service.Binding {
	var list []service.Binding
	for _, b := range bound {
		port, err := strconv.ParseUint(b.HostPort, 10, 16)
		if err != nil {
			port = 0 // not bound yet
		}
		ip := parseAddr(b.HostIP)
		if !ip.IsValid() {
			ip = netip.IPv4Unspecified() // the engine writes "" for every address
		}
		list = append(list, service.Binding{IP: ip, Port: uint16(port)})
	}
	return list
}

// publishes reports whether the engine publishes ports in a network mode at all.
func publishes(m container.NetworkMode) bool {
	return !m.IsHost() && !m.IsNone() && !m.IsContainer()
}

// unbound reports whether a running container waits for a host port.
func unbound(c service.Container) bool {
	if c.State != service.Running {
		return false
	}
	return slices.ContainsFunc(c.Ports, func(p service.Port) bool {
		return slices.ContainsFunc(p.Bindings, func(b service.Binding) bool { return b.Port == 0 })
	})
}

// stopSettings are the signal and the patience of `docker stop` for a container.
func stopSettings(config *container.Config) (signal int, timeout time.Duration) {
	signal, ok := signalNumber(config.StopSignal)
	if !ok {
		signal = signals["TERM"]
	}
	timeout = defaultStopTimeout
	if t := config.StopTimeout; t != nil {
		timeout = time.Duration(*t) * time.Second // negative for ever, where a margin is no help
		if *t < 0 {
			timeout = 24 * time.Hour
		}
	}
	return signal, timeout
}

// maybeID reports whether an image may be named by nothing but its id, or the start of it. A name
// such as "cafe" may be either; then the image's tags tell.
func maybeID(image string) bool {
	return strings.Trim(strings.TrimPrefix(image, "sha256:"), "0123456789abcdef") == ""
}

func parseAddr(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{} // the engine writes "" for no address
	}
	return addr.Unmap()
}

// parseTime is zero for what is no time, as the engine writes for a container never started.
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
