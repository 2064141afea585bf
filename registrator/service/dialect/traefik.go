package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// traefik is what a container's labels say to Traefik, taken apart.
type traefik struct {
	*reading
	routers, services, middlewares parts // HTTP
	tcpRouters, tcpServices        parts
	network                        Value
}

// parts are named things and their settings: parts["web"]["rule"].
type parts map[string]map[string]Value

func (p parts) put(name, key string, v Value) {
	if p[name] == nil {
		p[name] = make(map[string]Value)
	}
	p[name][key] = v
}

// readTraefik reads the labels traefik.* of Traefik 2 and 3.
func readTraefik(r *reading) {
	found := r.labels("traefik.")
	enable := found["enable"]
	if on, ok := parseBool(enable.Text); len(found) == 0 || enable.Label != "" && ok && !on {
		return
	}
	t := &traefik{
		reading: r, routers: parts{}, services: parts{}, middlewares: parts{}, tcpRouters: parts{}, tcpServices: parts{},
		network: cmpValue(found["docker.network"], found["swarm.network"]),
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		t.sort(key, found[key])
	}
	old := cmpValue(found["frontend.rule"], found["frontend.hosts"], found["backend"], found["port"])
	if len(t.routers)+len(t.tcpRouters)+len(t.services)+len(t.tcpServices) == 0 && enable.Label == "" && old.Label == "" {
		return // settings that ask for nothing by themselves, such as shared middlewares
	}
	r.asked = true
	if old.Label != "" && len(t.routers)+len(t.tcpRouters) == 0 {
		r.problem(old.Label, "%s: labels of Traefik 1 are not translated; write fairway.host=NAME", quote(old.Text))
	} else if len(t.routers)+len(t.tcpRouters) == 0 {
		r.problem(cmpLabel(enable, Value{Label: "traefik"}), "no router has a rule, and Traefik's own defaultRule is not known here; give traefik.http.routers.NAME.rule, or fairway.host=NAME")
	}
	var routers []*httpRouter
	for _, name := range slices.Sorted(maps.Keys(t.routers)) {
		if router := t.router(name); router != nil {
			routers = append(routers, router)
		}
	}
	t.toTLS(routers)
	for _, router := range routers {
		t.emit(router)
	}
	for _, name := range slices.Sorted(maps.Keys(t.tcpRouters)) {
		t.tcpRouter(name)
	}
}

func cmpValue(values ...Value) Value {
	for _, v := range values {
		if v.Label != "" {
			return v
		}
	}
	return Value{}
}

// sort puts a label where it belongs.
func (t *traefik) sort(key string, v Value) {
	words := strings.SplitN(key, ".", 4)
	kinds := map[string]parts{
		"http.routers": t.routers, "http.services": t.services, "http.middlewares": t.middlewares,
		"tcp.routers": t.tcpRouters, "tcp.services": t.tcpServices,
	}
	if len(words) == 4 {
		if kind := kinds[words[0]+"."+words[1]]; kind != nil {
			kind.put(words[2], words[3], v)
			return
		}
	}
	switch key {
	case "enable", "docker.network", "swarm.network", "frontend.rule", "frontend.hosts", "backend", "port":
	case "docker.lbswarm", "swarm.lbswarm":
		t.note("%s: requests go to the tasks themselves, which Consul knows to be well", v.Label)
	default:
		t.problem(v.Label, "%s: this label is not translated; write what it means as a fairway label", quote(v.Text))
	}
}

// httpRouter is a router whose rule is understood.
type httpRouter struct {
	name, label string
	matches     []match
	values      map[string]Value // all but the conditions
	entrypoints []string
	tls         bool
	toTLS       Value // the middleware that sends clients on to TLS
}

// router reads one router; nil when it makes no route.
func (t *traefik) router(name string) *httpRouter {
	settings := t.routers[name]
	rule := settings["rule"]
	if rule.Label == "" {
		t.problem("traefik.http.routers."+name, "has no rule, and Traefik's own defaultRule is not known here; the route is withheld")
		return nil
	}
	matches, err := parseRule(rule.Text)
	if err != nil {
		t.problem(rule.Label, "the rule %s cannot be translated: %s%s", quote(rule.Text), err, withheld)
		return nil
	}
	scratch := &route{label: rule.Label, values: make(map[string]Value)}
	router := &httpRouter{name: name, label: rule.Label, matches: matches, values: scratch.values}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		t.routerSetting(router, scratch, key, settings[key])
	}
	if service := t.serviceOf(scratch, t.services, settings["service"]); service != nil {
		t.service(scratch, service)
	}
	t.lowestPort(scratch)
	if scratch.withheld {
		return nil
	}
	return router
}

