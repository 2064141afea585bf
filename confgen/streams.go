package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"fairway/confgen/route"
)

// readStreams reads which ports labels may open, and whether nginx can pass connections on.
func (o *Options) readStreams(ctx context.Context, c settings) error {
	for _, text := range c.StringSlice("tcp-ports") {
		r, err := parsePorts(text)
		if err != "" {
			return c.refuse("tcp-ports", " %q: %s", text, err)
		}
		for _, e := range o.Routing.Entrypoints {
			if r.From <= e.Port && e.Port <= r.To {
				return c.refuse("tcp-ports", " %q: port %d is that of the entrypoint %s", text, e.Port, e.Name)
			}
		}
		o.Routing.TCPPorts = append(o.Routing.TCPPorts, r)
	}
	if o.Proxy.Kind != "nginx" {
		return nil
	}
	o.Render.StreamModule = c.String("stream-module")
	if o.Render.StreamModule == "" {
		o.Render.StreamModule, o.Routing.NoStreams = streamModule(ctx)
	}
	return nil
}

func parsePorts(text string) (r route.PortRange, fault string) {
	const want = "want a port or a range, such as 5432 or 6000-6010"
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	var errs [2]error
	r.From, errs[0] = strconv.Atoi(first)
	r.To, errs[1] = strconv.Atoi(last)
	if errs[0] != nil || errs[1] != nil || r.From < 1 || r.To > 65535 || r.From > r.To {
		return r, want
	}
	return r, ""
}

var (
	dynamicStream = regexp.MustCompile(`--with-stream=dynamic(\s|$)`)
	builtInStream = regexp.MustCompile(`--with-stream(\s|$)`)
	modulesPath   = regexp.MustCompile(`--modules-path=(\S+)`)
)

// streamModule asks the nginx on PATH for its stream module: a file to load, "" where it is built
// in or nothing can be known; or why there are no streams.
func streamModule(ctx context.Context) (file, missing string) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return "", ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "-V").CombinedOutput()
	if err != nil || builtInStream.Match(out) {
		return "", ""
	}
	const none = "nginx has no stream module here, so it passes nothing on; on Debian it is in the package libnginx-mod-stream"
	path := modulesPath.FindSubmatch(out)
	if !dynamicStream.Match(out) || path == nil {
		return "", none
	}
	file = filepath.Join(string(path[1]), "ngx_stream_module.so")
	if _, err := os.Stat(file); err != nil {
		return "", none
	}
	return file, ""
}

// removeSockets removes the sockets that a killed nginx leaves behind, since the next one refuses
// to start with them: the one that tells its configuration, and those between its own parts.
func removeSockets(dir, generation string) error {
	if err := removeSocket(generation); err != nil {
		return err
	}
	list, err := filepath.Glob(filepath.Join(dir, "_*.sock"))
	if err != nil {
		return err
	}
	for _, path := range list {
		if err := removeSocket(path); err != nil {
			return err
		}
	}
	return nil
}
