package testbed

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// NewerProxies puts the HAProxy and nginx that scripts/get-proxies fetched in front of PATH until
// the test ends: those in $FAIRWAY_PROXIES, a folder, or in bin/proxies-trixie.
func NewerProxies(t *testing.T) {
	t.Helper()
	dir := os.Getenv("FAIRWAY_PROXIES")
	if dir == "" {
		dir = filepath.Join(Root(), "bin", "proxies-trixie", "bin")
	}
	for _, name := range []string{"haproxy", "nginx"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			t.Fatalf("no newer %s in $FAIRWAY_PROXIES or bin/proxies-trixie: run scripts/get-proxies: %v", name, err)
		}
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

var (
	nginxVersion   = regexp.MustCompile(`nginx/(\d+(?:\.\d+)*)`)
	haproxyVersion = regexp.MustCompile(`HAProxy version (\d+(?:\.\d+)*)`)
	nginxModules   = regexp.MustCompile(`--modules-path=(\S+)`)
)

// ProxyVersion is the version of the haproxy or nginx that Program finds, such as "1.22.1".
func ProxyVersion(t testing.TB, name string) string {
	t.Helper()
	pattern := nginxVersion
	if name == "haproxy" {
		pattern = haproxyVersion
	}
	return said(t, pattern, name, "-v")
}

// NginxStreamModule is the file of the stream module of the nginx that Program finds, "" where it
// is built in.
func NginxStreamModule(t testing.TB) string {
	t.Helper()
	file := filepath.Join(said(t, nginxModules, "nginx", "-V"), "ngx_stream_module.so")
	if _, err := os.Stat(file); err != nil {
		return ""
	}
	return file
}

// said runs a program and returns what the pattern's group matches in its output.
func said(t testing.TB, pattern *regexp.Regexp, name, flag string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Program(t, name), flag).CombinedOutput()
	found := pattern.FindSubmatch(out)
	if err != nil || found == nil {
		t.Fatalf("%s %s: %v, no %s in %q", name, flag, err, pattern, strings.TrimSpace(string(out)))
	}
	return string(found[1])
}
