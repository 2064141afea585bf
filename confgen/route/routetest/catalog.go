// Package routetest reads catalogs written as text, one instance a line, for tests of everything
// that works on a snapshot:
//
//	web n1 10.0.0.1:8080 passing 7 fairway-host=cluster.test
//	db  n2 [fd00::2]:80  critical 9 id=n2:db:80 weight=3 tag=fairway.host=db.test
//
// The columns are service, node, address and port, status and create index. What follows is
// meta, except id=, weight=, tag= and fairway-container=. A word may be quoted like a Go string, as in
// "fairway-host=a b". Lines that start with # are comments. A line "override web/weight 50" is a
// value that an operator set live.
package routetest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route"
)

// Snapshot reads a catalog, or fails the test naming the line.
func Snapshot(t testing.TB, text string) route.Snapshot {
	t.Helper()
	services := make(map[string][]route.Instance)
	var s route.Snapshot
	for n, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if words, err := split(line); err == nil && words[0] == "override" && len(words) == 3 {
			s.Overrides = append(s.Overrides, route.Override{Path: words[1], Value: words[2]})
			continue
		}
		name, in, err := instance(line)
		if err != nil {
			t.Fatalf("catalog line %d: %v: %s", n+1, err, line)
		}
		services[name] = append(services[name], in)
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s.Services = append(s.Services, route.Service{Name: name, Instances: services[name]})
	}
	return s
}

func instance(line string) (string, route.Instance, error) {
	words, err := split(line)
	if err != nil {
		return "", route.Instance{}, err
	}
	if len(words) < 5 {
		return "", route.Instance{}, fmt.Errorf("%d columns, want at least 5", len(words))
	}
	host, port, err := net.SplitHostPort(words[2])
	if err != nil {
		return "", route.Instance{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return "", route.Instance{}, err
	}
	created, err := strconv.ParseUint(words[4], 10, 64)
	if err != nil {
		return "", route.Instance{}, err
	}
	in := route.Instance{
		Node: words[1], ID: words[1] + ":" + words[0] + ":" + port, Address: host, Port: number,
		Status: route.Status(words[3]), Created: created, Meta: map[string]string{},
	}
	for _, word := range words[5:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "id":
			in.ID = value
		case route.Owner:
			in.Owner = value
		case "tag":
			in.Tags = append(in.Tags, value)
		case "weight":
			if in.Weight, err = strconv.Atoi(value); err != nil {
				return "", route.Instance{}, err
			}
		default:
			in.Meta[key] = value
		}
	}
	return words[0], in, nil
}

func split(line string) ([]string, error) {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), line[len(quoted):]
	}
	return words, nil
}

// Settings reads settings, one a line: "prefix edge", "entrypoint web 80", "entrypoint
// websecure 443 tls", "no-last-resort", "proxy nginx", "tcp-ports 5000-5010", "store", "certificate NAME HOST,HOST
// [DAYS]", "authority NAME", "default-certificate NAME".
func Settings(t testing.TB, text string) route.Settings {
	t.Helper()
	var s route.Settings
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "prefix" && len(words) == 2:
			s.Prefix = words[1]
		case words[0] == "proxy" && len(words) == 2:
			s.Proxy = route.Proxy(words[1])
		case storeSetting(t, &s, words):
		case words[0] == "instance" && len(words) == 2:
			s.Instance = words[1]
		case words[0] == "user-lists":
			s.UserLists = words[1:]
		case words[0] == "error-pages":
			s.PageSets = words[1:]
		case words[0] == "allow-snippets":
			s.Snippets = words[1:]
		case words[0] == "tcp-ports":
			var r route.PortRange
			if _, err := fmt.Sscanf(words[1], "%d-%d", &r.From, &r.To); err != nil {
				t.Fatal(err)
			}
			s.TCPPorts = append(s.TCPPorts, r)
		case words[0] == "no-last-resort":
			s.NoLastResort = true
		case words[0] == "entrypoint" && len(words) >= 3:
			port, err := strconv.Atoi(words[2])
			if err != nil {
				t.Fatal(err)
			}
			s.Entrypoints = append(s.Entrypoints, route.Entrypoint{Name: words[1], Port: port, TLS: slices.Contains(words, "tls")})
		default:
			t.Fatalf("settings: what is %q?", line)
		}
	}
	return s
}

