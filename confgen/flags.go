package main

import (
	"time"

	"fairway/confgen/render"
	"fairway/confgen/watch"
	"fairway/internal/consul"
	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// The categories of flags, in the order of the help text.
const (
	catFiles    = "1. Files:"
	catReload   = "2. Reaching the proxy:"
	catListen   = "3. What the proxy listens on:"
	catTimeouts = "4. Timeouts of the proxy:"
	catRun      = "5. Running:"
	catGuard    = "6. What is not believed at once:"
)

// flags declares the command line. Every flag can also be set by an environment variable named
// after it: --proxy-dir by CONFGEN_PROXY_DIR.
func flags() []cli.Flag {
	list := []cli.Flag{
		text(catFiles, "config", "", "`FILE` of settings for several proxies, or for one, in place of the flags of a proxy; examples/confgen.hcl is its manual"),
		text(catFiles, "proxy", "haproxy", "`KIND` of proxy: haproxy or nginx"),
		text(catFiles, "dir", "/fairway", "configuration `FOLDER` as confgen sees it; only its own files in it are touched"),
		text(catFiles, "proxy-dir", "", "the same `FOLDER` as the proxy sees it, when files must refer to each other by full path"),
		texts(catFiles, "template", "`PATH` of a template file or a folder of them: NAME.tmpl makes NAME, or overrides blocks of the defaults; NAME.ctmpl makes NAME in the dialect of consul-template; may be repeated, later ones win"),
		yes(catFiles, "no-default-templates", "make no files but those of --template"),
		number(catFiles, "template-connections", 16, "most connections to Consul for what templates ask for besides routes; what asks for more is read in turn every few seconds"),
		text(catFiles, "state-dir", "", "`FOLDER` of the saved snapshot that confgen serves while Consul is down at its start; default: .confgen in --dir"),
		text(catFiles, "routing-prefix", "fairway", "`PREFIX` of routing labels, without the dot"),
		yes(catFiles, "in-place", "write into files that are bind-mounted one by one, instead of refusing them; a reader may then see half a file"),

		text(catReload, "reload", "", "`METHOD`: master[:SOCKET] (haproxy's default), pidfile[:FILE] (nginx's default), container:NAME (a container, or a Swarm or Compose service, through the Docker API), command:PROGRAM ARGS, child (the default of confgen run)"),
		text(catReload, "run-dir", "", "`FOLDER` of the proxy's sockets and pid file as confgen sees it; default: --dir"),
		text(catReload, "proxy-run-dir", "", "the same `FOLDER` as the proxy sees it; default: --run-dir"),
		text(catReload, "stats-socket", "", "`SOCKET` where HAProxy takes runtime commands, as confgen sees it; none when a template of your own has none: then every change is a reload; default: haproxy.sock in --run-dir"),
		text(catReload, "generation-socket", "", "`SOCKET` where nginx tells which configuration it runs, as confgen sees it; none when a template of your own has none; default: nginx-generation.sock in --run-dir"),
		text(catReload, "check-command", "", "`COMMAND` that checks a configuration before it is used, {{file}} stands for its main file; none for no check; default: the proxy's own checker when it is on PATH"),
		length(catReload, "check-timeout", 20*time.Second, "a check that takes longer is ended and counts as a refusal"),
		length(catReload, "reload-interval", time.Second, "least time from one reload to the next; the first goes at once"),
		length(catReload, "reload-timeout", 30*time.Second, "a reload that is not confirmed within this time has failed"),
		number(catReload, "old-workers", 5, "most old HAProxy workers that may still end their connections when the next reload is made"),
		yes(catReload, "test-bind", "try new addresses before a reload; only where confgen shares HAProxy's network and may bind them"),
		text(catReload, "on-proxy-exit", "restart", "`WHAT` confgen run does when the proxy ends: restart it, or exit with it"),
		dockerText("docker-host", "", "`ADDRESS` of the Docker Engine, for --reload container:NAME"),
		dockerText("docker-cert-path", "", "`FOLDER` of ca.pem, cert.pem and key.pem for a Docker Engine behind TLS, which is always verified"),

		texts(catListen, "entrypoint", "`NAME=[ADDRESS]:PORT[/tls][/proxy]` that the proxy listens on, with proxy for connections that begin with the PROXY protocol; may be repeated; default: web=:80 and, with certificates, websecure=:8443/tls"),
		texts(catListen, "certificates", "`PATH` of a folder of certificates and keys, or of one file such as a secret, as confgen sees it; may be repeated; they are checked, handed to the proxy and replaced as they change"),
		text(catListen, "default-certificate", "", "`NAME` of the certificate in the store for hosts that have none; default: their TLS is refused"),
		text(catListen, "system-authorities", "", "`FILE` of the authorities that servers of proto=https are verified by; default: where this system has them"),
		text(catListen, "tls-certificates", "", "instead of a store, for certificates that confgen may not read: PEM `FILE` with certificate and key as the proxy sees it, for HAProxy also a folder of them"),
		texts(catListen, "tcp-ports", "`PORT` or range of ports, such as 5432 or 6000-6010, that the label tcp may name; may be repeated; default: none"),
		text(catListen, "stream-module", "", "`FILE` of nginx's stream module, where it is not built in; default: asked of nginx when it is on PATH"),
		text(catListen, "stats-user", "", "`USER` of the page /haproxy?stats, which exists only with a user and a password"),
		text(catListen, "stats-password", "", "its `PASSWORD`; prefer --stats-password-file"),
		text(catListen, "stats-password-file", "", "`FILE` with the password"),
		text(catListen, "stats-entrypoint", "web", "`NAME` of the entrypoint that has the page"),
		yes(catListen, "access-log", "the proxy logs a line for each request"),
		number(catListen, "max-conn", 0, "most connections of the proxy at once; 0 leaves it to the proxy"),
		text(catListen, "proxy-version", "", "`VERSION` of the proxy, such as 1.27.4, to use what newer ones can; default: asked of nginx when it is on PATH"),
		text(catListen, "instance", "", "`NAME` of this front end, for routes whose label instance names the ones that serve them"),
		texts(catListen, "user-list", "`NAME=FILE` of people whom the label auth=NAME lets in, as htpasswd writes it; may be repeated"),
		texts(catListen, "error-pages", "`NAME=FOLDER` of pages, such as 503.html, that the label errors=NAME answers with; may be repeated"),
		texts(catListen, "trusted-proxy", "`NETWORK` of proxies in front of this one, such as 10.0.0.0/8, whose X-Forwarded-* and PROXY protocol are believed; may be repeated"),
		texts(catListen, "allow-snippets", "`SERVICE` whose labels may hold raw lines of the proxy's configuration, * for every service; may be repeated"),
		yes(catListen, "no-last-resort", "send nobody to a service whose every instance is failing, instead of to those still registered"),
	}
	for _, t := range timeouts {
		list = append(list, length(catTimeouts, t.flag, *t.of(new(render.DefaultSettings())), t.usage))
	}
	list = append(list,
		yes(catRun, "once", "make the proxy equal to the catalog once and end; exit codes: 0 applied, 3 nothing to change, 4 invalid, 5 timed out"),
		length(catRun, "timeout", 30*time.Second, "how long --once and --dry-run wait for a complete answer of Consul"),
		yes(catRun, "dry-run", "touch nothing and end; exit codes: 0 nothing to change, 6 something to change, 4 invalid, 5 timed out"),
		yes(catRun, "diff", "with --dry-run: print the change as a unified diff"),
		length(catRun, "resync", 10*time.Second, "after this time files and proxy are compared anew even when nothing happened"),
		length(catRun, "empty-grace", watch.DefaultGrace, "an empty catalog is believed only after this time"),
	)
	list = append(list, guardFlags()...)
	return append(append(list, consul.Flags()...), daemon.Flags("confgen", ":9102")...)
}

// timeouts are the flags that set a time of the proxy.
var timeouts = []struct {
	flag, usage string
	of          func(*render.Settings) *time.Duration
}{
	{"timeout-connect", "connecting to a server", func(s *render.Settings) *time.Duration { return &s.Timeouts.Connect }},
	{"timeout-client", "between two packets of a client", func(s *render.Settings) *time.Duration { return &s.Timeouts.Client }},
	{"timeout-server", "between two packets of a server", func(s *render.Settings) *time.Duration { return &s.Timeouts.Server }},
	{"timeout-request", "until a client has sent its request header", func(s *render.Settings) *time.Duration { return &s.Timeouts.Request }},
	{"timeout-keep-alive", "of an idle client connection; old workers wait for it", func(s *render.Settings) *time.Duration { return &s.Timeouts.KeepAlive }},
	{"timeout-queue", "for a free server", func(s *render.Settings) *time.Duration { return &s.Timeouts.Queue }},
	{"timeout-tunnel", "of a websocket without traffic", func(s *render.Settings) *time.Duration { return &s.Timeouts.Tunnel }},
	{"timeout-check", "of one health check of the proxy's own", func(s *render.Settings) *time.Duration { return &s.Timeouts.Check }},
	{"check-interval", "between two of them", func(s *render.Settings) *time.Duration { return &s.Timeouts.Interval }},
	{"hard-stop-after", "how long an old worker may finish requests after a reload", func(s *render.Settings) *time.Duration { return &s.HardStopAfter }},
}

func env(name string) []string { return []string{daemon.Variable("confgen", name)} }

func text(category, name, value, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, EnvVars: env(name), Value: value, Usage: usage, Category: category}
}

// dockerText is a flag that also goes by Docker's own environment variable.
func dockerText(name, value, usage string) cli.Flag {
	vars := append(env(name), daemon.Variable(name))
	return &cli.StringFlag{Name: name, EnvVars: vars, Value: value, Usage: usage, Category: catReload}
}

func texts(category, name, usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, EnvVars: env(name), Usage: usage, Category: category, KeepSpace: true}
}

func yes(category, name, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, EnvVars: env(name), Usage: usage, Category: category}
}

func number(category, name string, value int, usage string) cli.Flag {
	return &cli.IntFlag{Name: name, EnvVars: env(name), Value: value, Usage: usage, Category: category}
}

func length(category, name string, value time.Duration, usage string) cli.Flag {
	return &cli.DurationFlag{Name: name, EnvVars: env(name), Value: value, Usage: usage, Category: category}
}