func (t *traefik) routerSetting(router *httpRouter, scratch *route, key string, v Value) {
	first, rest, _ := strings.Cut(key, ".")
	switch first {
	case "rule", "service", "rulesyntax", "observability":
	case "entrypoints":
		router.entrypoints = splitList(v.Text)
		for _, name := range router.entrypoints {
			if !isToken(name) {
				t.withhold(scratch, v.Label, "%s is not the name of an entrypoint", quote(name))
			}
		}
	case "priority":
		if n, err := strconv.Atoi(v.Text); err != nil || n < -1e6 || n > 1e6 {
			t.problem(v.Label, "%s is not a priority from -1000000 to 1000000", quote(v.Text))
		} else if n != 0 {
			scratch.set("priority", v.Text, v.Label)
		}
	case "tls":
		if on, ok := parseBool(v.Text); rest != "" || on || !ok {
			router.tls = true
			scratch.set("tls", "only", v.Label)
		}
		t.routerTLS(scratch, rest, v)
	case "middlewares":
		for _, name := range splitList(v.Text) {
			t.middleware(router, scratch, strings.ToLower(name), v.Label, 0)
		}
	default:
		t.problem(v.Label, "%s: this label is not translated; write what it means as a fairway label", quote(v.Text))
	}
}

func (t *traefik) routerTLS(scratch *route, key string, v Value) {
	switch {
	case key == "options" && v.Text != "" && v.Text != "default":
		t.withhold(scratch, v.Label, "%s: options of TLS, which may ask clients for certificates, are the operator's; write fairway.client-ca=NAME", quote(v.Text))
	case key == "certresolver":
		t.problem(v.Label, "%s: certificates are not fetched; put this one into the front end's store", quote(v.Text))
	case strings.HasPrefix(key, "domains"):
		t.note("%s is not needed: certificates are found by the names in them", v.Label)
	}
}

// serviceOf finds the service of a router: the one it names, else the only one.
func (t *traefik) serviceOf(scratch *route, services parts, named Value) map[string]Value {
	name := strings.TrimSuffix(strings.ToLower(named.Text), "@docker")
	switch {
	case named.Label != "":
		if services[name] == nil {
			t.withhold(scratch, named.Label, "the service %s is not defined on this container", quote(named.Text))
		}
		return services[name]
	case len(services) > 1:
		t.withhold(scratch, scratch.label, "the container defines several services (%s) and the router names none", clip(strings.Join(slices.Sorted(maps.Keys(services)), ", ")))
		return nil
	}
	for _, only := range services {
		return only
	}
	return nil
}

// lowestPort is Traefik's choice of several ports.
func (t *traefik) lowestPort(scratch *route) {
	if scratch.get("port") == "" && len(t.Ports) > 1 {
		scratch.set("port", strconv.Itoa(int(slices.Min(t.Ports))), scratch.label)
	}
	if t.network.Text != "" {
		scratch.set("network", t.network.Text, t.network.Label)
		t.networkNote(t.network)
	}
}

func (t *traefik) service(scratch *route, settings map[string]Value) {
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		v := settings[key]
		short, ours := strings.CutPrefix(key, "loadbalancer.")
		switch {
		case !ours:
			t.withhold(scratch, v.Label, "%s: services made of other services are not translated; write fairway.group and fairway.share", quote(v.Text))
		case strings.HasPrefix(short, "healthcheck."):
			t.healthcheck(scratch, settings, strings.TrimPrefix(short, "healthcheck."), v)
		case strings.HasPrefix(short, "sticky"):
			t.sticky(scratch, settings, short, v)
		default:
			t.server(scratch, short, v)
		}
	}
}

