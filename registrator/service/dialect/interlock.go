package dialect

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// readInterlock reads Interlock in its three forms, of which one counts: the labels com.docker.lb.*
// of its second version, the labels interlock.* of its first, and INTERLOCK_DATA from before.
func readInterlock(r *reading) {
	switch {
	case r.dockerLB():
	case r.interlockLabels():
	case r.env["INTERLOCK_DATA"] != "":
		r.interlockData(r.env["INTERLOCK_DATA"])
	}
}

// wishes are what Interlock 1 was told of a container, each with where it was written.
type wishes struct {
	hostname, domain       Value
	aliases, options       []Value
	port, network          Value
	contextRoot, rewrite   Value
	sslOnly, sslBackend    Value
	sslVerify, cert        Value
	check, checkInterval   Value
	balance, ipHash, where Value
}

// numbered are "name" and "name.N" in their order.
func numbered(found map[string]Value, name string) []Value {
	var list []Value
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if key == name || strings.HasPrefix(key, name+".") {
			list = append(list, found[key])
		}
	}
	return list
}

// known are the labels of Interlock 1 that have a meaning here, and those that need none.
var known = []string{
	"hostname", "domain", "alias_domain", "port", "network", "ssl", "ssl_cert", "ssl_cert_key", "ssl_only", "ssl_backend",
	"ssl_backend_tls_verify", "websocket_endpoint", "health_check", "health_check_interval", "balance_algorithm",
	"backend_option", "ip_hash", "context_root", "context_root_rewrite",
}

func (r *reading) interlockLabels() bool {
	found := r.labels("interlock.")
	for _, key := range slices.Sorted(maps.Keys(found)) {
		first, _, _ := strings.Cut(key, ".")
		if first == "ext" || first == "app" { // Interlock's marks on its own containers
			delete(found, key)
		}
	}
	if len(found) == 0 {
		return false
	}
	r.asked = true
	for _, key := range slices.Sorted(maps.Keys(found)) {
		first, _, _ := strings.Cut(key, ".")
		if !slices.Contains(known, first) {
			r.problem(found[key].Label, "%s: this label is not known; leave it out or write what it means as a fairway label", quote(found[key].Text))
		}
	}
	w := wishes{
		hostname: found["hostname"], domain: found["domain"], aliases: numbered(found, "alias_domain"), port: found["port"],
		network: found["network"], contextRoot: found["context_root"], rewrite: found["context_root_rewrite"],
		sslOnly: found["ssl_only"], sslBackend: found["ssl_backend"], sslVerify: found["ssl_backend_tls_verify"], cert: found["ssl_cert"],
		check: found["health_check"], checkInterval: found["health_check_interval"], balance: found["balance_algorithm"],
		ipHash: found["ip_hash"], options: numbered(found, "backend_option"),
		where: Value{Label: "interlock.hostname"},
	}
	if len(numbered(found, "websocket_endpoint")) > 0 {
		r.note("interlock.websocket_endpoint is not needed: websockets pass on every path")
	}
	if found["ssl_cert_key"].Label != "" {
		r.note("interlock.ssl_cert_key is not needed: the key is in the store beside its certificate")
	}
	r.interlock(w)
	return true
}

// notNeeded is what INTERLOCK_DATA may say and nobody has to, with the reason.
var notNeeded = map[string]string{
	"ssl":                 "hosts are served with TLS where the store has a certificate for them",
	"ssl_certificate_key": "the key is in the store beside its certificate",
	"websocket_endpoints": "websockets pass on every path",
}

