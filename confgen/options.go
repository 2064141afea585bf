package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway/confgen/docker"
	"fairway/confgen/render"
	"fairway/confgen/route"
	"fairway/confgen/watch"
	"fairway/internal/consul"
	"fairway/internal/daemon"
)

// Options are all that the program needs to know. optionsFrom fills them from
// the command line or the configuration file.
type Options struct {
	Name         string // of the proxy, in the configuration file; "" without one
	Consul       consul.Config
	Routing      route.Settings
	Render       render.Settings
	Proxy        Proxy
	Certificates Certificates
	Template     []string // files and folders that override the default templates

	NoDefaults    bool // Template is all there is
	TemplateConns int  // connections to Consul for what templates ask for

	Snapshot   string // file; "" keeps none
	Control    string // socket on which the running confgen takes orders
	Resync     time.Duration
	EmptyGrace time.Duration
	Guard      watch.Losses

	Once, DryRun, Diff bool
	Timeout            time.Duration // of Once and DryRun
}

// Proxy says which proxy to keep current and how to reach it.
type Proxy struct {
	Kind string // "haproxy" or "nginx"
	Dir  string

	Reload           Reload
	RunDir           string // of sockets and pid file, as confgen sees it
	StatsSocket      string // as confgen sees it; "" for none
	GenerationSocket string // as confgen sees it; "" for none
	Child            []string
	Follow           bool          // end with the child instead of starting it again
	StopTimeout      time.Duration // how long the child may finish requests when confgen ends

	CheckCommand   []string
	CheckTimeout   time.Duration
	ReloadInterval time.Duration
	ReloadTimeout  time.Duration
	OldWorkers     int
	TestBind       bool
	InPlace        bool

	Docker docker.Options
}

// Reload is a way to have the proxy load its files: "master", "pidfile", "container", "command"
// or "child", and what it needs to know.
type Reload struct{ Method, Arg string }

