package main

import (
	"slices"
	"strings"
)

// place is where a setting stands in the configuration file: as an attribute at the top or in a
// block "proxy", in a block within these, or as a labelled block of its own.
type place struct {
	block string // "" for the top or the block "proxy" itself
	name  string // of the attribute; of the labelled block
	all   bool   // is not of one proxy but of the whole program: stands at the top

	labelled []string // attributes of a labelled block, which is NAME=TEXT on the command line
}

// String is the setting as people call it.
func (p place) String() string {
	if p.block != "" {
		return p.block + "." + p.name
	}
	return p.name
}

// modes are what a command line says of one run. They are no settings.
var modes = []string{"config", "once", "timeout", "dry-run", "diff"}

// shared are the settings that all proxies of one program have in common, besides consul-… and guard-….
var shared = []string{"routing-prefix", "state-dir", "empty-grace", "template-connections", "log-level", "log-json", "http-addr"}

// groups are blocks whose settings' flags begin with a word.
var groups = []struct{ prefix, block string }{
	{"consul-", "consul"},
	{"timeout-", "timeouts"},
	{"guard-", "guards"},
	{"stats-user", "stats"},
	{"stats-password", "stats"},
	{"stats-entrypoint", "stats"},
}

// renamed are settings that a block calls otherwise than the command line does.
var renamed = map[string]string{
	"proxy": "kind", "template": "templates", "trusted-proxy": "trusted_proxies",
	"consul-addr": "address", "guard-service": "services", "stats-user": "user", "stats-password": "password",
	"stats-password-file": "password_file", "stats-entrypoint": "entrypoint",
}

// labelled are settings that are blocks with a name of their own.
var labelled = map[string][]string{
	"entrypoint": {"address", "port", "tls"}, "user-list": {"file"}, "error-pages": {"folder"},
}

// placeOf returns where the setting of a flag stands.
func placeOf(flag string) place {
	p := place{
		name: strings.ReplaceAll(flag, "-", "_"), labelled: labelled[flag],
		all: slices.Contains(shared, flag) || strings.HasPrefix(flag, "consul-") || strings.HasPrefix(flag, "guard-"),
	}
	for _, g := range groups {
		if strings.HasPrefix(flag, g.prefix) {
			p.block = g.block
			p.name = strings.ReplaceAll(strings.TrimPrefix(flag, g.prefix), "-", "_")
		}
	}
	if name := renamed[flag]; name != "" {
		p.name = name
	}
	return p
}
