package main

import (
	"path/filepath"
	"slices"

	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// Config is everything that confgen was told: one proxy or several, which have Consul, and all
// else that is not their own, in common.
type Config struct {
	Proxies []Options // at least one; without a file one that has no name
	Program settings  // of the program itself: its log, its admin listener

	// again reads the same command line and file anew.
	again func() (Config, error)
}

// load reads the command line and the file that it names. child is the command of confgen run.
func load(c *cli.Context, child []string) (Config, error) {
	config, err := read(c, child)
	config.again = func() (Config, error) { return load(c, child) }
	return config, err
}

func read(c *cli.Context, child []string) (Config, error) {
	line := commandLine{c}
	path := c.String("config")
	if len(child) == 0 {
		child = nil
	}
	if path == "" {
		opt, err := optionsFrom(c.Context, line, child)
		return Config{Proxies: []Options{opt}, Program: line}, err
	}
	f, err := readConfigFile(path)
	if err != nil {
		return Config{}, err
	}
	for flag := range f.flags {
		if !placeOf(flag).all && c.IsSet(flag) {
			return Config{}, daemon.Usagef("--%s (or %s) cannot be given together with --config: %s says it, as %s", flag, env(flag)[0], path, placeOf(flag))
		}
	}
	if len(child) > 0 && len(f.proxies) > 1 {
		return Config{}, daemon.Usagef("confgen run: %s has %d proxies; say there what each one runs, as command = [%q, …]", path, len(f.proxies), child[0])
	}
	config := Config{Program: proxySettings{file: f, command: line}}
	for _, s := range f.proxies {
		set := proxySettings{file: f, proxy: s, command: line}
		command := set.StringSlice("command")
		if len(command) > 0 && len(child) > 0 {
			return Config{}, set.refuse("command", ": confgen run says it too; want one of them")
		}
		opt, err := optionsFrom(c.Context, set, slices.Concat(child, command))
		if err != nil {
			return Config{}, err
		}
		opt.Name = s.name
		if opt.Routing.Instance == "" {
			opt.Routing.Instance = s.name
		}
		if len(config.Proxies) > 0 { // one snapshot for all
			opt.Snapshot, opt.Control = config.Proxies[0].Snapshot, config.Proxies[0].Control
		}
		if err := apart(set, opt, config.Proxies); err != nil {
			return Config{}, err
		}
		config.Proxies = append(config.Proxies, opt)
	}
	return config, nil
}

// apart refuses a proxy that would write, or speak to, what belongs to another.
func apart(set proxySettings, opt Options, others []Options) error {
	for _, o := range others {
		for _, same := range []struct {
			setting      string
			mine, theirs string
		}{
			{"dir", opt.Proxy.Dir, o.Proxy.Dir},
			{"stats-socket", opt.Proxy.StatsSocket, o.Proxy.StatsSocket},
			{"generation-socket", opt.Proxy.GenerationSocket, o.Proxy.GenerationSocket},
			{"reload", opt.Proxy.Reload.file(), o.Proxy.Reload.file()},
		} {
			if same.mine != "" && filepath.Clean(same.mine) == filepath.Clean(same.theirs) {
				return set.refuse(same.setting, " %s: proxy %s has it already", same.mine, o.Name)
			}
		}
	}
	return nil
}

// file is the socket or pid file through which a proxy is reloaded; "" for none.
func (r Reload) file() string {
	if r.Method == "master" || r.Method == "pidfile" {
		return r.Arg
	}
	return ""
}

// common is what all proxies of one program share, and what cannot change while it runs.
func (o Options) common() Options {
	c := Options{Consul: o.Consul, Snapshot: o.Snapshot, Control: o.Control, EmptyGrace: o.EmptyGrace, Guard: o.Guard}
	c.Routing.Prefix = o.Routing.Prefix
	return c
}