// main files of the proxies, which the default templates write.
var mainFile = map[string]string{"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}

// optionsFrom reads the settings of one proxy; every error names the setting and what it takes.
// child is the command of confgen run.
func optionsFrom(ctx context.Context, c settings, child []string) (Options, error) {
	o := Options{
		Consul: consul.FromFlags(c),
		Routing: route.Settings{
			Prefix: c.String("routing-prefix"), NoLastResort: c.Bool("no-last-resort"), Panic: c.Int("panic-share"),
			Instance: c.String("instance"), Snippets: c.StringSlice("allow-snippets"),
		},
		Render:   render.DefaultSettings(),
		Template: c.StringSlice("template"), NoDefaults: c.Bool("no-default-templates"), TemplateConns: c.Int("template-connections"),
		Resync: c.Duration("resync"), EmptyGrace: c.Duration("empty-grace"),
		Once: c.Bool("once"), DryRun: c.Bool("dry-run"), Diff: c.Bool("diff"), Timeout: c.Duration("timeout"),
		Proxy: Proxy{
			Kind: c.String("proxy"), Dir: c.String("dir"), Child: child,
			CheckTimeout: c.Duration("check-timeout"), ReloadInterval: c.Duration("reload-interval"),
			ReloadTimeout: c.Duration("reload-timeout"), OldWorkers: c.Int("old-workers"),
			TestBind: c.Bool("test-bind"), InPlace: c.Bool("in-place"),
			Docker: docker.Options{Host: c.String("docker-host"), CertPath: c.String("docker-cert-path")},
		},
	}
	reload := func(c settings) error { return o.readReload(ctx, c) }
	streams := func(c settings) error { return o.readStreams(ctx, c) }
	for _, step := range []func(settings) error{
		o.readProxy, reload, o.readChild, o.readListen, streams, o.readCertificates, o.readStats, o.readPeople, o.readPages, o.readTimes, o.readGuard, o.readModes,
	} {
		if err := step(c); err != nil {
			return o, err
		}
	}
	o.Routing.Proxy = route.Proxy(o.Proxy.Kind)
	if err := (render.View{Table: route.Table{Entrypoints: o.Routing.Entrypoints, Store: len(o.Certificates.Paths) > 0}, Settings: o.Render}).Validate(); err != nil {
		return o, daemon.Usagef("%w", err)
	}
	return o, nil
}

func (o *Options) readProxy(c settings) error {
	p := &o.Proxy
	if len(p.Child) > 0 && !c.IsSet("proxy") {
		if base := filepath.Base(p.Child[0]); mainFile[base] != "" {
			p.Kind = base
		}
	}
	if mainFile[p.Kind] == "" {
		return c.refuse("proxy", " %q: want haproxy or nginx", p.Kind)
	}
	if p.Dir == "" {
		return c.refuse("dir", ": want a folder")
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return c.refuse("dir", ": %w", err)
	}
	p.Dir = dir
	if o.Routing.Prefix == "" {
		return c.refuse("routing-prefix", ": want at least one character")
	}
	if n := o.Consul.MaxConns; n < watch.MinConnections {
		return c.refuse("consul-connections", " %d: want at least %d", n, watch.MinConnections)
	}
	if o.TemplateConns < 2 {
		return c.refuse("template-connections", " %d: want at least 2", o.TemplateConns)
	}
	if o.NoDefaults && len(o.Template) == 0 {
		return c.refuse("no-default-templates", ": only together with templates of your own")
	}
	for _, path := range o.Template {
		if _, err := os.Stat(path); err != nil {
			return c.refuse("template", ": %w", err)
		}
	}
	state := orElse(c.String("state-dir"), filepath.Join(p.Dir, ".confgen"))
	o.Snapshot = filepath.Join(state, "snapshot.json")
	o.Control = filepath.Join(state, controlSocket)

	o.Render.Dir = c.String("proxy-dir")
	p.RunDir = orElse(c.String("run-dir"), p.Dir)
	o.Render.RunDir = orElse(c.String("proxy-run-dir"), p.RunDir)
	p.StatsSocket, o.Render.StatsSocket = o.socket(c.String("stats-socket"), "haproxy.sock")
	p.GenerationSocket, o.Render.GenerationSocket = o.socket(c.String("generation-socket"), "nginx-generation.sock")
	return nil
}

// socket returns where a socket is for confgen and for the proxy; said is what the operator says.
func (o *Options) socket(said, name string) (here, there string) {
	switch said {
	case "none":
		return "", ""
	case "":
		said = filepath.Join(o.Proxy.RunDir, name)
	}
	if rest, err := filepath.Rel(o.Proxy.RunDir, said); err == nil && filepath.IsLocal(rest) {
		return said, filepath.Join(o.Render.RunDir, rest)
	}
	return said, said
}

func (o *Options) readReload(ctx context.Context, c settings) error {
	p := &o.Proxy
	method, arg, _ := strings.Cut(c.String("reload"), ":")
	if method == "" {
		method = map[string]string{"haproxy": "master", "nginx": "pidfile"}[p.Kind]
		if len(p.Child) > 0 {
			method = "child"
		}
	}
	const want = "want master[:SOCKET], pidfile[:FILE], container:NAME, command:PROGRAM ARGS or child"
	bad := func(why string) error { return c.refuse("reload", " %s: %s; %s", method, why, want) }
	switch method {
	case "master":
		if p.Kind != "haproxy" {
			return bad("only haproxy has a master socket")
		}
		arg = orElse(arg, filepath.Join(p.RunDir, "master.sock"))
	case "pidfile":
		arg = orElse(arg, filepath.Join(p.RunDir, p.Kind+".pid"))
	case "container", "command":
		if strings.TrimSpace(arg) == "" {
			return bad("it needs to know which")
		}
	case "child":
		if len(p.Child) == 0 {
			return bad("the proxy is a child only of confgen run -- COMMAND")
		}
		if arg != "" {
			return bad("it takes nothing")
		}
	default:
		return bad("no such method")
	}
	p.Reload = Reload{Method: method, Arg: arg}
	o.Render.Version = orElse(c.String("proxy-version"), proxyVersion(ctx, p.Kind))
	p.CheckCommand = checkCommand(p.Kind, c.String("check-command"), o.Render)
	return nil
}

// readChild completes a command that is only the proxy's name.
func (o *Options) readChild(c settings) error {
	p := &o.Proxy
	switch on := c.String("on-proxy-exit"); on {
	case "restart", "exit":
		p.Follow = on == "exit"
	default:
		return c.refuse("on-proxy-exit", " %q: want restart or exit", on)
	}
	if len(p.Child) == 0 {
		return nil
	}
	if o.Once || o.DryRun {
		return daemon.Usagef("confgen run keeps a proxy running: it cannot be combined with --once or --dry-run")
	}
	file := filepath.Join(p.Dir, mainFile[p.Kind])
	if len(p.Child) == 1 && p.Kind == "haproxy" {
		p.Child = append(p.Child, "-W", "-S", filepath.Join(p.RunDir, "master.sock")+",mode,600", "-f", file)
	}
	if len(p.Child) == 1 && p.Kind == "nginx" {
		p.Child = slices.Concat(p.Child, nginxErrors(o.Render), []string{"-c", file, "-g", "daemon off;"})
	}
	if socket := masterSocket(p.Child); p.Kind == "haproxy" && p.Reload.Method == "child" && socket != "" {
		p.Reload = Reload{Method: "master", Arg: socket}
	}
	return nil
}

// masterSocket returns the master socket that a HAProxy command line declares with -S; "" for none.
func masterSocket(command []string) string {
	i := slices.Index(command, "-S")
	if i < 0 || i+1 == len(command) {
		return ""
	}
	path, _, _ := strings.Cut(command[i+1], ",")
	return strings.TrimPrefix(path, "unix@")
}

func (o *Options) readListen(c settings) error {
	o.Render.Certificate = c.String("tls-certificates")
	o.Render.AccessLog = c.Bool("access-log")
	o.Render.MaxConn = c.Int("max-conn")
	declared := c.StringSlice("entrypoint")
	if len(declared) == 0 {
		declared = []string{"web=:80"}
		if o.Render.Certificate != "" || len(c.StringSlice("certificates")) > 0 {
			declared = append(declared, "websecure=:8443/tls")
		}
	}
	for _, text := range declared {
		e, err := parseEntrypoint(text)
		if err != nil {
			return c.refuse("entrypoint", " %q: %w", text, err)
		}
		o.Routing.Entrypoints = append(o.Routing.Entrypoints, e)
	}
	return nil
}

// parseEntrypoint reads NAME=[ADDRESS]:PORT[/tls][/proxy].
func parseEntrypoint(text string) (route.Entrypoint, error) {
	const want = "want NAME=[ADDRESS]:PORT[/tls][/proxy], such as web=:80"
	name, rest, found := strings.Cut(text, "=")
	listen, more, _ := strings.Cut(rest, "/")
	host, port, err := net.SplitHostPort(listen)
	secure, proxied := false, false
	switch more {
	case "":
	case "tls":
		secure = true
	case "proxy":
		proxied = true
	case "tls/proxy", "proxy/tls":
		secure, proxied = true, true
	default:
		found = false
	}
	if !found || err != nil || more == "" && strings.Contains(rest, "/") {
		return route.Entrypoint{}, fmt.Errorf("%s", want)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return route.Entrypoint{}, fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			return route.Entrypoint{}, fmt.Errorf("address %q is not an IP address", host)
		}
	}
	return route.Entrypoint{Name: name, Address: host, Port: int(number), TLS: secure, Proxied: proxied}, nil
}

