package main

import (
	"context"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"fairway/confgen/render"
)

// checkCommand returns the command that checks a configuration: what the operator says, or the
// proxy's own checker where that is on PATH. In an image of confgen alone there is none, and then
// the reload decides.
func checkCommand(kind, said string, set render.Settings) []string {
	switch said {
	case "none":
		return nil
	case "":
	default:
		return strings.Fields(said)
	}
	path, err := exec.LookPath(kind)
	switch {
	case err != nil:
		return nil
	case kind == "haproxy":
		return []string{path, "-c", "-f", "{{file}}"}
	}
	return slices.Concat([]string{path, "-t", "-q"}, nginxErrors(set), []string{"-c", "{{file}}"})
}

// nginxErrors are the arguments that make nginx complain where we hear it before it has read its
// configuration, instead of in a log file that it may not be allowed to open.
func nginxErrors(set render.Settings) []string {
	if !set.AtLeast("1.19.5") {
		return nil
	}
	return []string{"-e", "stderr"}
}

var nginxVersion = regexp.MustCompile(`nginx/(\d+(\.\d+)*)`)

// proxyVersion asks the proxy on PATH for its version where the templates care, which is nginx;
// "" when it cannot be known.
func proxyVersion(ctx context.Context, kind string) string {
	path, err := exec.LookPath("nginx")
	if kind != "nginx" || err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "-v").CombinedOutput()
	found := nginxVersion.FindSubmatch(out)
	if err != nil || found == nil {
		return ""
	}
	return string(found[1])
}
