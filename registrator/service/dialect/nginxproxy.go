package dialect

import (
	"fmt"
	"slices"
	"strings"
)

// internalNetworks are nginx-proxy's own default of what NETWORK_ACCESS=internal lets in.
const internalNetworks = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"

// defaultRoot is nginx-proxy's own default of VIRTUAL_ROOT.
const defaultRoot = "/var/www/public"

// readNginxProxy reads the variables of nginx-proxy/nginx-proxy.
func readNginxProxy(r *reading) {
	switch {
	case r.env["VIRTUAL_HOST_MULTIPORTS"] != "":
		r.asked = true
		r.multiports(r.env["VIRTUAL_HOST_MULTIPORTS"])
	case r.env["VIRTUAL_HOST"] != "":
		r.asked = true
		r.virtualHost()
	}
	for _, t := range r.routes {
		r.virtualHostSettings(t)
	}
}

func (r *reading) virtualHost() {
	t := r.route(r.routeName("1"), "VIRTUAL_HOST")
	hosts := r.hosts("VIRTUAL_HOST", splitList(r.env["VIRTUAL_HOST"]))
	if len(hosts) == 0 {
		r.withhold(t, "VIRTUAL_HOST", "%s names no host that can be routed", quote(r.env["VIRTUAL_HOST"]))
	}
	t.set("host", strings.Join(hosts, ","), "VIRTUAL_HOST")
	r.virtualPath(t, r.env["VIRTUAL_PATH"], "VIRTUAL_PATH", r.env["VIRTUAL_DEST"], "VIRTUAL_DEST")
	r.virtualPort(t, r.env["VIRTUAL_PORT"], "VIRTUAL_PORT")
}

// hosts are the usable ones of a list, each once.
func (r *reading) hosts(label string, items []string) []string {
	var hosts []string
	for _, item := range items {
		names, err := hostPattern(item)
		if err != nil {
			r.problem(label, "%s: %s", quote(item), err)
			continue
		}
		for _, name := range names {
			if !slices.Contains(hosts, name) {
				hosts = append(hosts, name)
			}
		}
	}
	return hosts
}

// virtualPort takes a port, or nginx-proxy's default: the only one, else 80.
func (r *reading) virtualPort(t *route, port, label string) {
	switch {
	case port != "":
		if err := parsePort(port); err != nil {
			r.withhold(t, label, "%s: %s", quote(port), err)
			return
		}
		t.set("port", port, label)
	case len(r.Ports) > 1 && slices.Contains(r.Ports, 80):
		t.set("port", "80", t.label)
	}
}

// virtualPath takes what nginx calls a location and what replaces it on the way to the service.
func (r *reading) virtualPath(t *route, path, label, dest, destLabel string) {
	path, err := location(path)
	if err != nil {
		r.withhold(t, label, "%s", err)
		return
	}
	if path != "" {
		t.set("path", path, label)
	}
	if dest == "" {
		return
	}
	to := strings.TrimRight(dest, "/")
	from := strings.TrimRight(path, "/")
	switch {
	case plainPath(dest) != nil:
		r.withhold(t, destLabel, "%s: %s", quote(dest), plainPath(dest))
	case from != "" && !strings.HasPrefix(path, "/"):
		r.withhold(t, destLabel, "%s: only a prefix can be replaced, not %s; write fairway.rewrite=~REGEX => /$1", quote(dest), quote(path))
	case to == from:
	case to == "":
		t.set("strip", "true", destLabel)
	case from == "":
		t.set("rewrite", "~^/(.*)$ => "+to+"/$1", destLabel)
	default:
		t.set("rewrite", from+" => "+to, destLabel)
	}
}

// location writes a location of nginx as a path: a prefix, "= /exact", "^~ /prefix", "~ regex" or
// "~* regex". The prefix "/" is what holds anyway.
func location(s string) (string, error) {
	modifier, rest := "", s
	for _, m := range []string{"=", "^~", "~*", "~"} {
		if cut, ok := strings.CutPrefix(s, m); ok {
			modifier, rest = m, strings.TrimSpace(cut)
			break
		}
	}
	if modifier == "~" || modifier == "~*" {
		if modifier == "~*" {
			rest = "(?i)" + rest
		}
		re, err := pattern(rest)
		if err != nil {
			return "", fmt.Errorf("%s: %w", quote(s), err)
		}
		return re, nil
	}
	if rest == "" && modifier == "" || rest == "/" && modifier != "=" {
		return "", nil
	}
	if err := plainPath(rest); err != nil {
		return "", fmt.Errorf("%s: %w", quote(s), err)
	}
	if modifier == "=" {
		rest = "=" + rest
	}
	return rest, nil
}

// virtualHostSettings are the variables that hold for every route of the container.
func (r *reading) virtualHostSettings(t *route) {
	switch proto := strings.ToLower(r.env["VIRTUAL_PROTO"]); proto {
	case "", "http":
	case "https", "grpcs":
		t.set("proto", proto, "VIRTUAL_PROTO")
		t.set("backend.verify", "none", "VIRTUAL_PROTO") // nginx verifies nothing unless told
	case "grpc":
		t.set("proto", proto, "VIRTUAL_PROTO")
	case "fastcgi":
		t.set("proto", "fcgi", "VIRTUAL_PROTO")
		r.virtualRoot(t)
	default:
		r.withhold(t, "VIRTUAL_PROTO", "%s cannot be spoken to a service; it may be http, https, grpc, grpcs or fastcgi", quote(r.env["VIRTUAL_PROTO"]))
	}
	switch method := strings.ToLower(r.env["HTTPS_METHOD"]); method {
	case "", "redirect": // to TLS where a certificate matches, as everywhere
	case "noredirect":
		t.set("tls", "on", "HTTPS_METHOD")
	case "nohttp":
		t.set("tls", "only", "HTTPS_METHOD")
	case "nohttps":
		t.set("tls", "off", "HTTPS_METHOD")
	default:
		r.withhold(t, "HTTPS_METHOD", "%s is not redirect, noredirect, nohttp or nohttps", quote(r.env["HTTPS_METHOD"]))
	}
	if name := r.env["CERT_NAME"]; isToken(name) {
		t.set("cert", name, "CERT_NAME")
	} else if name != "" {
		r.problem("CERT_NAME", "%s: a certificate is named by letters, digits, dots, hyphens and underscores", quote(name))
	}
	switch access := strings.ToLower(r.env["NETWORK_ACCESS"]); access {
	case "", "external":
	case "internal":
		t.set("allow", internalNetworks, "NETWORK_ACCESS")
	default:
		r.withhold(t, "NETWORK_ACCESS", "%s is neither internal nor external; write fairway.allow=NETWORKS", quote(r.env["NETWORK_ACCESS"]))
	}
}

// virtualRoot takes the folder of the scripts, which nginx-proxy looks for elsewhere than Fairway
// where nothing is said.
func (r *reading) virtualRoot(t *route) {
	switch root := r.env["VIRTUAL_ROOT"]; {
	case root == "":
		t.set("fcgi.root", defaultRoot, "VIRTUAL_PROTO")
	case plainPath(root) != nil:
		r.problem("VIRTUAL_ROOT", "%s: %s; write fairway.fcgi.root=/FOLDER", quote(root), plainPath(root))
	default:
		t.set("fcgi.root", root, "VIRTUAL_ROOT")
	}
}