func (t *traefik) server(scratch *route, key string, v Value) {
	switch key {
	case "server.port":
		t.port(scratch, v)
	case "server.scheme":
		switch scheme := strings.ToLower(v.Text); scheme {
		case "", "http":
		case "https", "h2c":
			scratch.set("proto", scheme, v.Label)
		default:
			t.withhold(scratch, v.Label, "%s is neither http, https nor h2c", quote(v.Text))
		}
	case "server.weight":
		if n, err := strconv.Atoi(v.Text); err != nil || n < 0 || n > 256 {
			t.problem(v.Label, "%s is not a weight from 0 to 256", quote(v.Text))
		} else {
			scratch.set("weight", v.Text, v.Label)
			t.note("%s: instances without a weight count 100, where they count 1 for Traefik", v.Label)
		}
	case "passhostheader":
		if on, ok := parseBool(v.Text); ok && !on {
			t.problem(v.Label, "%s: services get the client's Host; write fairway.headers.request=Host: NAME", quote(v.Text))
		}
	case "responseforwarding.flushinterval":
		t.note("%s is not needed: answers are passed on as they come", v.Label)
	default:
		t.problem(v.Label, "%s: this label is not translated; write what it means as a fairway label", quote(v.Text))
	}
}

func (t *traefik) healthcheck(scratch *route, settings map[string]Value, key string, v Value) {
	switch key {
	case "path":
		check := "GET " + v.Text
		if status := settings["loadbalancer.healthcheck.status"]; status.Text != "" {
			if n, err := strconv.Atoi(status.Text); err != nil || n < 100 || n > 599 {
				t.problem(status.Label, "%s is not a status", quote(status.Text))
			} else {
				check += " " + status.Text
			}
		}
		if plainPath(v.Text) != nil || strings.ContainsAny(v.Text, " ") {
			t.problem(v.Label, "%s is not a path", quote(v.Text))
		} else {
			scratch.set("check", check, v.Label)
		}
	case "status":
	case "interval", "timeout":
		d, err := duration(v.Text, time.Second)
		if err != nil {
			t.problem(v.Label, "%s: %s", quote(v.Text), err)
			return
		}
		scratch.set("check."+key, d, v.Label)
	case "method":
		if !strings.EqualFold(v.Text, "GET") {
			t.problem(v.Label, "%s: services are asked with GET; leave it out", quote(v.Text))
		}
	default:
		t.problem(v.Label, "%s: this label is not translated; services are asked at their own address and port", quote(v.Text))
	}
}

func (t *traefik) sticky(scratch *route, settings map[string]Value, key string, v Value) {
	switch key {
	case "sticky", "sticky.cookie":
		if on, ok := parseBool(v.Text); ok && on && settings["loadbalancer.sticky.cookie.name"].Text == "" {
			scratch.set("sticky", "cookie", v.Label)
		}
	case "sticky.cookie.name":
		if !isToken(v.Text) {
			t.problem(v.Label, "%s is not the name of a cookie", quote(v.Text))
			return
		}
		scratch.set("sticky", "cookie:"+v.Text, v.Label)
	default:
		if scratch.get("sticky") == "" {
			scratch.set("sticky", "cookie", v.Label)
		}
		t.note("%s: the front end chooses the attributes of its cookie", v.Label)
	}
}

// toTLS joins the usual pair of routers, of which the one on the plain entrypoint only sends
// clients on to the other.
func (t *traefik) toTLS(routers []*httpRouter) {
	for _, plain := range routers {
		if plain.toTLS.Label == "" || plain.tls {
			continue
		}
		twin := slices.IndexFunc(routers, func(o *httpRouter) bool {
			return o.tls && o.matches != nil && sameMatches(o.matches, plain.matches)
		})
		switch {
		case twin >= 0:
			secure := routers[twin]
			secure.toTLS = plain.toTLS
			if len(secure.entrypoints) > 0 && len(plain.entrypoints) > 0 {
				secure.entrypoints = append(secure.entrypoints, plain.entrypoints...)
			} else {
				secure.entrypoints = nil
			}
			t.note("router %s only sends clients on to router %s; they are one route with tls=redirect", plain.name, secure.name)
			plain.matches = nil
		case len(plain.entrypoints) == 1:
			t.problem(plain.toTLS.Label, "router %s sends clients on to TLS, where no router of this container has the same rule; write fairway.tls=redirect on a route of both entrypoints%s", clip(plain.name), withheld)
			plain.matches = nil
		}
	}
}

