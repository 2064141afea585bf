package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway/internal/daemon"
)

// estate is a Docker Engine that runs one container for each dialect, and two without any, of which
// one is a Swarm task's.
var estate = map[string]spoken{
	"shop": {
		env:    []string{"VIRTUAL_HOST=shop.test", "VIRTUAL_PORT=8080", "VIRTUAL_PROTO=https"},
		labels: map[string]string{"fairway.proto": "h2c"},
	},
	"www": {labels: map[string]string{
		"interlock.hostname": "www", "interlock.domain": "a.test",
		"interlock.ssl_cert": "a.pem", "interlock.backend_option": "http-no-delay",
	}},
	"tags": {env: []string{"SERVICE_TAGS=urlprefix-f.test/"}},
	"api": {labels: map[string]string{
		"traefik.http.routers.api.rule":  "Host(`api.test`) && !PathPrefix(`/admin`)",
		"traefik.http.routers.open.rule": "Host(`open.test`)",
	}},
	"db":  {},
	"job": {labels: map[string]string{"com.docker.swarm.task.id": "t1", "com.docker.swarm.service.id": "s1"}},
}

type spoken struct {
	env    []string
	labels map[string]string
}

func idOf(name string) string { return strings.Repeat(fmt.Sprintf("%02x", name[0]), 32) }

// serveEstate answers Docker's API as far as explain asks, after a change of the answers by path.
// Every container publishes two ports, so that a translation told for each would stand there twice.
func serveEstate(t *testing.T, change func(answers map[string]any)) (address string) {
	t.Helper()
	document := func(name string) map[string]any {
		published := map[string]any{"80/tcp": []any{map[string]string{"HostPort": "32768"}}, "8080/tcp": []any{map[string]string{"HostPort": "32769"}}}
		return map[string]any{
			"Id": idOf(name), "Name": "/" + name, "Names": []string{"/" + name}, "Image": "web",
			"State":      map[string]any{"Status": "running", "Running": true, "StartedAt": "2026-01-02T03:04:05Z"},
			"Config":     map[string]any{"Image": "web", "Env": estate[name].env, "Labels": estate[name].labels},
			"HostConfig": map[string]any{}, "NetworkSettings": map[string]any{"Ports": published},
		}
	}
	answers := map[string]any{"/info": map[string]any{"ID": "engine", "Name": "host"}, "/_ping": nil}
	var list []any
	for name := range estate {
		d := document(name)
		answers[fmt.Sprintf("/containers/%s/json", d["Id"])] = d
		list = append(list, map[string]any{"Id": d["Id"], "Names": d["Names"], "State": "running"})
	}
	answers["/containers/json"] = list
	change(answers)
	version := regexp.MustCompile(`^/v[0-9.]+`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[version.ReplaceAllString(r.URL.Path, "")]
		if !known {
			http.Error(w, `{"message":"broken"}`, http.StatusInternalServerError)
			return
		}
		w.Header().Set("Api-Version", "1.41")
		_ = json.NewEncoder(w).Encode(answer) // the client says what it lacks
	}))
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

// translations is what explain --dialect says of each container of the estate.
var translations = map[string]string{
	"shop": `shop
  routing         VIRTUAL_PROTO is read as fairway.backend.verify=none (nginx-proxy)
  routing         VIRTUAL_HOST is read as fairway.group=shop.test/ (nginx-proxy)
  routing         VIRTUAL_HOST is read as fairway.host=shop.test (nginx-proxy)
  routing         VIRTUAL_PORT is read as fairway.port=8080 (nginx-proxy)
  routing         VIRTUAL_PROTO is not read, because fairway.proto says the same key
`,
	"www": `www
  routing         interlock.ssl_cert is read as fairway.cert=a (interlock)
  routing         interlock.domain is read as fairway.group=www.a.test/ (interlock)
  routing         interlock.domain is read as fairway.host=www.a.test (interlock)
`,
	"tags": `tags
  routing         SERVICE_TAGS is read as fairway.group=f.test/ (fabio)
  routing         SERVICE_TAGS is read as fairway.host=f.test (fabio)
`,
	"api": `api
  routing         traefik.http.routers.open.rule is read as fairway.host=open.test (traefik)
  routing         traefik.http.routers.open.rule is read as fairway.port=80 (traefik)
`,
	"db": `db
  routing         nothing is read that was written for another front end
`,
	"job": `job
  routing         nothing is read that was written for another front end
`,
}

