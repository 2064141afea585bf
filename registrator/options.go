package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/registrator/docker"
	"fairway/registrator/liveness"
	"fairway/registrator/service"
	"fairway/registrator/service/dialect"
)

// Options are all that the program needs to know.
type Options struct {
	Service service.Options // without its node, which the engine tells
	Docker  docker.Options
	Consul  consul.Config
	Mode    mode

	NodeName string // Consul node name; the engine's host name when empty
	IP       string // address, interface, CIDR or go-sockaddr template; found out when empty

	Resync     time.Duration
	SessionTTL time.Duration
	ReapAfter  time.Duration
	StopLinger time.Duration // for which it goes on after it was asked to end, and longer while containers end with it
	StopGrace  time.Duration // how long the node is left alone after a clean end; 0 for no longer than after any other
	Once       bool
	DryRun     bool
	Deregister bool // our rows, when the program is asked to end

	Adopt      bool   // take over what gliderlabs/registrator left for this host
	AdoptAgent string // the agent that has it; the one at the Consul address when empty
}

// inspectAge is how many resyncs a container may pass on what events and listings say alone,
// before it is inspected again without a hint.
const inspectAge = 10

func flags() []cli.Flag {
	const what, where, when, old = "What is registered:", "Where it runs:", "How long:", "Accepted and not needed:"
	env := func(name string) []string { return []string{daemon.Variable("registrator", name)} }
	text := func(category, name, value, usage string, aliases ...string) cli.Flag {
		return &cli.StringFlag{Name: name, Aliases: aliases, EnvVars: env(name), Value: value, Usage: usage, Category: category}
	}
	yes := func(category, name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, EnvVars: env(name), Usage: usage, Category: category}
	}
	list := []cli.Flag{
		text(what, "ip", "", "`ADDRESS` that published ports are reached at: an IP address, an interface's name, a CIDR that holds it, or a go-sockaddr template; default: Swarm's node address, else that of the route to Consul"),
		yes(what, "internal", "register containers' own addresses and ports instead of published ones"),
		text(what, "network", "", "`NETWORK` to take containers' own addresses from where they have one there"),
		text(what, "ingress", string(service.ByTask), "which `NODES` are instances of a Swarm service at the ports that the routing mesh publishes: task for those that run a task, all for every node of the Swarm"),
		yes(what, "vip", "where containers' own addresses are registered: a Swarm service's virtual address, once for each node that runs a task, instead of each task's"),
		yes(what, "explicit", "register only what was given a name"),
		text(what, "tags", "", "comma `LIST` of tags for every service; Go templates over the inspect document"),
		yes(what, "merge-tags", "add generic and port-specific SERVICE_TAGS up; else the specific replace the generic"),
		text(what, "use-ip-from-label", "", "`LABEL` that holds a container's own address", "useIpFromLabel"),
		yes(what, "publish-loopback", "register ports that are bound to a loopback address"),
		text(what, "prefix", "SERVICE_", "`PREFIX` of metadata in environment and labels"),
		text(what, "routing-prefix", "fairway", "`PREFIX` of routing labels, without the dot"),
		text(what, "dialects", strings.Join(dialect.Names(), ","), "comma `LIST` of other front ends whose labels and variables are read as routing labels; the first in which a container asks for a route counts; none for none"),
		text(what, "deregister", string(service.Always), "`WHEN` an ended container's services go: always, or on-success to keep those of one that failed as critical"),

		text(where, "docker-host", docker.DefaultHost, "`ADDRESS` of the Docker Engine"),
		text(where, "docker-cert-path", "", "`FOLDER` of ca.pem, cert.pem and key.pem for a Docker Engine behind TLS, which is always verified"),
		text(where, "docker-tls-verify", "", "any `VALUE`: the Docker Engine speaks TLS; certificates are in ~/.docker unless --docker-cert-path says otherwise"),
		text(where, "node-name", "", "`NAME` of the Consul node; default: the Docker Engine's host name"),
		text(where, "mode", "auto", "`MODE`: catalog writes to the catalog directly, as one Consul node for each Docker node; agent registers with this node's own Consul agent; auto is agent where one with this node's name or address answers, else catalog"),
		yes(where, "adopt", "take over the rows that gliderlabs/registrator left for this host, and remove those of containers that are gone"),
		text(where, "adopt-agent", "", "`ADDRESS` of the Consul agent that gliderlabs/registrator registered with; default: --consul-addr"),
		yes(where, "once", "make one pass and end"),
		yes(where, "dry-run", "print what one pass would change, write nothing and end"),
		text(where, "on-exit", "keep", "`WHAT` becomes of our services at a clean end: keep or deregister"),

		text(when, "resync", "1m", "`DURATION` after which all is compared anew even when nothing happened; a plain number is seconds"),
		text(when, "session-ttl", "15s", "`DURATION` of the node's Consul session; its services are taken out after twice this time without a sign of life (at least 10s)"),
		text(when, "reap-after", "24h", "`DURATION` after which a silent node is removed from the catalog; 0 for never"),
		text(when, "stop-linger", "2s", "`DURATION` for which registrator goes on after SIGTERM, and at most 5s more while containers of the node are stopping, so that those that stop with it, as when a node is drained, are out of the front ends; 0: not at all"),
		text(when, "stop-grace", "10m", "`DURATION` after a clean end during which the node's services stay in; 0: a stopped registrator counts as a dead node"),

		yes(old, "cleanup", "always on"),
		text(old, "ttl", "", "`SECONDS`"),
		text(old, "ttl-refresh", "", "`SECONDS`"),
		text(old, "retry-attempts", "", "`COUNT`"),
		text(old, "retry-interval", "", "`MILLISECONDS`"),
	}
	for _, f := range list { // Docker's own names come first
		if s, ok := f.(*cli.StringFlag); ok && strings.HasPrefix(s.Name, "docker-") {
			s.EnvVars = []string{daemon.Variable(s.Name)}
		}
	}
	return append(append(list, consul.Flags()...), daemon.Flags("registrator", ":9101")...)
}

