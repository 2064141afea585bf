package dialect

import (
	"math"
	"strconv"
	"strings"
)

// readFabio reads the tags urlprefix-… of fabiolb/fabio.
func readFabio(r *reading) {
	for _, tag := range r.Tags {
		text, ours := strings.CutPrefix(strings.TrimSpace(tag.Text), "urlprefix-")
		if !ours {
			continue
		}
		r.asked = true
		if fields := strings.Fields(text); len(fields) > 0 {
			r.urlprefix(tag, fields[0], fields[1:])
		} else {
			r.problem(tag.Label, "%s names no host and path; write urlprefix-host/path", quote(tag.Text))
		}
	}
	r.merge()
}

func (r *reading) urlprefix(tag Tag, prefix string, options []string) {
	t := r.route(r.routeName(strings.Trim(prefix, "/:")), tag.Label)
	opts := make(map[string]string)
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		opts[key] = value
	}
	if tag.Port != 0 {
		t.set("port", strconv.Itoa(int(tag.Port)), tag.Label)
	}
	r.urlprefixProto(t, tag, opts)
	r.urlprefixPlace(t, tag, prefix, opts["proto"])
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		r.urlprefixOption(t, tag, prefix, key, value)
	}
}

// urlprefixPlace takes host/path, or :port for TCP.
func (r *reading) urlprefixPlace(t *route, tag Tag, prefix, proto string) {
	host, path, hasPath := strings.Cut(prefix, "/")
	switch {
	case proto == "tcp":
		port, ok := strings.CutPrefix(prefix, ":")
		if !ok || parsePort(port) != nil {
			r.withhold(t, tag.Label, "%s: TCP is routed by port, as in urlprefix-:3306 proto=tcp", quote(tag.Text))
			return
		}
		t.set("tcp", port, tag.Label)
		return
	case !hasPath && proto != "tcp+sni":
		r.withhold(t, tag.Label, "%s: a prefix holds at least one slash", quote(tag.Text))
		return
	case strings.Contains(host, ":"):
		r.withhold(t, tag.Label, "%s: hosts are matched without their port; write fairway.entrypoints=NAME for the port", quote(tag.Text))
		return
	}
	var hosts []string
	if host != "" {
		if hosts = r.hosts(tag.Label, []string{host}); len(hosts) == 0 || strings.HasPrefix(host, "~") {
			r.withhold(t, tag.Label, "%s: %s is not a host that can be routed", quote(tag.Text), quote(host))
			return
		}
	}
	if proto == "tcp+sni" {
		if host == "" {
			r.withhold(t, tag.Label, "%s names no host", quote(tag.Text))
		}
		t.set("sni", strings.Join(hosts, ","), tag.Label)
		return
	}
	if host != "" {
		t.set("host", strings.Join(hosts, ","), tag.Label)
	}
	if err := plainPath("/" + path); err != nil {
		r.withhold(t, tag.Label, "%s: %s", quote(tag.Text), err)
	} else if path != "" || host == "" {
		t.set("path", "/"+path, tag.Label)
	}
}

func (r *reading) urlprefixProto(t *route, tag Tag, opts map[string]string) {
	proto := opts["proto"]
	switch proto {
	case "", "http", "tcp", "tcp+sni":
		return
	case "https", "grpc", "grpcs":
		t.set("proto", proto, tag.Label)
	default:
		r.withhold(t, tag.Label, "proto=%s cannot be translated; write fairway.proto=http, https, grpc, grpcs or tcp", clip(proto))
	}
	if skip, _ := parseBool(opts["tlsskipverify"]); skip && proto != "grpc" {
		t.set("backend.verify", "none", tag.Label)
	}
}

func (r *reading) urlprefixOption(t *route, tag Tag, prefix, key, value string) {
	label := tag.Label
	switch key {
	case "proto", "tlsskipverify":
	case "strip":
		if plainPath(value) != nil {
			r.withhold(t, label, "strip=%s: %s", clip(value), plainPath(value))
		} else if value = strings.TrimRight(value, "/"); value != "" {
			t.set("strip", value, label)
		}
	case "prepend":
		if plainPath(value) != nil || strings.Contains(value, "$") {
			r.withhold(t, label, "prepend=%s is not a path", clip(value))
		} else if value = strings.TrimRight(value, "/"); value != "" {
			t.set("rewrite", "~^/(.*)$ => "+value+"/$1", label)
		}
	case "weight":
		r.urlprefixWeight(t, label, prefix, value)
	case "allow", "deny":
		var items []string
		for _, item := range splitList(value) {
			items = append(items, strings.TrimPrefix(item, "ip:"))
		}
		list, err := networks(items)
		if err != nil {
			r.withhold(t, label, "%s=%s: %s; in SERVICE_TAGS a comma inside a tag is written \\,", key, clip(value), err)
			return
		}
		t.set(key, list, label)
	case "redirect":
		r.urlprefixRedirect(t, label, value)
	case "pxyproto":
		if on, _ := parseBool(value); on {
			t.set("proxy-protocol", "v1", label)
		}
	case "host":
		if err := plainHost(value); value == "dst" || err != nil {
			r.problem(label, "host=%s cannot be translated; write fairway.headers.request=Host: NAME", clip(value))
		} else {
			t.set("headers.request", "Host: "+value, label)
		}
	case "auth":
		if !isToken(value) {
			r.withhold(t, label, "auth=%s is not the name of a user list", clip(value))
			return
		}
		t.set("auth", value, label)
		r.note("auth=%s: the front end needs a user list of that name", value)
	case "grpcservername":
		if plainHost(value) == nil {
			t.set("backend.sni", value, label)
		}
	default:
		r.problem(label, "the option %s cannot be translated; leave it out or write what it means as a fairway label", quote(key+"="+value))
	}
}

// urlprefixWeight takes the part of a prefix's traffic, 0.05 for 5 %. Variants of one prefix have
// one group.
func (r *reading) urlprefixWeight(t *route, label, prefix, value string) {
	part, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil || math.IsNaN(part) || part > 1:
		r.problem(label, "weight=%s is not a part of the traffic, such as 0.05", clip(value))
	case part > 0:
		t.set("group", prefix, label)
		t.set("share", strconv.FormatFloat(math.Round(part*1e4)/100, 'f', -1, 64), label)
	}
}

func (r *reading) urlprefixRedirect(t *route, label, value string) {
	code, to, _ := strings.Cut(value, ",")
	switch {
	case code != "301" && code != "302" && code != "307" && code != "308":
		r.withhold(t, label, "redirect=%s: clients are sent on with 301, 302, 307 or 308", clip(value))
	case to == "":
		r.withhold(t, label, "redirect=%s names no URL; write redirect=301,URL, and in SERVICE_TAGS its comma as \\,", clip(value))
	case strings.Contains(to, "$"):
		r.withhold(t, label, "redirect=%s: a path cannot be taken over; to send a whole host on write fairway.redirect-from=HOST", clip(value))
	default:
		t.set("redirect", code+" "+to, label)
	}
}
