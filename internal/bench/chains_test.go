//go:build bench

package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// chain is one way from the Docker Engine to the front end.
type chain struct {
	name  string
	start func(*lab)
}

// chains returns Fairway's and, where its parts are at hand, the predecessors'. They are looked
// for in $PEER_REGISTRATOR and $PEER_CONSUL_TEMPLATE, then on PATH.
func chains(b *testing.B) []chain {
	all := []chain{{"fairway", fairway}}
	registrator, template := peer("PEER_REGISTRATOR", "registrator"), peer("PEER_CONSUL_TEMPLATE", "consul-template")
	if registrator == "" || template == "" {
		b.Log("no gliderlabs/registrator and consul-template on PATH or in $PEER_REGISTRATOR and $PEER_CONSUL_TEMPLATE: measuring Fairway alone")
		return all
	}
	return append(all, chain{"registrator+consul-template", func(l *lab) { predecessors(l, registrator, template) }})
}

func peer(variable, name string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// programs compiles Fairway's programs once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fairway-bench-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./registrator", "./confgen")
	cmd.Dir = testbed.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return dir, err
})

func fairway(l *lab) {
	bin, err := programs()
	if err != nil {
		l.b.Fatal(err)
	}
	l.spawn(filepath.Join(bin, "registrator"), "--consul-addr", l.consul.Addr, "--node-name", "bench-node",
		"--ip", l.engine.Address, "--http-addr", "off")
	_, port, _ := net.SplitHostPort(l.front)
	l.spawn(filepath.Join(bin, "confgen"), "--consul-addr", l.consul.Addr, "--dir", l.dir,
		"--entrypoint", "web=127.0.0.1:"+port, "--http-addr", "off")
	config := filepath.Join(l.dir, "haproxy.cfg")
	wrote(l, config)
	l.spawn(testbed.Program(l.b, "haproxy"), "-W", "-S", filepath.Join(l.dir, "master.sock")+",mode,600", "-f", config)
}

// predecessors is the usual set-up of its time: every change is a new file and a reload.
func predecessors(l *lab, registrator, template string) {
	l.spawn(registrator, "-ip", l.engine.Address, "consul://"+l.consul.Addr)
	_, port, _ := net.SplitHostPort(l.front)
	config, pid := filepath.Join(l.dir, "peer.cfg"), filepath.Join(l.dir, "peer.pid")
	source := filepath.Join(l.dir, "peer.ctmpl")
	if err := os.WriteFile(source, []byte(strings.ReplaceAll(peerTemplate, "PORT", port)), 0o600); err != nil {
		l.b.Fatal(err)
	}
	reload := fmt.Sprintf("sh -c 'test ! -e %s || kill -USR2 $(cat %s) || true'", pid, pid)
	l.spawn(template, "-consul-addr", l.consul.Addr, "-template", source+":"+config+":"+reload)
	wrote(l, config)
	l.spawn(testbed.Program(l.b, "haproxy"), "-W", "-p", pid, "-f", config)
}

// peerFront is what every template of consul-template begins with.
const peerFront = `global
    hard-stop-after 30s
defaults
    mode http
    option redispatch
    retries 3
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 10s
frontend web
    bind 127.0.0.1:PORT
`

const peerTemplate = peerFront + `    default_backend bench
backend bench
    balance roundrobin
{{range service "bench"}}    server {{.ID | replaceAll ":" "_"}} {{.Address}}:{{.Port}} check inter 2s
{{end}}`

func wrote(l *lab, file string) {
	testbed.Eventually(l.b, 30*time.Second, file+" is written", func() error {
		_, err := os.Stat(file)
		return err
	})
}
