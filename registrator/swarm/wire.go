package swarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fairway/registrator/service"
)

// Consul takes 512 KB in a value. What stands in one of ours stays far below: this much of labels,
// and the ports, of which one takes 20 bytes.
const (
	maxLabel   = 16 << 10
	maxLabels  = 256 << 10
	maxPorts   = 8000
	maxOmitted = 50
	maxName    = 128
)

// record is the value of a service's key. Readers ignore fields that they do not know, and a writer
// compares what it knows only: registrators of two versions do not write against each other. So a
// field's meaning never changes; what means something else has another name.
type record struct {
	Swarm   string                `json:"swarm"` // the id of the Swarm: its managers remove the key
	Name    string                `json:"name"`
	Stopped bool                  `json:"stopped,omitempty"`
	Ports   []string              `json:"ports,omitempty"` // of the routing mesh: "8080:80/tcp"
	VIPs    map[string]netip.Addr `json:"vips,omitempty"`  // by the network's id
	Labels  map[string]string     `json:"labels,omitempty"`
	Omitted []string              `json:"omitted,omitempty"`
}

// recordOf is what is shared of a service. It is bounded: labels that are too long, and in the order
// of their names those beyond what a value holds, are named and left out. Labels that `docker stack`
// writes for itself decide nothing.
func recordOf(swarm string, s service.SwarmService) record {
	r := record{Swarm: swarm, Name: s.Name, Stopped: s.Stopped, Omitted: slices.Clone(s.Omitted)}
	left := maxLabels
	for _, label := range slices.Sorted(maps.Keys(s.Labels)) {
		if strings.HasPrefix(label, "com.docker.stack.") {
			continue
		}
		value := s.Labels[label]
		size := len(encode(map[string]string{label: value}))
		if size > maxLabel || size > left {
			r.omit(label)
			continue
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[label] = value
		left -= size
	}
	for i, m := range s.Mesh {
		if i == maxPorts {
			r.omit(fmt.Sprintf("published ports beyond %d", maxPorts))
			break
		}
		r.Ports = append(r.Ports, fmt.Sprintf("%d:%d/%s", m.Published, m.Target, m.Protocol))
	}
	for _, v := range s.VIPs {
		if r.VIPs == nil {
			r.VIPs = map[string]netip.Addr{}
		}
		r.VIPs[v.Network] = v.Addr
	}
	return r
}

func (r *record) omit(what string) {
	if len(r.Omitted) < maxOmitted {
		r.Omitted = append(r.Omitted, strings.ToValidUTF8(what[:min(len(what), maxName)], ""))
	}
}

// service is what a record says of a service.
func (r record) service(id string) (service.SwarmService, error) {
	s := service.SwarmService{ID: id, Name: r.Name, Stopped: r.Stopped, Labels: r.Labels, Omitted: r.Omitted}
	for _, text := range r.Ports {
		m, ok := parsePort(text)
		if !ok {
			return s, fmt.Errorf("port %q is not published:target/protocol", text)
		}
		s.Mesh = append(s.Mesh, m)
	}
	for _, network := range slices.Sorted(maps.Keys(r.VIPs)) {
		s.VIPs = append(s.VIPs, service.VIP{Network: network, Addr: r.VIPs[network]})
	}
	return s, nil
}

func parsePort(text string) (service.Publication, bool) {
	published, rest, _ := strings.Cut(text, ":")
	target, protocol, _ := strings.Cut(rest, "/")
	from, err1 := strconv.ParseUint(published, 10, 16)
	to, err2 := strconv.ParseUint(target, 10, 16)
	ok := err1 == nil && err2 == nil && from > 0 && to > 0 && protocol != ""
	return service.Publication{Published: uint16(from), Target: uint16(to), Protocol: protocol}, ok
}

// decode reads a key's value.
func decode(value []byte) (record, error) {
	var r record
	err := json.Unmarshal(value, &r)
	return r, err
}

// encode writes what can always be written, the same bytes for the same, readable for people: labels
// are full of <, > and &.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings, numbers and addresses have a form in JSON, and a buffer takes all
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
