//go:build real || soak

package soak

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// row is one service as the catalog must hold it, in plain words: what stands here was worked out
// from docker inspect, by rules written down a second time and knowing nothing of registrator's
// code. Only what this soak's containers use is covered; anything else is an error.
type row struct {
	name    string
	address string // host:port
	tags    string
	meta    string
	status  string // "passing: running"; a prefix of what stands in the catalog
	http    string // status of the active check, "" for none, "any" while nothing is asked
}

// document is the part of docker inspect that decides.
type document struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Status string
		Health *struct{ Status string }
	}
	Config struct {
		Image        string
		Labels       map[string]string
		ExposedPorts map[string]any
	}
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct {
		Ports    map[string][]struct{ HostIP, HostPort string }
		Networks map[string]struct{ IPAddress string }
	}
}

// expected works out the rows of every container for one node of the soak.
func expected(inspect string, node nodeOptions) (map[string]row, error) {
	var list []document
	if err := json.Unmarshal([]byte(inspect), &list); err != nil {
		return nil, fmt.Errorf("read docker inspect: %w", err)
	}
	rows := map[string]row{}
	for _, d := range list {
		ports, err := reached(d, node)
		if err != nil {
			return nil, err
		}
		for port, address := range ports {
			number, protocol, _ := strings.Cut(port, "/")
			id := node.name + ":" + d.Name[1:] + ":" + number
			r := row{name: d.Config.Image, address: address, status: health(d), tags: "[]"}
			if name := d.Config.Labels["SERVICE_NAME"]; name != "" {
				r.name = name
			}
			if len(ports) > 1 {
				r.name += "-" + number
			}
			tags := strings.FieldsFunc(d.Config.Labels["SERVICE_TAGS"], func(r rune) bool { return r == ',' })
			if protocol != "tcp" {
				id += ":" + protocol
				tags = append(tags, protocol)
			}
			r.tags = fmt.Sprint(tags)
			meta := map[string]string{"fairway-container": d.ID[:12] + ":" + port}
			for label, key := range map[string]string{"SERVICE_REGION": "region", "fairway.host": "fairway-host"} {
				if v := d.Config.Labels[label]; v != "" {
					meta[key] = v
				}
			}
			r.meta = fmt.Sprint(meta) // fmt sorts keys
			if path := d.Config.Labels["SERVICE_CHECK_HTTP"]; path != "" {
				r.http = "any"
				if d.State.Status == "running" {
					r.http = asked("http://" + address + path)
				}
			}
			rows[id] = r
		}
	}
	return rows, nil
}

// reached says where each port of a container is reached from elsewhere: "8080/tcp" → "host:port".
func reached(d document, node nodeOptions) (map[string]string, error) {
	at := map[string]string{}
	if d.State.Status != "running" && d.State.Status != "paused" || d.Config.Labels["SERVICE_IGNORE"] == "true" {
		return at, nil
	}
	exposed := func(host string) {
		for port := range d.Config.ExposedPorts {
			number, _, _ := strings.Cut(port, "/")
			at[port] = host + ":" + number
		}
	}
	switch {
	case d.HostConfig.NetworkMode == "none":
	case d.HostConfig.NetworkMode == "host":
		exposed(node.address)
	case node.internal:
		if ip := ownAddress(d); ip != "" {
			exposed(ip)
		}
	default:
		for port, bound := range d.NetworkSettings.Ports {
			for _, b := range bound {
				if strings.Contains(b.HostIP, ":") && len(bound) > 1 {
					continue // the engine may pick another random port for IPv6, which this node has no address for
				}
				address := node.address + ":" + b.HostPort
				if at[port] != "" && at[port] != address {
					return nil, fmt.Errorf("container %s has port %s twice, which the soak knows nothing of", d.Name, port)
				}
				at[port] = address
			}
		}
	}
	return at, nil
}

// ownAddress is that on the network called blue where there is one, else on the first by name.
func ownAddress(d document) string {
	if ip := d.NetworkSettings.Networks["blue"].IPAddress; ip != "" {
		return ip
	}
	var names []string
	for name, n := range d.NetworkSettings.Networks {
		if _, err := netip.ParseAddr(n.IPAddress); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return d.NetworkSettings.Networks[slices.Min(names)].IPAddress
}

// health is the beginning of the container's own check, as "status: output".
func health(d document) string {
	switch {
	case d.State.Status == "paused":
		return "critical: paused"
	case d.State.Health == nil:
		return "passing: running"
	case d.State.Health.Status == "healthy":
		return "passing: healthy"
	}
	return "critical: " + d.State.Health.Status
}

// asked is what an HTTP check must say: the checker asks for itself.
func asked(url string) string {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url) //nolint:noctx // has a timeout
	if err != nil {
		return "critical"
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return "passing"
	}
	return "critical"
}
