//go:build real

package ctmpl

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/confgen/render"
	"fairway/internal/testbed"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/go-hclog"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "have consul-template, named by PEER_CONSUL_TEMPLATE, write the golden files")

// world fills a catalog with what templates look at.
func world(t *testing.T, c *api.Client) {
	t.Helper()
	put := func(node, address, service, id, host string, port int, status string, tags []string, meta map[string]string) {
		t.Helper()
		_, err := c.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: address, NodeMeta: map[string]string{"rack": "r-" + node}, TaggedAddresses: map[string]string{"wan": "198.51.100.1"},
			Service: &api.AgentService{ID: id, Service: service, Address: host, Port: port, Tags: tags, Meta: meta},
			Check:   &api.AgentCheck{Node: node, CheckID: "c:" + id, Name: "container", Status: status, ServiceID: id},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	put("n2", "10.0.0.2", "web", "web-2", "10.1.0.2", 8081, "passing", []string{"release", "blue"}, map[string]string{"version": "2", "zone": "eu/west"})
	put("n1", "10.0.0.1", "web", "web-1", "10.1.0.1", 8080, "passing", []string{"release"}, map[string]string{"version": "10"})
	put("n1", "10.0.0.1", "web", "web-0", "", 8080, "warning", []string{"canary", "a=b"}, nil)
	put("n3", "10.0.0.3", "web", "web-3", "10.1.0.3", 8080, "critical", nil, nil)
	put("n3", "10.0.0.3", "db", "db", "fd00::3", 5432, "passing", []string{`it's "<odd>"`}, nil)
	put("n1", "10.0.0.1", "cache_1", "cache", "10.1.0.9", 6379, "passing", nil, map[string]string{"version": "x"})
	for key, value := range map[string]string{
		"cfg/mode": "http", "cfg/maxconn": "400", "cfg/empty": "", "cfg/timeouts/connect": "5s", "cfg/timeouts/client": "50s",
		"cfg/": "", "cfg/json": `{"b": [1, 2.5, "x<y"], "a": {"n": null, "t": true}}`, "cfg/yaml": "a: 1\nb:\n- x\n- 2\n", "cfg/deep/er/leaf": "1", "cfg/number": "42",
	} {
		if _, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte(value), Flags: 7}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// ours renders a template the way confgen does: executes it and follows what it asks for until
// nothing is missing.
func ours(t *testing.T, c *api.Client, name, text string) (string, error) {
	t.Helper()
	tmpl, err := Parse(name, text, render.Quoting())
	if err != nil {
		return "", err
	}
	wake := make(chan struct{}, 1)
	f := NewFollower(c, 8, hclog.NewNullLogger(), func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	defer func() { cancel(); <-ended }()
	for {
		r, err := tmpl.Execute(f.Recall)
		if err != nil || r.Complete() {
			return string(r.Output), err
		}
		f.Want(t, r.Used, false)
		select {
		case <-wake:
		case <-ctx.Done():
			return "", fmt.Errorf("still waiting for %v %v: %v", r.Pending, r.Absent, f.Failing())
		}
	}
}

// peer renders a template with consul-template.
func peer(t *testing.T, program, consul, text string) string {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.ctmpl"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-consul-addr", consul, "-once", "-template", in+":"+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("consul-template: %v: %s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A template prints the same bytes here and in consul-template. The golden files were written by
// consul-template, as they say themselves; where it is at hand (PEER_CONSUL_TEMPLATE), it is asked
// again.
func TestEqual_F68_sameBytesAsConsulTemplate(t *testing.T) {
	server := testbed.Consul(t)
	world(t, server.Client)
	t.Setenv("FAIRWAY_TEST", "of the environment")
	program := os.Getenv("PEER_CONSUL_TEMPLATE")
	if *update && program == "" {
		t.Fatal("-update: golden files are written by consul-template; name it with PEER_CONSUL_TEMPLATE")
	}
	// Consul's own service listens on a port that is another one each time.
	own, _, err := server.Client.Catalog().Service("consul", "", nil)
	if err != nil || len(own) != 1 {
		t.Fatalf("consul's own service: %v, %v", own, err)
	}
	stable := strings.NewReplacer(fmt.Sprintf(":%d", own[0].ServicePort), ":RPC", own[0].Node, "NODE")
	files, err := filepath.Glob("testdata/equal/*.txtar")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := string(archive.Files[0].Data)
			got, err := ours(t, server.Client, file, text)
			if err != nil {
				t.Fatal(err)
			}
			if program != "" {
				theirs := peer(t, program, server.Addr, text)
				if diff := cmp.Diff(theirs, got); diff != "" {
					t.Errorf("-consul-template +fairway:\n%s", diff)
				}
				if *update {
					golden := txtar.File{Name: "consul-template 0.41.1", Data: []byte(stable.Replace(theirs))}
					archive.Files = append(archive.Files[:1], golden)
					if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(archive.Files) != 2 {
				t.Fatal("no golden output: -update has consul-template write it")
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), stable.Replace(got)); diff != "" {
				t.Errorf("-golden +fairway:\n%s", diff)
			}
		})
	}
}
