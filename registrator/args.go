package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"fairway/internal/consul"
	"fairway/internal/daemon"
	"fairway/internal/redact"
)

// permute puts flags in front of arguments, and behind a subcommand, wherever they were written:
// `registrator consul://host:8500 -internal` is what gliderlabs/registrator's users write.
func permute(args []string, flags []cli.Flag) []string {
	if len(args) < 2 {
		return args
	}
	switches := map[string]bool{"h": true, "help": true, "v": true, "version": true, "all": true, "dialect": true} // take no value
	valued := map[string]bool{}
	for _, f := range flags {
		_, isSwitch := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			switches[name], valued[name] = isSwitch, !isSwitch
		}
	}
	var options, arguments []string
	rest := args[1:]
	for len(rest) > 0 {
		arg := rest[0]
		rest = rest[1:]
		if arg == "--" {
			arguments = append(arguments, rest...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			arguments = append(arguments, arg)
			continue
		}
		options = append(options, arg)
		if valued[strings.TrimLeft(arg, "-")] && len(rest) > 0 {
			options, rest = append(options, rest[0]), rest[1:]
		}
	}
	out := []string{args[0]}
	if len(arguments) > 0 && arguments[0] == "explain" {
		out, arguments = append(out, arguments[0]), arguments[1:]
	}
	out = append(out, options...)
	if len(arguments) > 0 {
		out = append(append(out, "--"), arguments...)
	}
	return out
}

// readURI applies gliderlabs/registrator's argument to the way Consul is reached.
func readURI(uri string, cfg *consul.Config) error {
	const want = "want consul://host:port, consul-tls://host:port or consul-unix:///path/to/socket"
	address := uri
	uri = redact.Address(uri) // as it is printed
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		return daemon.Usagef("argument %q: %s", uri, want)
	}
	rest, prefix, _ := strings.Cut(rest, "/")
	switch scheme {
	case "consul", "consul-tls":
		if prefix != "" {
			return daemon.Usagef("argument %q: a Consul catalog has no path; %s", uri, want)
		}
		if rest == "" {
			rest = consul.DefaultAddress
		}
		cfg.Addresses = []string{"http://" + rest}
		if scheme == "consul-tls" {
			cfg.Addresses = []string{"https://" + rest}
		}
	case "consul-unix":
		if rest != "" || prefix == "" {
			return daemon.Usagef("argument %q: %s", uri, want)
		}
		cfg.Addresses = []string{"unix:///" + prefix}
	default:
		return daemon.Usagef("argument %q: Fairway registers in Consul only; %s", uri, want)
	}
	return nil
}

// note tells of an option that is accepted for old command lines' sake.
type note struct{ option, reason string }

var obsolete = []note{
	{"cleanup", "what a dead container left behind is always removed, by owner mark"},
	{"ttl", "the node's session says that its services live; see --session-ttl"},
	{"ttl-refresh", "the session is renewed every half --session-ttl"},
	{"retry-attempts", "Consul is tried again for ever"},
	{"retry-interval", "the time between tries grows by itself, up to half a minute"},
}

func notesOf(c *cli.Context) []note {
	return slices.DeleteFunc(slices.Clone(obsolete), func(n note) bool { return !c.IsSet(n.option) })
}