// The problems quote what cannot be translated.
const (
	problemOfAPI = "problem: container api, traefik.http.routers.api.rule: the rule \"Host(`api.test`) && !PathPrefix(`/admin`)\" cannot be translated: ! cannot be translated; the route is withheld, because serving it without would do what was not asked for\n"
	problemOfWWW = "problem: container www, interlock.backend_option: \"http-no-delay\" is an option of HAProxy that has no label; if it must be, fairway.snippet.haproxy\n"
)

// runExplain runs the command as a user does.
func runExplain(engine string, args ...string) (said string, code int) {
	var out strings.Builder
	app := newApp()
	app.Writer = &out
	nobody := "http://127.0.0.1:1" // in Consul's place: only a Swarm's worker asks
	args = append([]string{"registrator", "--docker-host", engine, "--consul-addr", nobody, "--ip", "192.0.2.1", "explain"}, args...)
	code = daemon.Main(app, permute(args, flags()))
	return out.String(), code
}

// TestExplain_dialect: each container's translation is told once, whatever its ports, and of the
// container that is asked for alone.
func TestExplain_dialect(t *testing.T) {
	engine := serveEstate(t, func(map[string]any) {})
	for args, want := range map[string]string{
		"--dialect shop":                    translations["shop"],
		"www --dialect":                     translations["www"] + problemOfWWW,
		"--dialect tags":                    translations["tags"],
		"--dialect api":                     translations["api"] + problemOfAPI,
		"--dialect db":                      translations["db"],
		"--dialect --dialects interlock db": translations["db"],
		"--dialect --dialects none www":     strings.Replace(translations["db"], "db", "www", 1),
		"--dialect --all": translations["api"] + translations["db"] + translations["job"] + translations["shop"] + translations["tags"] +
			translations["www"] + problemOfAPI + problemOfWWW,
	} {
		if got, code := runExplain(engine, strings.Fields(args)...); code != daemon.ExitDone || got != want {
			t.Errorf("explain %s ends with %d, -want +got:\n%s", args, code, cmp.Diff(want, got))
		}
	}
	if got, code := runExplain(engine, "--dialect", "nobody"); code != daemon.ExitFailure || got != "" {
		t.Errorf("of a container that is not there explain --dialect ends with %d and says:\n%s", code, got)
	}
}

// TestExplain_dialectUnread: what could not be read is not told as saying nothing.
func TestExplain_dialectUnread(t *testing.T) {
	engine := serveEstate(t, func(answers map[string]any) { delete(answers, "/containers/"+idOf("www")+"/json") })
	got, code := runExplain(engine, "--dialect", "www")
	if code != daemon.ExitDone || !strings.HasPrefix(got, "www\n  routing         not known: inspect container www: ") || strings.Count(got, "\n") != 2 {
		t.Errorf("explain --dialect ends with %d and says:\n%s", code, got)
	}
	if got, _ := runExplain(engine, "--dialect", "db"); got != translations["db"] {
		t.Errorf("of another container:\n%s", got)
	}
}

// TestExplain_dialectOfSwarm: on a worker that cannot learn what Swarm services say the command fails,
// after it has told what the containers' own labels become.
func TestExplain_dialectOfSwarm(t *testing.T) {
	engine := serveEstate(t, func(answers map[string]any) {
		answers["/info"] = map[string]any{"ID": "engine", "Name": "host", "Swarm": map[string]string{"NodeID": "n1", "LocalNodeState": "active"}}
	})
	if got, code := runExplain(engine, "--dialect", "job"); code != daemon.ExitFailure || got != translations["job"] {
		t.Errorf("explain --dialect ends with %d and says:\n%s", code, got)
	}
}