// optionsFrom reads the command line; every error names the flag and what it takes.
func optionsFrom(c *cli.Context) (Options, error) {
	o := Options{
		Service:  service.Defaults(),
		Consul:   consul.FromFlags(c),
		NodeName: c.String("node-name"),
		IP:       c.String("ip"),
		DryRun:   c.Bool("dry-run"),
		Once:     c.Bool("once") || c.Bool("dry-run"),

		Adopt: c.Bool("adopt"), AdoptAgent: c.String("adopt-agent"),
	}
	s := &o.Service
	s.Internal, s.Network, s.Explicit = c.Bool("internal"), c.String("network"), c.Bool("explicit")
	s.VIP = c.Bool("vip")
	s.MergeTags, s.PublishLoopback = c.Bool("merge-tags"), c.Bool("publish-loopback")
	s.IPLabel, s.Prefix, s.RoutingPrefix = c.String("use-ip-from-label"), c.String("prefix"), c.String("routing-prefix")
	var err error
	if s.Tags, err = service.ParseTags(c.String("tags")); err != nil {
		return o, daemon.Usagef("--tags: %w", err)
	}
	if s.Dialects, err = dialect.Parse(c.String("dialects")); err != nil {
		return o, daemon.Usagef("--dialects: %w", err)
	}
	if err := o.readChoices(c); err != nil {
		return o, err
	}
	if err := o.readDurations(c); err != nil {
		return o, err
	}
	if c.Command.Name != "explain" {
		switch c.NArg() {
		case 0:
		case 1:
			if err := readURI(c.Args().First(), &o.Consul); err != nil {
				return o, err
			}
		default:
			return o, daemon.Usagef("argument %q: want at most one, such as consul://host:port", c.Args().Get(1))
		}
	}
	if n := o.Consul.MaxConns; n < minConnections {
		return o, daemon.Usagef("--consul-connections %d: want at least %d", n, minConnections)
	}
	if o.Mode == modeAgent && len(o.Consul.Addresses) > 1 {
		return o, daemon.Usagef("--mode agent: want one --consul-addr, that of this node's own agent, not %d", len(o.Consul.Addresses))
	}
	return o, o.readDocker(c)
}

