package acceptance

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"fairway/confgen/certs"
	"fairway/confgen/route"
	"fairway/internal/testbed"
	"fairway/registrator/service/dialect"
)

// The two programs meet in Consul only, so that here alone what one writes is read by the other.

// TestDialects_vocabulary: HAProxy's front end takes every translation of registrator's cases. A value
// that it refuses would be told where nobody looks who wrote the label.
func TestDialects_vocabulary(t *testing.T) {
	files, err := filepath.Glob("../../registrator/service/dialect/testdata/*.txtar")
	if err != nil || len(files) < len(dialect.Names()) {
		t.Fatalf("%d files of cases: %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(archive.Files); i += 2 {
			meta := metaOf(string(archive.Files[i].Data))
			if len(meta) == 0 {
				continue
			}
			for _, p := range route.Build(snapshot(meta), frontEnd(meta)).Problems {
				t.Errorf("%s, %s: %s: %s", filepath.Base(file), archive.Files[i-1].Name, p.Key, p.Reason)
			}
		}
	}
}

// metaOf reads the translation of a case, which stands above its problems and notes.
func metaOf(want string) map[string]string {
	meta := make(map[string]string)
	for line := range strings.Lines(want) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if ok && !strings.Contains(key, " ") {
			meta["fairway-"+strings.ReplaceAll(key, ".", "-")] = value
		}
	}
	return meta
}

// snapshot is a container of the ports that its translation names, or of one, as registrator
// registers it.
func snapshot(meta map[string]string) route.Snapshot {
	ports := map[string]bool{}
	for key, port := range meta {
		if strings.HasSuffix(key, "-port") {
			ports[port] = true
		}
	}
	if len(ports) == 0 {
		ports["80"] = true
	}
	s := route.Service{Name: "shop"}
	for port := range ports {
		s.Instances = append(s.Instances, route.Instance{
			Node: "n", ID: "shop-" + port, Address: "10.0.0.1", Port: 32768, Status: route.Passing, Meta: meta,
			Owner: "0123456789ab:" + port + "/tcp",
		})
	}
	return route.Snapshot{Services: []route.Service{s}}
}

// frontEnd is one that has what the cases name.
func frontEnd(meta map[string]string) route.Settings {
	return route.Settings{
		Proxy: route.HAProxy, Instance: meta["fairway-instance"], UserLists: []string{"auth", "staff"}, SystemAuthorities: true,
		Entrypoints:  []route.Entrypoint{{Name: "web", Port: 80}, {Name: "websecure", Port: 443, TLS: true}},
		TCPPorts:     []route.PortRange{{From: 1, To: 65535}},
		Certificates: &route.Certificates{List: []route.Certificate{{Name: meta["fairway-cert"], Hosts: []string{"*.test"}, NotAfter: time.Now().Add(time.Hour)}}},
	}
}

// TestDialects_certificates: a file that a label names has the name that the store gives it.
func TestDialects_certificates(t *testing.T) {
	cert, key := testbed.NewAuthority(t, "ca").Issue(t, time.Hour, "demo.local")
	for file, keyFile := range map[string]string{
		"demo.local.pem":           "demo.local.key",
		"demo.local.crt":           "demo.local.key",
		"demo.local.cer":           "demo.local.key",
		"demo.local.cert":          "demo.local.key",
		"demo.local/fullchain.pem": "demo.local/privkey.pem",
		"demo.local/tls.crt":       "demo.local/tls.key",
		"fullchain.pem":            "fullchain.key",
		"demo.local.d.pem":         "demo.local.d.key",
	} {
		dir := t.TempDir()
		testbed.WriteSecret(t, filepath.Join(dir, file), cert)
		testbed.WriteSecret(t, filepath.Join(dir, keyFile), key)
		store := certs.New([]string{dir}, nil)
		store.Refresh(time.Now(), false)
		held := store.Contents().Certificates
		for _, written := range []string{file, "/run/secrets/" + file} {
			if written == "/run/secrets/fullchain.pem" {
				continue // as the file of a folder, it has the folder's name
			}
			in := dialect.Input{Labels: map[string]string{"com.docker.lb.hosts": "demo.local", "com.docker.lb.ssl_cert": written}}
			named := dialect.Translate(in, dialect.Names()).Keys["cert"].Text
			if len(held) != 1 || named != held[0].Name {
				t.Errorf("%s is called %q by the label's translation, and the store has %d: %v", written, named, len(held), store.Contents().Faults)
			}
		}
	}
}
