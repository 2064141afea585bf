package service

import (
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the wanted part of testdata/*.txtar")

// TestDesired runs every case of testdata. A file says in its comment what it proves; its section
// "given" holds the operator's flags and the containers in the words of their command lines, and
// "want" the rows, what is kept or waits, the problems, and why a port is not registered.
//
// Unless a case says otherwise: node "hostname", -ip 192.168.1.102, container redis.0 of image
// progrium/redis, bridge address 172.17.0.2, 6379/tcp published on 0.0.0.0:10000.
func TestDesired(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) != 2 || archive.Files[0].Name != "given" || archive.Files[1].Name != "want" {
				t.Fatalf("%s must have the sections given and want", file)
			}
			opt, containers := parseGiven(t, string(archive.Files[0].Data))
			got := show(Desired(containers, opt))
			slices.Reverse(containers)
			if again := show(Desired(containers, opt)); again != got {
				t.Errorf("another order of the containers gives another plan:\n%s", cmp.Diff(got, again))
			}
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// show writes a plan the way the cases do.
func show(p Plan) string {
	var b strings.Builder
	for _, r := range p.Registrations {
		fmt.Fprintf(&b, "%s\n  %s %s %s %q\n", r.ID, r.Name, netip.AddrPortFrom(netip.MustParseAddr(r.Address), uint16(r.Port)), r.Status, r.Output)
		if len(r.Tags) > 0 {
			fmt.Fprintf(&b, "  tags %q\n", r.Tags)
		}
		for _, key := range slices.Sorted(maps.Keys(r.Meta)) {
			fmt.Fprintf(&b, "  meta %s=%q\n", key, r.Meta[key])
		}
		for _, key := range slices.Sorted(maps.Keys(r.Addresses)) {
			fmt.Fprintf(&b, "  address %s %s\n", key, netip.AddrPortFrom(r.Addresses[key].IP, uint16(r.Addresses[key].Port)))
		}
		for _, k := range r.Checks {
			way := k
			way.Kind, way.Target, way.Status, way.Output, way.Container = "", "", "", "", ""
			fmt.Fprintf(&b, "  check %s %q %s %q", k.Kind, k.Target, k.Status, k.Output)
			for i, field := range []any{
				way.Method, way.Header, way.Command, way.UseTLS, way.SkipVerify, way.Interval, way.Timeout, way.DeregisterAfter,
				way.SuccessBeforePassing, way.FailuresBeforeWarning, way.FailuresBeforeCritical, way.Suspended,
			} {
				name := []string{"method", "header", "command", "tls", "skip-verify", "interval", "timeout", "deregister-after", "successes", "warning-after", "critical-after", "suspended"}[i]
				if field != any("") && field != any(false) && field != any(time.Duration(0)) && field != any(1) {
					fmt.Fprintf(&b, " %s=%v", name, field)
				}
			}
			fmt.Fprintln(&b)
		}
		if r.Weight != 0 || r.EnableTagOverride {
			fmt.Fprintf(&b, "  weight %d, tag override %t\n", r.Weight, r.EnableTagOverride)
		}
	}
	for _, k := range p.Kept {
		fmt.Fprintf(&b, "kept %s %s %q\n", k.Container, k.Status, k.Output)
	}
	for _, w := range p.Waiting {
		fmt.Fprintf(&b, "waiting %s\n", w)
	}
	for _, p := range p.Problems {
		fmt.Fprintf(&b, "problem %s, %s: %s\n", p.Container, p.Label, p.Reason)
	}
	for _, d := range p.Decisions {
		for _, n := range d.Notes {
			if n.About == "not registered" {
				fmt.Fprintf(&b, "not registered %s: %s\n", strings.TrimSpace(d.Container+" "+d.Port), n.Text)
			}
		}
	}
	return b.String()
}

func parseGiven(t *testing.T, text string) (Options, []Container) {
	t.Helper()
	opt := Defaults()
	opt.Node = Node{Name: "hostname"}
	opt.IP = netip.MustParseAddr("192.168.1.102")
	var containers []Container
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		words := splitWords(t, line)
		switch words[0] {
		case "registrator":
			parseOptions(t, &opt, words[1:])
		case "run":
			containers = append(containers, parseRun(t, words[1:], len(containers)))
		case "service": // as the other nodes of the Swarm know it
			c := parseRun(t, append(words[1:], "-expose", "none"), len(containers))
			service := c.Task.Service
			service.ID, service.Name = c.ID[:6], c.Task.ServiceName
			containers = append(containers, Mesh([]SwarmService{*service}, true)...)
		default:
			t.Fatalf("a line begins with registrator, run or service: %s", line)
		}
	}
	return opt, containers
}

// splitWords splits a line at spaces; single quotes keep what is between them together, and $'…'
// reads Go's escapes.
func splitWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	var word strings.Builder
	for line != "" {
		escaped := strings.HasPrefix(line, "$'")
		switch {
		case escaped || line[0] == '\'':
			_, rest, _ := strings.Cut(line, "'")
			inside, after, ok := strings.Cut(rest, "'")
			if !ok {
				t.Fatalf("unclosed quote: %s", line)
			}
			if escaped {
				var err error
				if inside, err = strconv.Unquote(`"` + inside + `"`); err != nil {
					t.Fatal(err)
				}
			}
			word.WriteString(inside)
			line = after
		case line[0] == ' ':
			words = append(words, word.String())
			word.Reset()
			line = line[1:]
		default:
			word.WriteByte(line[0])
			line = line[1:]
		}
	}
	return append(words, word.String())
}

func parseOptions(t *testing.T, opt *Options, args []string) {
	t.Helper()
	flags := flag.NewFlagSet("registrator", flag.ContinueOnError)
	flags.TextVar(&opt.IP, "ip", opt.IP, "")
	flags.TextVar(&opt.Node.IPv4, "node4", netip.Addr{}, "")
	flags.TextVar(&opt.Node.IPv6, "node6", netip.Addr{}, "")
	flags.BoolVar(&opt.Internal, "internal", false, "")
	flags.BoolVar(&opt.Explicit, "explicit", false, "")
	flags.BoolVar(&opt.PublishLoopback, "publish-loopback", false, "")
	flags.BoolVar(&opt.MergeTags, "merge-tags", false, "")
	flags.StringVar(&opt.Network, "network", "", "")
	flags.StringVar(&opt.IPLabel, "useIpFromLabel", "", "")
	flags.StringVar(&opt.Prefix, "prefix", opt.Prefix, "")
	flags.StringVar(&opt.RoutingPrefix, "routing-prefix", opt.RoutingPrefix, "")
	flags.StringVar((*string)(&opt.Ingress), "ingress", string(opt.Ingress), "")
	flags.BoolVar(&opt.VIP, "vip", false, "")
	flags.StringVar((*string)(&opt.Deregister), "deregister", string(opt.Deregister), "")
	flags.Func("tags", "", func(s string) (err error) {
		opt.Tags, err = ParseTags(s)
		return err
	})
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		t.Fatal(err, flags.Args())
	}
}

func parseRun(t *testing.T, args []string, n int) Container {
	t.Helper()
	c := Container{
		Name: fmt.Sprintf("redis.%d", n), State: Running, NetworkMode: "default",
		ID:      strings.Repeat(fmt.Sprintf("%x", n%16), 64),
		Labels:  map[string]string{},
		Created: time.Unix(int64(1000+n), 0),
	}
	service := &SwarmService{Labels: map[string]string{}}
	c.Task.Service = service
	network := true
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&c.Name, "name", c.Name, "")
	flags.StringVar(&c.ID, "id", c.ID, "")
	flags.StringVar(&c.NetworkMode, "net", c.NetworkMode, "")
	flags.StringVar((*string)(&c.State), "state", string(c.State), "")
	flags.StringVar((*string)(&c.Health), "health", "", "")
	flags.StringVar(&c.HealthOutput, "said", "", "")
	flags.IntVar(&c.ExitCode, "exit", 0, "")
	flags.BoolVar(&c.AutoRemove, "rm", false, "")
	flags.BoolVar(&c.Stopping, "stopping", false, "")
	flags.StringVar(&c.Task.Name, "task", "", "")
	flags.StringVar(&c.Task.ServiceName, "service", "", "")
	flags.Func("e", "", func(s string) error { c.Env = append(c.Env, s); return nil })
	flags.Func("l", "", func(s string) error { return setLabel(c.Labels, s) })
	flags.Func("service-label", "", func(s string) error { return setLabel(service.Labels, s) })
	flags.Func("mesh", "", func(s string) error { service.Mesh = append(service.Mesh, parseMesh(t, s)); return nil })
	flags.Func("vip", "", func(s string) error {
		network, addr, _ := strings.Cut(s, "=")
		service.VIPs = append(service.VIPs, VIP{Network: network, Addr: netip.MustParseAddr(addr)})
		return nil
	})
	flags.Func("omitted", "", func(s string) error { service.Omitted = append(service.Omitted, s); return nil })
	flags.BoolVar(&service.Stopped, "stopped", false, "")
	flags.StringVar(&service.Guess, "guess", "", "")
	flags.BoolFunc("unknown-service", "", func(string) error {
		c.Task.ServiceID, c.Task.Service = "k2x", nil
		return nil
	})
	flags.Func("tag", "", func(s string) error { c.RepoTags = append(c.RepoTags, s); return nil })
	flags.Func("expose", "", func(s string) error { addPort(t, &c, s, Binding{}); return nil })
	flags.Func("p", "", func(s string) error { publish(t, &c, s); return nil })
	flags.Func("created", "", func(s string) error {
		seconds, err := strconv.Atoi(s)
		c.Created = time.Unix(int64(seconds), 0)
		return err
	})
	flags.Func("network", "", func(s string) error {
		network = false
		c.Networks = append(c.Networks, parseNetwork(t, s))
		return nil
	})
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c.Image = "progrium/redis"
	if flags.NArg() > 0 {
		c.Image = flags.Arg(0)
	}
	if c.Ports == nil {
		publish(t, &c, "10000:6379")
	}
	if c.Ports[0].Number == 0 {
		c.Ports = nil // "-expose none"
	}
	if network && c.NetworkMode == "default" {
		c.Networks = []Network{{Name: "bridge", ID: "b01", IPv4: netip.MustParseAddr("172.17.0.2")}}
	}
	c.Inspect = map[string]any{"Name": "/" + c.Name, "Config": map[string]any{"Labels": c.Labels, "Env": c.Env}}
	return c
}

// parseMesh reads "published port:port[/protocol]".
func parseMesh(t *testing.T, s string) Publication {
	t.Helper()
	var c Container
	publish(t, &c, s)
	return Publication{Target: c.Ports[0].Number, Published: c.Ports[0].Bindings[0].Port, Protocol: c.Ports[0].Protocol}
}

func setLabel(labels map[string]string, s string) error {
	key, value, _ := strings.Cut(s, "=")
	labels[key] = value
	return nil
}

// publish reads "[address:]host port:container port[/protocol]"; host port 0 is not bound yet.
func publish(t *testing.T, c *Container, s string) {
	t.Helper()
	ip := netip.IPv4Unspecified()
	host, container, _ := strings.Cut(s, ":")
	if i := strings.LastIndexByte(s, ':'); strings.Count(s, ":") > 1 {
		host, container = s[:i], s[i+1:]
		addr, err := netip.ParseAddrPort(host)
		if err != nil {
			t.Fatal(err)
		}
		ip, host = addr.Addr(), strconv.Itoa(int(addr.Port()))
	}
	port, err := strconv.ParseUint(host, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	addPort(t, c, container, Binding{IP: ip, Port: uint16(port)})
}

func addPort(t *testing.T, c *Container, s string, b Binding) {
	t.Helper()
	number, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	if number == "none" {
		number = "0"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.Ports, func(p Port) bool { return p.Number == uint16(n) && p.Protocol == protocol })
	if i < 0 {
		c.Ports = append(c.Ports, Port{Number: uint16(n), Protocol: protocol})
		i = len(c.Ports) - 1
	}
	if b.IP.IsValid() {
		c.Ports[i].Bindings = append(c.Ports[i].Bindings, b)
	}
}

// parseNetwork reads "name[=address[,address]][,prio=n][,id=x][,ingress]".
func parseNetwork(t *testing.T, s string) Network {
	t.Helper()
	name, rest, _ := strings.Cut(s, "=")
	n := Network{Name: name}
	for word := range strings.SplitSeq(rest, ",") {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "":
		case "prio":
			priority, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			n.GatewayPriority = priority
		case "id":
			n.ID = value
		case "ingress":
			n.Ingress = true
		default:
			addr := netip.MustParseAddr(key)
			if addr.Is4() {
				n.IPv4 = addr
			} else {
				n.IPv6 = addr
			}
		}
	}
	return n
}