// minConnections are those on which a blocking query may wait for ever (our node, its key, the reaper's
// lock, the keys that the reaper watches, what Swarm services say) and one for all that is asked besides.
const minConnections = 6

func (o *Options) readChoices(c *cli.Context) error {
	switch o.Mode = mode(c.String("mode")); o.Mode {
	case modeAuto, modeCatalog, modeAgent:
	default:
		return daemon.Usagef("--mode %q: want auto, catalog or agent", o.Mode)
	}
	switch on := c.String("on-exit"); on {
	case "keep", "deregister":
		o.Deregister = on == "deregister"
	default:
		return daemon.Usagef("--on-exit %q: want keep or deregister", on)
	}
	switch when := service.Deregister(c.String("deregister")); when {
	case service.Always, service.OnSuccess:
		o.Service.Deregister = when
	default:
		return daemon.Usagef("--deregister %q: want always or on-success", when)
	}
	switch which := service.Ingress(c.String("ingress")); which {
	case service.ByTask, service.ByNode:
		o.Service.Ingress = which
	default:
		return daemon.Usagef("--ingress %q: want task or all", which)
	}
	if o.AdoptAgent != "" && !o.Adopt {
		return daemon.Usagef("--adopt-agent: want --adopt beside it")
	}
	if o.Service.Prefix == "" || o.Service.RoutingPrefix == "" {
		return daemon.Usagef("--prefix and --routing-prefix: want at least one character")
	}
	if strings.ContainsAny(o.NodeName, "/ \t\n") {
		return daemon.Usagef("--node-name %q: want a name without spaces and slashes", o.NodeName)
	}
	return nil
}

func (o *Options) readDurations(c *cli.Context) (err error) {
	if o.Resync, err = duration(c, "resync", time.Second); err != nil {
		return err
	}
	if o.SessionTTL, err = duration(c, "session-ttl", liveness.MinTTL); err != nil {
		return err
	}
	if o.StopLinger, err = duration(c, "stop-linger", 0); err != nil {
		return err
	}
	if o.StopGrace, err = duration(c, "stop-grace", 0); err != nil {
		return err
	}
	o.ReapAfter, err = duration(c, "reap-after", 0)
	return err
}

// duration reads "90s" and, as gliderlabs/registrator wrote it, "90". Zero, which there meant
// never, leaves the default of a flag that must not be zero.
func duration(c *cli.Context, name string, least time.Duration) (time.Duration, error) {
	value := c.String(name)
	d, err := time.ParseDuration(value)
	if seconds, numeric := strconv.Atoi(value); numeric == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if name == "resync" && err == nil && d == 0 {
		return time.Minute, nil
	}
	if err != nil || d < least {
		return 0, daemon.Usagef("--%s %q: want a duration of at least %s, such as 90s or 1h", name, value, least)
	}
	return d, nil
}

func (o *Options) readDocker(c *cli.Context) error {
	o.Docker = docker.Options{
		Host:        c.String("docker-host"),
		CertPath:    c.String("docker-cert-path"),
		Exited:      o.Service.Deregister == service.OnSuccess,
		KeepInspect: strings.Contains(c.String("tags"), "{{"),
		MaxAge:      inspectAge * o.Resync,
	}
	if c.String("docker-tls-verify") != "" && o.Docker.CertPath == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("docker certificates: %w", err)
		}
		o.Docker.CertPath = filepath.Join(home, ".docker")
	}
	return nil
}
