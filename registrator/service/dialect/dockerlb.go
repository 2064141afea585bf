package dialect

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// dockerLB reads com.docker.lb.*, the labels of Interlock 2 in Docker's enterprise products.
func (r *reading) dockerLB() bool {
	found := r.labels("com.docker.lb.")
	if len(found) == 0 {
		return false
	}
	r.asked = true
	hosts := found["hosts"]
	label := cmpLabel(hosts, found["context_root"], found["default_backend"], Value{Label: "com.docker.lb.hosts"})
	t := r.route(r.routeName("host"), label)
	switch fallback := r.on(found["default_backend"]); {
	case hosts.Text == "" && !fallback:
		r.withhold(t, label, "names no host; give com.docker.lb.hosts")
		return true
	case fallback:
		t.set("default", "true", found["default_backend"].Label)
	}
	names := r.hosts(hosts.Label, splitList(hosts.Text))
	if hosts.Text != "" && len(names) == 0 {
		r.withhold(t, hosts.Label, "%s names no host that can be routed", quote(hosts.Text))
	}
	names = r.lbRedirects(found["redirects"], names)
	r.lbHosts(t, found, names)
	for _, t := range r.routes {
		r.port(t, found["port"])
	}
	if network := found["network"]; network.Text != "" {
		t.set("network", network.Text, network.Label)
		r.networkNote(network)
	}
	r.lbTLS(t, found)
	r.lbService(t, found)
	r.lbUnknown(found)
	return true
}

func (r *reading) lbHosts(t *route, found map[string]Value, names []string) {
	hosts, root, passed := found["hosts"], found["context_root"], found["ssl_passthrough"]
	if len(names) == 0 && hosts.Text != "" && !t.withheld {
		r.withhold(t, hosts.Label, "all its hosts are redirected elsewhere")
	}
	key := "host"
	if r.on(passed) {
		key = "sni"
		if root.Text != "" {
			r.withhold(t, root.Label, "%s cannot be seen in TLS that is passed through", quote(root.Text))
		}
	}
	if len(names) > 0 {
		t.set(key, strings.Join(names, ","), cmpLabel(hosts))
	}
	if root.Text != "" && key == "host" {
		r.contextRoot(t, root, found["context_root_rewrite"])
	}
}

func (r *reading) lbTLS(t *route, found map[string]Value) {
	if t.get("sni") == "" {
		r.certificate(t, found["ssl_cert"])
		if r.on(found["ssl_only"]) {
			t.set("tls", "redirect", found["ssl_only"].Label)
		}
		r.sslBackend(t, found["ssl_backend"], found["ssl_backend_tls_verify"])
	}
	if found["ssl_key"].Label != "" {
		r.note("com.docker.lb.ssl_key is not needed: the key is in the store beside its certificate")
	}
}

func (r *reading) lbService(t *route, found map[string]Value) {
	if cookie := found["sticky_session_cookie"]; isToken(cookie.Text) {
		if !strings.EqualFold(cookie.Text, "none") {
			t.set("sticky", "cookie:"+cookie.Text, cookie.Label)
		}
	} else if cookie.Label != "" {
		r.problem(cookie.Label, "%s is not the name of a cookie", quote(cookie.Text))
	}
	if r.on(found["ip_hash"]) {
		t.set("balance", "source", found["ip_hash"].Label)
	}
	if cluster := found["service_cluster"]; isToken(cluster.Text) {
		t.set("instance", cluster.Text, cluster.Label)
	} else if cluster.Label != "" {
		r.withhold(t, cluster.Label, "%s is not the name of a group of front ends; write fairway.instance=NAME", quote(cluster.Text))
	}
	switch mode := found["backend_mode"]; strings.ToLower(mode.Text) {
	case "", "task", "default":
	case "vip":
		r.note("com.docker.lb.backend_mode=vip: requests go to the tasks themselves, which Consul knows to be well")
	default:
		r.problem(mode.Label, "%s is neither task nor vip; leave it out", quote(mode.Text))
	}
}

func (r *reading) lbUnknown(found map[string]Value) {
	known := []string{
		"hosts", "port", "network", "context_root", "context_root_rewrite", "ssl_only", "ssl_cert", "ssl_key", "ssl_backend",
		"ssl_backend_tls_verify", "ssl_passthrough", "sticky_session_cookie", "redirects", "backend_mode", "default_backend",
		"service_cluster", "ip_hash",
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		switch {
		case key == "websocket_endpoints":
			r.note("com.docker.lb.websocket_endpoints is not needed: websockets pass on every path")
		case !slices.Contains(known, key):
			r.problem(found[key].Label, "%s: this label is not known; leave it out or write what it means as a fairway label", quote(found[key].Text))
		}
	}
}

// lbRedirects makes a route of each "from,to;" and returns the hosts that are left. Interlock
// answers 302 and sends every path of the old host to the given URL.
func (r *reading) lbRedirects(v Value, hosts []string) []string {
	for entry := range strings.SplitSeq(v.Text, ";") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		from, to, err := lbRedirect(entry)
		if err != nil {
			r.problem(v.Label, "%s: %s; write fairway.old.host=OLD and fairway.old.redirect=302 URL", quote(entry), err)
			continue
		}
		t := r.route(r.routeName("from_"+from), v.Label)
		t.set("host", from, v.Label)
		t.set("redirect", "302 "+to, v.Label)
		hosts = slices.DeleteFunc(hosts, func(h string) bool { return h == from })
	}
	return hosts
}

func lbRedirect(entry string) (from, to string, err error) {
	source, to, ok := strings.Cut(entry, ",")
	if !ok {
		return "", "", fmt.Errorf("a redirect is from,to")
	}
	u, err := url.Parse(strings.TrimSpace(source))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || plainHost(u.Host) != nil {
		return "", "", fmt.Errorf("it comes from http://HOST")
	}
	to = strings.TrimSpace(to)
	target, err := url.Parse(to)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return "", "", fmt.Errorf("it goes to http://HOST or https://HOST")
	}
	if target.Path == "" {
		to += "/"
	}
	return strings.ToLower(u.Host), to, nil
}