// interlockData reads INTERLOCK_DATA, the JSON of Interlock's plugins.
func (r *reading) interlockData(text string) {
	const label = "INTERLOCK_DATA"
	r.asked = true
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		r.problem(label, "%s is not a JSON object: %s", quote(text), err)
		return
	}
	w := wishes{where: Value{Label: label}}
	texts := map[string]*Value{
		"hostname": &w.hostname, "domain": &w.domain, "port": &w.port, "check": &w.check, "check_interval": &w.checkInterval,
		"balance_algorithm": &w.balance, "ssl_only": &w.sslOnly, "ssl_backend": &w.sslBackend,
		"ssl_backend_tls_verify": &w.sslVerify, "ssl_certificate": &w.cert,
	}
	lists := map[string]*[]Value{"alias_domains": &w.aliases, "backend_options": &w.options}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		err := error(nil)
		switch {
		case texts[key] != nil:
			texts[key].Label = label
			texts[key].Text, err = jsonText(raw[key])
		case lists[key] != nil:
			var items []string
			if json.Unmarshal(raw[key], &items) != nil {
				err = errors.New("is not a list of texts")
			}
			for _, item := range items {
				*lists[key] = append(*lists[key], Value{item, label})
			}
		case notNeeded[key] != "":
			r.note("%s in %s is not needed: %s", key, label, notNeeded[key])
		default:
			r.problem(label, "%s is not known; leave it out", quote(key))
		}
		if err != nil {
			r.problem(label, "%s: %s %s", key, quote(string(raw[key])), err)
			return // what was meant is not known, and may be the host
		}
	}
	r.interlock(w)
}

// jsonText reads a string, a number or a boolean.
func jsonText(raw json.RawMessage) (string, error) {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return strings.TrimSpace(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	}
	return "", errors.New("is neither a text nor a number")
}

