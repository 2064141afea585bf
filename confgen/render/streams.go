package render

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"fairway/confgen/route"
)

// NamedStreams are the streams of an entrypoint that are told by the name in TLS.
func (d *data) NamedStreams(entrypoint string) []route.Stream {
	var list []route.Stream
	for _, s := range d.Streams {
		if s.Entrypoint == entrypoint {
			list = append(list, s)
		}
	}
	return list
}

// PortStreams are those with a port of their own.
func (d *data) PortStreams() []route.Stream {
	var list []route.Stream
	for _, s := range d.Streams {
		if s.Entrypoint == "" {
			list = append(list, s)
		}
	}
	return list
}

// NamedBackends are the backends of NamedStreams of any entrypoint, each once.
func (d *data) NamedBackends() []string {
	var list []string
	for _, s := range d.Streams {
		if s.Entrypoint != "" {
			list = append(list, s.Backend)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// SNIMap holds where TLS goes that is passed through: "websecure/db.test", and "websecure/*.db.test"
// for one label or more in front. A host below such a wildcard that is served here is named too,
// since it is the more precise.
func (d *data) SNIMap() []Entry {
	var list []Entry
	for _, e := range d.Entrypoints {
		named := d.NamedStreams(e.Name)
		for _, s := range named {
			list = append(list, Entry{e.Name + "/" + s.Host, s.Backend})
		}
		for _, host := range d.servedBelow(e.Name, named) {
			list = append(list, Entry{e.Name + "/" + host, toHere(e.Name)})
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) })
	return list
}

// toHere is the backend that leads from an entrypoint whose names are looked at to the frontend that
// ends TLS. It is not named like that frontend, since HAProxy 3.2 warns of two proxies of one name.
func toHere(entrypoint string) string { return "_" + entrypoint + "-to-here" }

// servedBelow are the hosts of an entrypoint's routes that a wildcard among streams would take.
func (d *data) servedBelow(entrypoint string, streams []route.Stream) []string {
	seen := make(map[string]bool)
	for _, s := range streams {
		seen[s.Host] = true
	}
	var hosts []string
	for _, r := range d.Routes {
		if r.HostKind != route.HostExact && r.HostKind != route.HostWildcard || !slices.Contains(r.Entrypoints, entrypoint) {
			continue
		}
		host := r.Host
		if r.HostKind == route.HostWildcard {
			host = "*." + host
		}
		below := slices.ContainsFunc(streams, func(s route.Stream) bool {
			suffix, wild := strings.CutPrefix(s.Host, "*")
			return wild && strings.HasSuffix(r.Host, suffix)
		})
		if below && !seen[host] {
			seen[host] = true
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// SNILabels are how many labels the wildcards among an entrypoint's named streams have, the most
// first.
func (d *data) SNILabels(entrypoint string) []int {
	labels := []int{1, 2, 3, commonLabels}
	for _, e := range d.SNIMap() {
		if host, ok := strings.CutPrefix(e.Key, entrypoint+"/*."); ok {
			labels = append(labels, strings.Count(host, ".")+1)
		}
	}
	slices.Sort(labels)
	labels = slices.Compact(labels)
	slices.Reverse(labels)
	return labels
}

// HereSocket is where an entrypoint ends TLS itself, behind the one that looks at names.
func (d *data) HereSocket(entrypoint string) string {
	return hereSocket(&d.Settings, entrypoint)
}

func hereSocket(s *Settings, entrypoint string) string {
	dir := s.RunDir
	if s.StatsSocket != "" && dir == "" {
		dir = path.Dir(s.StatsSocket)
	}
	return path.Join(dir, "_"+entrypoint+".sock")
}

// StreamSocket is where nginx hands on what is for one backend, whose name may be too long for
// that of a socket.
func (d *data) StreamSocket(backend string) string {
	return path.Join(d.Settings.RunDir, fmt.Sprintf("_s-%08x.sock", fnv(backend)))
}

// fnv is FNV-1a.
func fnv(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// here is the socket of an entrypoint whose names are looked at first.
func (t tree) here() string {
	if len(t.data.NamedStreams(t.entrypoint.Name)) == 0 {
		return ""
	}
	return t.data.HereSocket(t.entrypoint.Name)
}

// SNIHosts is SNIMap for nginx and one entrypoint: hosts, and the sockets that their TLS goes to.
func (d *data) SNIHosts(entrypoint string) []Entry {
	var list []Entry
	for _, e := range d.SNIMap() {
		host, mine := strings.CutPrefix(e.Key, entrypoint+"/")
		switch {
		case !mine:
		case e.Backend == toHere(entrypoint):
			list = append(list, Entry{host, d.HereSocket(entrypoint)})
		default:
			list = append(list, Entry{host, d.StreamSocket(e.Backend)})
		}
	}
	return list
}

// OptionsOf returns what the labels of a backend ask for.
func (d *data) OptionsOf(backend string) *route.Options { return d.options[backend] }

// IsLive reports whether a backend has a server that takes requests.
func (d *data) IsLive(backend string) bool { return d.live[backend] }

// StreamBackends are the backends that streams lead to.
func (d *data) StreamBackends() []route.Backend {
	var list []route.Backend
	for _, b := range d.Backends {
		if b.Options != nil && b.Options.Stream {
			list = append(list, b)
		}
	}
	return list
}