// storeSetting reads what stands in a certificate store.
func storeSetting(t testing.TB, s *route.Settings, words []string) bool {
	t.Helper()
	switch words[0] {
	case "store", "certificate", "authority", "default-certificate":
	default:
		return false
	}
	if s.Certificates == nil {
		s.Certificates = &route.Certificates{}
	}
	switch {
	case words[0] == "authority":
		s.Certificates.Authorities = append(s.Certificates.Authorities, words[1])
	case words[0] == "default-certificate":
		s.Certificates.Default = words[1]
	case words[0] == "certificate":
		c := route.Certificate{Name: words[1], Hosts: strings.Split(words[2], ",")}
		if len(words) > 3 {
			days, err := strconv.Atoi(words[3])
			if err != nil {
				t.Fatal(err)
			}
			c.NotAfter = time.Unix(0, 0).AddDate(0, 0, days)
		}
		s.Certificates.List = append(s.Certificates.List, c)
	}
	return true
}

// Print writes a table so that a person can compare it.
func Print(t route.Table) string {
	var out strings.Builder
	for _, r := range t.Routes {
		fmt.Fprintf(&out, "%s  %s -> %s", strings.Join(r.Entrypoints, ","), r.Pattern(), r.Backend)
		if r.Priority != 0 {
			fmt.Fprintf(&out, " priority %d", r.Priority)
		}
		fmt.Fprintln(&out)
	}
	for _, b := range t.Backends {
		fmt.Fprintf(&out, "%s (%s)\n", b.Name, b.Service)
		for _, v := range b.Pool {
			fmt.Fprintf(&out, "  %s gets %d %%\n", strings.TrimSpace(v.Service+" "+v.Route), v.Percent)
		}
		if b.Options != nil {
			text, err := json.Marshal(b.Options)
			if err != nil {
				text = []byte(err.Error())
			}
			fmt.Fprintf(&out, "  %s\n", strings.NewReplacer(`\u003e`, ">", `\u0026`, "&").Replace(string(text)))
		}
		for _, s := range b.Servers {
			fmt.Fprintf(&out, "  %s id %d %s weight %d %s\n", s.Name, s.ID, net.JoinHostPort(s.Address, strconv.Itoa(s.Port)), s.Weight, limits(s))
		}
	}
	for _, s := range t.Streams {
		if s.Entrypoint == "" {
			fmt.Fprintf(&out, "stream port %d -> %s\n", s.Port, s.Backend)
		} else {
			fmt.Fprintf(&out, "stream %s for %s -> %s\n", s.Entrypoint, s.Host, s.Backend)
		}
	}
	for _, f := range t.Foreign {
		fmt.Fprintf(&out, "foreign %s  %s of %s: %s\n", strings.Join(f.Entrypoints, ","), f.Pattern(), strings.TrimSpace(f.Service+" "+f.Name), f.Reason)
	}
	for _, h := range t.Handshakes {
		fmt.Fprintf(&out, "tls %s with %s", h.Pattern, h.Certificate)
		if h.Authority != "" {
			fmt.Fprintf(&out, ", clients of %s", h.Authority)
		}
		if h.Optional {
			fmt.Fprint(&out, " if they want")
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

func limits(s route.Server) string {
	text := string(s.State)
	if s.Limits.MaxConn > 0 {
		text += fmt.Sprintf(" maxconn %d", s.Limits.MaxConn)
	}
	if s.Limits.Backup {
		text += " backup"
	}
	if s.Limits.SlowStart > 0 {
		text += " slowstart " + s.Limits.SlowStart.String()
	}
	return text
}

// PrintProblems writes the problems of a table, one a line.
func PrintProblems(t route.Table) string {
	var out strings.Builder
	for _, p := range t.Problems {
		fmt.Fprintf(&out, "%s %s: %s: %s\n", p.Service, cmp.Or(p.Instance, "(all)"), p.Key, p.Reason)
	}
	return out.String()
}

// Large makes a catalog of many services, each with a host of its own.
func Large(services, instances int) route.Snapshot {
	s := route.Snapshot{Services: make([]route.Service, services)}
	for i := range s.Services {
		name := fmt.Sprintf("service-%05d", i)
		s.Services[i] = route.Service{Name: name, Instances: make([]route.Instance, instances)}
		for j := range s.Services[i].Instances {
			node, port := fmt.Sprintf("node-%03d", (i+j)%200), 20000+i
			s.Services[i].Instances[j] = route.Instance{
				Node: node, ID: fmt.Sprintf("%s:%s.%d:80", node, name, j), Port: port,
				Address: fmt.Sprintf("10.1.%d.%d", j, (i+j)%200), Status: route.Passing, Created: uint64(i*instances + j), Weight: 1,
				Meta:  map[string]string{"fairway-host": name + ".example.test", "version": "1.2.3"},
				Owner: fmt.Sprintf("%06x%06x:80/tcp", i, j),
			}
		}
	}
	return s
}