// emit makes the routes of a router: one for each combination of conditions that its rule allows.
func (t *traefik) emit(router *httpRouter) {
	if router.toTLS.Label != "" {
		router.values["tls"] = Value{"redirect", router.toTLS.Label}
	}
	if len(router.entrypoints) > 0 {
		list := slices.Clone(router.entrypoints)
		slices.Sort(list)
		router.values["entrypoints"] = Value{strings.Join(slices.Compact(list), ","), router.label}
	}
	for _, m := range router.matches {
		out := t.route(t.routeName(router.name), router.label)
		maps.Copy(out.values, router.values)
		for key, value := range m.keys() {
			out.set(key, value, router.label)
		}
		t.stripPaths(out, m)
	}
}

// stripPaths turns the prefixes to strip, kept as a list so far, into what strip takes.
func (t *traefik) stripPaths(out *route, m match) {
	v, given := out.values["strip"]
	if !given {
		return
	}
	prefixes := splitList(v.Text)
	if len(prefixes) == 1 {
		return
	}
	own := slices.Clone(m.paths)
	slices.Sort(own)
	slices.Sort(prefixes)
	if slices.Equal(own, slices.Compact(prefixes)) {
		out.set("strip", "true", v.Label)
		return
	}
	t.withhold(out, v.Label, "%s: several prefixes are stripped only where they are the paths of the rule; write fairway.strip=/PREFIX", quote(v.Text))
}

// tcpRouter reads a router of TCP, of which TLS that is passed through by name can be translated.
func (t *traefik) tcpRouter(name string) {
	settings := t.tcpRouters[name]
	rule := settings["rule"]
	label := cmpLabel(rule, Value{Label: "traefik.tcp.routers." + name})
	out := t.route(t.routeName("tcp_"+name), label)
	hosts, err := parseSNI(rule.Text)
	passed, _ := parseBool(settings["tls.passthrough"].Text)
	switch {
	case err != nil:
		t.withhold(out, label, "the rule %s cannot be translated: %s", quote(rule.Text), err)
		return
	case slices.Contains(hosts, "*"):
		t.withhold(out, label, "the rule %s takes all of an entrypoint, whose port is not known here; write fairway.tcp=PORT", quote(rule.Text))
		return
	case !passed:
		t.withhold(out, label, "the rule %s is for TLS that ends at the front end; only TLS passed through (tls.passthrough=true) can be routed by name", quote(rule.Text))
		return
	}
	out.set("sni", strings.Join(hosts, ","), label)
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		if v := settings[key]; !slices.Contains([]string{"rule", "service", "tls", "tls.passthrough", "entrypoints", "priority"}, key) {
			t.withhold(out, v.Label, "%s cannot be translated", quote(v.Text))
		}
	}
	if v := settings["entrypoints"]; v.Text != "" {
		out.set("entrypoints", strings.Join(splitList(v.Text), ","), v.Label)
	}
	service := t.serviceOf(out, t.tcpServices, settings["service"])
	for _, key := range slices.Sorted(maps.Keys(service)) {
		switch v := service[key]; key {
		case "loadbalancer.server.port":
			t.port(out, v)
		case "loadbalancer.proxyprotocol.version":
			if v.Text != "1" && v.Text != "2" {
				t.problem(v.Label, "%s is not a version of the PROXY protocol", quote(v.Text))
				continue
			}
			out.set("proxy-protocol", "v"+v.Text, v.Label)
		default:
			t.problem(v.Label, "%s: this label is not translated", quote(v.Text))
		}
	}
	t.lowestPort(out)
}

// parseSNI reads a rule made of HostSNI.
func parseSNI(rule string) ([]string, error) {
	e, err := parseExpression(rule)
	if err != nil {
		return nil, err
	}
	var hosts []string
	var walk func(expression) error
	walk = func(e expression) error {
		switch {
		case e.operator == "||":
			for _, part := range e.parts {
				if err := walk(part); err != nil {
					return err
				}
			}
			return nil
		case strings.EqualFold(e.name, "HostSNI"):
			for _, host := range e.arguments {
				if host != "*" && plainHost(strings.TrimPrefix(host, "*.")) != nil {
					return fmt.Errorf("%s is not the name of a host", quote(host))
				}
				hosts = append(hosts, strings.ToLower(host))
			}
			return nil
		}
		return fmt.Errorf("only HostSNI(`NAME`) and || can be translated")
	}
	if err := walk(e); err != nil {
		return nil, err
	}
	return hosts, nil
}
