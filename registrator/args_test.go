package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"fairway/internal/consul"
	"fairway/internal/daemon"
)

func TestPermute(t *testing.T) {
	for in, want := range map[string]string{
		"":                          "",
		"-internal consul://h:8500": "-internal -- consul://h:8500",
		"consul://h:8500 -internal": "-internal -- consul://h:8500",
		"-ip 10.0.0.1 consul://h -ttl 9 -cleanup": "-ip 10.0.0.1 -ttl 9 -cleanup -- consul://h",
		"--ip=10.0.0.1 consul://h":                "--ip=10.0.0.1 -- consul://h",
		"explain web --internal":                  "explain --internal -- web",
		"-ip 10.0.0.1 explain web":                "explain -ip 10.0.0.1 -- web",
		"explain --all":                           "explain --all",
		"-tags explain explain web":               "explain -tags explain -- web",
		"--bogus consul://h":                      "--bogus -- consul://h",
		"-- -odd":                                 "-- -odd",
	} {
		got := permute(append([]string{"registrator"}, strings.Fields(in)...), flags())
		if !slices.Equal(got[1:], strings.Fields(want)) {
			t.Errorf("%q becomes %q, want %q", in, got[1:], want)
		}
	}
}

// parse runs the command line as far as its Options.
func parse(t *testing.T, args ...string) (opt Options, notes []note, code int) {
	t.Helper()
	app := newApp()
	app.Action = func(c *cli.Context) (err error) {
		notes = notesOf(c)
		opt, err = optionsFrom(c)
		return err
	}
	return opt, notes, daemon.Main(app, permute(append([]string{"registrator"}, args...), flags()))
}

func TestReadURI(t *testing.T) {
	for uri, want := range map[string]string{
		"consul://10.0.0.1:8500":         "http://10.0.0.1:8500",
		"consul://":                      "http://" + consul.DefaultAddress,
		"consul://10.0.0.1:8500/":        "http://10.0.0.1:8500",
		"consul-tls://consul.test:8501":  "https://consul.test:8501",
		"consul-unix:///run/consul.sock": "unix:///run/consul.sock",
		"consul://h:8500/prefix":         "",
		"consul-unix://":                 "",
		"etcd://h:4001":                  "",
		"h:8500":                         "",
	} {
		opt, _, code := parse(t, uri)
		switch {
		case want == "" && code != daemon.ExitUsage:
			t.Errorf("%s: exit code %d", uri, code)
		case want != "" && (code != 0 || !slices.Equal(opt.Consul.Addresses, []string{want})):
			t.Errorf("%s: exit code %d, addresses %q, want %q", uri, code, opt.Consul.Addresses, want)
		}
	}
}

func TestOptions_whatGliderlabsUsersWrite(t *testing.T) {
	opt, notes, code := parse(t, strings.Fields("-ip 10.0.0.5 -internal -explicit -useIpFromLabel ip -tags a,b -resync 600 "+
		"-deregister on-success -cleanup -ttl 30 -ttl-refresh 10 -retry-attempts -1 -retry-interval 1000 consul://c:8500")...)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s := opt.Service
	if opt.IP != "10.0.0.5" || !s.Internal || !s.Explicit || s.IPLabel != "ip" || len(s.Tags) != 2 ||
		opt.Resync.Seconds() != 600 || s.Deregister != "on-success" || !opt.Docker.Exited {
		t.Errorf("options %+v", opt)
	}
	if len(notes) != len(obsolete) {
		t.Errorf("%d notes on %d options that are not needed: %v", len(notes), len(obsolete), notes)
	}
}

func TestOptions_refused(t *testing.T) {
	for _, args := range []string{
		"--mode server", "--mode agent --consul-addr a:8500,b:8500", "--on-exit later", "--deregister never", "--resync soon", "--resync -1s", "--session-ttl 5s",
		"--reap-after x", "--tags {{.Nope", "--prefix=", "--node-name a/b", "--bogus", "consul://a consul://b", "--ip",
		"--consul-connections 5", "--consul-connections 0",
	} {
		if _, _, code := parse(t, strings.Fields(args)...); code != daemon.ExitUsage {
			t.Errorf("%s: exit code %d, want %d", args, code, daemon.ExitUsage)
		}
	}
}

func TestOptions_environment(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://10.0.0.1:2376")
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	t.Setenv("HOME", "/home/test")
	t.Setenv("CONSUL_HTTP_ADDR", "a:8500,b:8500")
	t.Setenv("REGISTRATOR_SESSION_TTL", "20s")
	opt, _, code := parse(t)
	if code != 0 || opt.Docker.Host != "tcp://10.0.0.1:2376" || opt.Docker.CertPath != "/home/test/.docker" ||
		len(opt.Consul.Addresses) != 2 || opt.SessionTTL.Seconds() != 20 {
		t.Errorf("exit code %d, %+v", code, opt)
	}
	t.Setenv("DOCKER_CERT_PATH", "/certs")
	if opt, _, _ := parse(t); opt.Docker.CertPath != "/certs" {
		t.Errorf("certificates in %q", opt.Docker.CertPath)
	}
	t.Setenv("REGISTRATOR_SESSION_TTL", "1s")
	if _, _, code := parse(t); code != daemon.ExitUsage {
		t.Errorf("a wrong environment value: exit code %d", code)
	}
}

func TestOptions_resyncZeroIsTheDefault(t *testing.T) {
	if opt, _, code := parse(t, "-resync", "0"); code != 0 || opt.Resync.Minutes() != 1 {
		t.Errorf("exit code %d, resync %s", code, opt.Resync)
	}
}