func (o *Options) readStats(c settings) error {
	o.Render.StatsUser, o.Render.StatsPassword = c.String("stats-user"), c.String("stats-password")
	o.Render.StatsEntrypoint = c.String("stats-entrypoint")
	if file := c.String("stats-password-file"); file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return c.refuse("stats-password-file", ": %w", err)
		}
		o.Render.StatsPassword = strings.TrimRight(string(data), "\r\n")
		if o.Render.StatsPassword == "" {
			return c.refuse("stats-password-file", ": %s is empty", file)
		}
	}
	if (o.Render.StatsUser == "") != (o.Render.StatsPassword == "") {
		return c.refuse("stats-user", " and stats-password (or stats-password-file): want both or neither")
	}
	known := slices.ContainsFunc(o.Routing.Entrypoints, func(e route.Entrypoint) bool { return e.Name == o.Render.StatsEntrypoint })
	if o.Render.Stats() && !known {
		return c.refuse("stats-entrypoint", " %q: no such --entrypoint", o.Render.StatsEntrypoint)
	}
	if o.Render.Stats() && o.Proxy.Kind != "haproxy" {
		return c.refuse("stats-user", ": only haproxy has a stats page")
	}
	return nil
}

func (o *Options) readTimes(c settings) error {
	for _, t := range timeouts {
		d := c.Duration(t.flag)
		if d < time.Millisecond {
			return c.refuse(t.flag, " %s: want at least 1ms", d)
		}
		*t.of(&o.Render) = d
	}
	// The same as an old worker has after a reload, and a moment for the proxy to end itself.
	o.Proxy.StopTimeout = o.Render.HardStopAfter + time.Second
	for _, name := range []string{"timeout", "resync", "empty-grace", "check-timeout", "reload-timeout", "reload-interval"} {
		if d := c.Duration(name); d < time.Millisecond {
			return c.refuse(name, " %s: want at least 1ms", d)
		}
	}
	if n := c.Int("old-workers"); n < 1 {
		return c.refuse("old-workers", " %d: want at least 1", n)
	}
	return nil
}

func (o *Options) readModes(c settings) error {
	if o.Diff && !o.DryRun {
		return c.refuse("diff", ": only together with --dry-run")
	}
	if o.Once && o.DryRun {
		return c.refuse("once", " and --dry-run: want one of them")
	}
	return nil
}

func orElse(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
