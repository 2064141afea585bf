package render

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"fairway/confgen/route"
)

// View is everything a template may print: the route table, and what the operator decided.
type View struct {
	route.Table
	Settings Settings
	Stapled  map[string]bool // certificates of the store that an OCSP response is served with, by name
}

// Settings are the operator's part of a View. Start from DefaultSettings and change what is
// needed; Render refuses settings that no proxy could run with.
type Settings struct {
	// Dir is the folder of the rendered files as the proxy sees it. Empty means that the
	// proxy resolves them against its configuration file, which also lets a staged copy be
	// checked where it stands.
	Dir string

	StatsSocket      string // HAProxy's runtime socket; "" for none
	StatsUser        string // the page /haproxy?stats exists only when both are set
	StatsPassword    string
	StatsEntrypoint  string // where the stats page is; "web" by default
	RunDir           string // nginx: a folder that the proxy can write, for its pid and temporary files
	GenerationSocket string // nginx: unix socket that answers which configuration runs; "" for none

	StreamModule string // nginx: file of its stream module; "" where that is built in

	Certificate string // PEM file with certificate and key; for HAProxy also a folder of them
	Version     string // of the proxy, such as "1.27.4", where known: newer directives are used

	UserLists      []UserList     // sorted by name
	PageSets       []PageSet      // sorted by name
	TrustedProxies []netip.Prefix // whose word is taken for where a client comes from

	MaxConn       int           // connections at once; 0 leaves it to the proxy
	HardStopAfter time.Duration // how long an old worker may finish requests after a reload
	AccessLog     bool          // one line a request on standard output
	Timeouts      Timeouts
}

// UserList are the people whom a route lets in that names the list (label auth).
type UserList struct {
	Name  string // [a-z0-9-]
	Users []User // in the order of their file
}

// User is one of them.
type User struct {
	Name string
	Hash string // of the password, as crypt(3) writes it: "$6$…", "$2y$…"
}

// PageSet are the answers that a route gives instead of a status's own page (label errors).
type PageSet struct {
	Name  string         // [a-z0-9-]
	Pages map[int]string // HTML by status, such as 503
}

// Timeouts of the proxy. None may be zero: a proxy without one waits for ever.
type Timeouts struct {
	Connect   time.Duration // to a server
	Client    time.Duration // between two packets of a client
	Server    time.Duration // between two packets of a server
	Request   time.Duration // until a client has sent its whole request header
	KeepAlive time.Duration // an idle client connection; old workers wait for it
	Queue     time.Duration // for a free server
	Tunnel    time.Duration // a websocket without traffic
	Check     time.Duration // one health check of the proxy's own
	Interval  time.Duration // between two of them; a failing server is checked four times as often
}

// DefaultSettings are what a front end in a container starts with.
func DefaultSettings() Settings {
	return Settings{
		StatsSocket:      "/run/fairway/haproxy.sock",
		StatsEntrypoint:  "web",
		RunDir:           "/run/fairway",
		GenerationSocket: "/run/fairway/nginx-generation.sock",
		HardStopAfter:    30 * time.Second,
		Timeouts: Timeouts{
			Connect: 2 * time.Second, Client: 30 * time.Second, Server: 60 * time.Second,
			Request: 10 * time.Second, KeepAlive: 10 * time.Second, Queue: 10 * time.Second,
			Tunnel: time.Hour, Check: time.Second, Interval: 2 * time.Second,
		},
	}
}

// Stats reports whether the stats page is shown: never without a password.
func (s Settings) Stats() bool { return s.StatsUser != "" && s.StatsPassword != "" }

// AtLeast reports whether the proxy is known to be of a version or newer.
func (s Settings) AtLeast(version string) bool {
	if s.Version == "" {
		return false
	}
	have, want := numbers(s.Version), numbers(version)
	for i := range want {
		if i >= len(have) || have[i] != want[i] {
			return i < len(have) && have[i] > want[i]
		}
	}
	return true
}

var leadingVersion = regexp.MustCompile(`^\d+(\.\d+)*`)

func numbers(version string) []int {
	var list []int
	for part := range strings.SplitSeq(leadingVersion.FindString(version), ".") {
		n := 0
		for _, c := range part {
			n = n*10 + int(c-'0')
		}
		list = append(list, n)
	}
	return list
}

var entrypointName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// takenName matches what would give an entrypoint's section of haproxy.cfg the name of another, which
// HAProxy refuses, from 3.3 on of any two.
var takenName = regexp.MustCompile(`^(stats|not-found|tcp-[0-9]+|.*-(next|here))$`)

// Validate says everything that is wrong with a view's settings and entrypoints at once.
func (v View) Validate() error {
	var errs []error
	say := func(bad bool, format string, a ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, a...))
		}
	}
	s := v.Settings
	say((s.StatsUser == "") != (s.StatsPassword == ""), "the stats page needs a user and a password, or neither")
	say(strings.Contains(s.StatsUser, ":"), "the stats user may hold no colon")
	say(s.MaxConn < 0, "max connections %d is negative", s.MaxConn)
	for name, d := range map[string]time.Duration{
		"hard stop": s.HardStopAfter, "connect": s.Timeouts.Connect, "client": s.Timeouts.Client,
		"server": s.Timeouts.Server, "request": s.Timeouts.Request, "keep-alive": s.Timeouts.KeepAlive,
		"queue": s.Timeouts.Queue, "tunnel": s.Timeouts.Tunnel, "check": s.Timeouts.Check, "check interval": s.Timeouts.Interval,
	} {
		say(d < time.Millisecond, "the %s timeout of %v is below 1ms", name, d)
	}
	seen := make(map[string]bool)
	for _, e := range v.Entrypoints {
		say(!entrypointName.MatchString(e.Name), "entrypoint %q: a name is of a-z, 0-9 and -", e.Name)
		say(takenName.MatchString(e.Name), "entrypoint %s: that name is taken: stats, not-found, tcp-PORT and all that end with -next or -here are sections of the configuration's own; choose another", e.Name)
		say(seen[e.Name], "entrypoint %s is declared twice", e.Name)
		seen[e.Name] = true
		_, err := netip.ParseAddr(e.Address)
		say(e.Address != "" && err != nil, "entrypoint %s: %q is not an IP address", e.Name, e.Address)
		say(e.Proxied && len(s.TrustedProxies) == 0, "entrypoint %s takes the PROXY protocol, but no proxy is trusted to send it; name the ones that are with --trusted-proxy", e.Name)
		say(e.Port < 1 || e.Port > 65535, "entrypoint %s: port %d is not from 1 to 65535", e.Name, e.Port)
		say(e.TLS && s.Certificate == "" && !v.Store, "entrypoint %s speaks TLS, but no certificate is configured", e.Name)
	}
	say(len(v.Entrypoints) == 0, "no entrypoint is declared")
	return errors.Join(errs...)
}