// interlock makes the routes: the context root on every host, or hostname.domain; and the aliases.
func (r *reading) interlock(w wishes) {
	var names []Value
	switch {
	case w.contextRoot.Text != "":
		t := r.route(r.routeName("context"), w.contextRoot.Label)
		r.contextRoot(t, w.contextRoot, w.rewrite)
		r.interlockSettings(t, w)
	case w.domain.Text == "" && len(w.aliases) == 0:
		r.problem(cmpLabel(w.domain, w.hostname, w.where), "nothing to route: Interlock's host is hostname.domain, and a container's own name and domain are not read; give both, or fairway.host=NAME")
		return
	case w.domain.Text == "":
		r.problem(cmpLabel(w.hostname, w.where), "names no domain; only the aliases are routed")
	case w.hostname.Text == "":
		r.problem(w.domain.Label, "%s has no hostname beside it, and the container's own is not read; give a hostname, or fairway.host=NAME", quote(w.domain.Text))
	case w.hostname.Text == w.domain.Text:
		names = append(names, w.domain)
	default:
		names = append(names, Value{w.hostname.Text + "." + w.domain.Text, w.domain.Label})
	}
	names = append(names, w.aliases...)
	if len(names) == 0 {
		return
	}
	var hosts []string
	for _, name := range names {
		for _, host := range r.hosts(name.Label, splitList(name.Text)) {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	t := r.route(r.routeName("host"), names[0].Label)
	if len(hosts) == 0 {
		r.withhold(t, names[0].Label, "names no host that can be routed")
		return
	}
	t.set("host", strings.Join(hosts, ","), names[0].Label)
	r.interlockSettings(t, w)
}

// cmpLabel is the first label that is there.
func cmpLabel(values ...Value) string {
	for _, v := range values {
		if v.Label != "" {
			return v.Label
		}
	}
	return ""
}

func (r *reading) contextRoot(t *route, root, rewrite Value) {
	if err := plainPath(root.Text); err != nil {
		r.withhold(t, root.Label, "%s: %s", quote(root.Text), err)
		return
	}
	t.set("path", root.Text, root.Label)
	if r.on(rewrite) && strings.Trim(root.Text, "/") != "" {
		t.set("strip", "true", rewrite.Label)
	}
}

// on reads a switch. Interlock 1 took its mere presence for yes, even "false", which nobody meant.
func (r *reading) on(v Value) bool {
	if v.Label == "" {
		return false
	}
	value, ok := parseBool(v.Text)
	if !ok && v.Text != "" {
		r.problem(v.Label, "%s is neither true nor false; taken as true", quote(v.Text))
	}
	return value || !ok
}

func (r *reading) interlockSettings(t *route, w wishes) {
	r.port(t, w.port)
	if w.network.Text != "" {
		t.set("network", w.network.Text, w.network.Label)
		r.networkNote(w.network)
	}
	r.certificate(t, w.cert)
	if r.on(w.sslOnly) {
		t.set("tls", "redirect", w.sslOnly.Label)
	}
	r.sslBackend(t, w.sslBackend, w.sslVerify)
	r.healthCheck(t, w.check)
	if w.checkInterval.Text != "" {
		if interval, err := duration(w.checkInterval.Text, time.Millisecond); err != nil {
			r.problem(w.checkInterval.Label, "%s: %s", quote(w.checkInterval.Text), err)
		} else {
			t.set("check.interval", interval, w.checkInterval.Label)
		}
	}
	r.balance(t, w.balance)
	if r.on(w.ipHash) {
		t.set("balance", "source", w.ipHash.Label)
	}
	for _, option := range w.options {
		r.backendOption(t, option)
	}
}

func (r *reading) networkNote(v Value) {
	r.note("%s: the front end is not put on the network %s by itself; it must be on it", v.Label, quote(v.Text))
}

func (r *reading) port(t *route, v Value) {
	if v.Label == "" {
		return
	}
	if err := parsePort(v.Text); err != nil {
		r.withhold(t, v.Label, "%s: %s", quote(v.Text), err)
		return
	}
	t.set("port", v.Text, v.Label)
}

// certificate takes a file or secret by the name that the front end's store gives it.
func (r *reading) certificate(t *route, v Value) {
	if name := storeName(v.Text); isToken(name) {
		t.set("cert", name, v.Label)
	} else if v.Label != "" {
		r.problem(v.Label, "%s: a certificate is named by letters, digits, dots, hyphens and underscores", quote(v.Text))
	}
}

// sslBackend speaks TLS to the service, which Interlock verified only when told.
func (r *reading) sslBackend(t *route, backend, verify Value) {
	if !r.on(backend) {
		return
	}
	t.set("proto", "https", backend.Label)
	switch strings.ToLower(verify.Text) {
	case "", "none":
		t.set("backend.verify", "none", cmpLabel(verify, backend))
	case "required", "require", "optional", "on", "true":
		t.set("backend.verify", "system", verify.Label)
	default:
		r.withhold(t, verify.Label, "%s is neither none nor required; write fairway.backend.verify=none, system or a CA's name", quote(verify.Text))
	}
}

// healthCheck takes "httpchk GET /path" of HAProxy.
func (r *reading) healthCheck(t *route, v Value) {
	if v.Label == "" {
		return
	}
	fields := strings.Fields(strings.TrimPrefix(v.Text, "option "))
	switch {
	case len(fields) == 1 && fields[0] == "tcp-check":
		t.set("check", "tcp", v.Label)
	case len(fields) >= 3 && len(fields) <= 4 && fields[0] == "httpchk" && fields[1] == "GET" && plainPath(fields[2]) == nil:
		t.set("check", "GET "+fields[2], v.Label)
	default:
		r.problem(v.Label, "%s cannot be translated; write fairway.check=GET /path", quote(v.Text))
	}
}

// balance takes HAProxy's names of algorithms.
func (r *reading) balance(t *route, v Value) {
	name, header := "", ""
	if inside, ok := strings.CutPrefix(v.Text, "hdr("); ok {
		header, _ = strings.CutSuffix(inside, ")")
	}
	switch {
	case v.Label == "":
		return
	case slices.Contains([]string{"roundrobin", "leastconn", "random", "source", "uri"}, v.Text):
		name = v.Text
	case v.Text == "static-rr":
		name = "roundrobin"
	case isToken(header):
		name = "header:" + header
	default:
		r.problem(v.Label, "%s cannot be translated; write fairway.balance=roundrobin, leastconn, random, source, uri or header:NAME", quote(v.Text))
		return
	}
	t.set("balance", name, v.Label)
}

// backendOption takes an option of HAProxy's backends.
func (r *reading) backendOption(t *route, v Value) {
	name, _, _ := strings.Cut(strings.TrimPrefix(v.Text, "option "), " ")
	switch name {
	case "httpchk", "tcp-check":
		r.healthCheck(t, v)
	case "forwardfor", "redispatch", "http-server-close", "http-keep-alive", "forceclose", "httpclose", "httplog":
		r.note("%s: %s is not needed: the front end does what is right by itself", v.Label, quote(v.Text))
	default:
		r.problem(v.Label, "%s is an option of HAProxy that has no label; if it must be, fairway.snippet.haproxy", quote(v.Text))
	}
}
