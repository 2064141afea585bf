package service

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 10 * time.Second // or the interval, if that is shorter
	minInterval     = time.Second
)

// readActive reads the checks that ask the service itself, as far as they do not depend on where
// it is reached.
func (k *checks) readActive(settings map[string]setting, p Port, c *Container, report reporter) {
	k.port = readCheckPort(settings["check_port"], report)
	way := Check{
		Interval:        readDuration(settings["check_interval"], defaultInterval, minInterval, report),
		DeregisterAfter: readDuration(settings["check_deregister_after"], 0, 0, report),
		Status:          cmp.Or(k.initial, Critical),
		Output:          Unchecked,
	}
	way.Timeout = readDuration(settings["check_timeout"], min(defaultTimeout, way.Interval), time.Millisecond, report)
	way.Container = c.ID
	way.Suspended = c.State != Running || c.Stopping
	way.SuccessBeforePassing = readCount(settings["check_success_before_passing"], report)
	way.FailuresBeforeCritical = readCount(settings["check_failures_before_critical"], report)
	way.FailuresBeforeWarning = way.FailuresBeforeCritical
	if s := settings["check_failures_before_warning"]; s.value != "" {
		way.FailuresBeforeWarning = readCount(s, report)
	}
	skipVerify := readSwitch(settings["check_tls_skip_verify"], report)
	useTLS := readSwitch(firstOf(settings, "check_grpc_use_tls", "check_use_tls"), report)
	for _, kind := range Kinds {
		s := settings["check_"+string(kind)]
		value := strings.TrimSpace(s.value)
		on, isBool := parseBool(value)
		if isBool && !on {
			continue
		}
		one := way
		one.Kind = kind
		switch kind {
		case HTTP, HTTPS:
			if isBool {
				value = "/"
			}
			if !strings.HasPrefix(value, "/") {
				value = "/" + value
			}
			if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r == ' ' || isControl(r) }) {
				report(s.label, fmt.Sprintf("%q is no path; write for example /health", value))
				continue
			}
			one.Target = value
			one.Method = readMethod(settings, kind, report)
			one.Header = readHeader(settings, kind, report)
			one.SkipVerify = skipVerify && kind == HTTPS
		case TCP:
			if !isBool {
				report(s.label, "write true or false; another port is CHECK_PORT")
				continue
			}
		case GRPC:
			if isBool {
				value = "" // the server as a whole
			}
			if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r == ' ' || isControl(r) }) {
				report(s.label, fmt.Sprintf("%q is no name of a gRPC service; write true for the server as a whole, or for example shop.v1.Cart", value))
				continue
			}
			one.Target, one.UseTLS, one.SkipVerify = strings.TrimPrefix(value, "/"), useTLS, skipVerify && useTLS
		case Script, Cmd:
			if c.Mesh {
				report(s.label, "runs in the task's container, and with --ingress all there is none; write CHECK_HTTP or CHECK_TCP")
				continue
			}
			one.Command = value
		}
		if one.Command == "" && p.Protocol != "tcp" && k.port == 0 {
			if !s.scope.generic() {
				report(s.label, "the port is no TCP port; name one with CHECK_PORT")
			}
			continue
		}
		k.active = append(k.active, one)
	}
}

// at are the checks of a port that is reached at a place. CHECK_PORT means a port of the container:
// where that is published, it is reached at its host port.
func (k checks) at(place netip.AddrPort, publisher *Container) []Check {
	port := place.Port()
	if k.port != 0 {
		port = k.port
		if publisher != nil {
			for _, b := range bindingsOf(publisher, Port{Number: k.port, Protocol: "tcp"}) {
				port = cmp.Or(b.Port, port)
			}
		}
	}
	host := net.JoinHostPort(place.Addr().String(), strconv.Itoa(int(port)))
	var list []Check
	for _, one := range k.active {
		switch one.Kind {
		case HTTP, HTTPS:
			one.Target = string(one.Kind) + "://" + host + one.Target
		case TCP:
			one.Target = host
		case GRPC: // written as Consul's agents want it
			if one.Target != "" {
				one.Target = "/" + one.Target
			}
			one.Target = host + one.Target
		case Script, Cmd:
		}
		list = append(list, one)
	}
	return list
}

// explainChecks notes how the service is asked.
func (s *slot) explainChecks(row Registration) {
	for _, k := range row.Checks {
		what := k.Target
		if k.Command != "" {
			what = "in the container: " + k.Command
		}
		s.decision.note("check", "%s %s, every %s, at most %s", k.Kind, strings.TrimSpace(k.Method+" "+what), k.Interval, k.Timeout)
	}
}

// readDuration reads what time.ParseDuration takes, as Consul does.
func readDuration(s setting, fallback, least time.Duration, report reporter) time.Duration {
	if s.value == "" {
		return fallback
	}
	d, err := time.ParseDuration(strings.TrimSpace(s.value))
	if err != nil || d < least || d > maxDuration {
		report(s.label, fmt.Sprintf("%q is no duration from %s to %s, such as 15s; %s is taken", s.value, max(least, 0), maxDuration, fallback))
		return fallback
	}
	return d
}

// maxDuration is far beyond what anybody means.
const maxDuration = 365 * 24 * time.Hour

func readCount(s setting, report reporter) int {
	if s.value == "" {
		return 1
	}
	n, err := strconv.Atoi(strings.TrimSpace(s.value))
	if err != nil || n < 0 || n > 1000 {
		report(s.label, "write a number from 0 to 1000; 1 is taken")
		return 1
	}
	return max(n, 1)
}

func readSwitch(s setting, report reporter) bool {
	on, ok := parseBool(s.value)
	if !ok {
		report(s.label, "write true or false")
	}
	return on
}

func readCheckPort(s setting, report reporter) uint16 {
	if s.value == "" {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(s.value), 10, 16)
	if err != nil || n == 0 {
		report(s.label, "write a port from 1 to 65535; the service's own port is checked")
		return 0
	}
	return uint16(n)
}

// firstOf is the first of some settings that was given.
func firstOf(settings map[string]setting, keys ...string) setting {
	for _, key := range keys {
		if s := settings[key]; s.value != "" {
			return s
		}
	}
	return setting{}
}

func readMethod(settings map[string]setting, kind Kind, report reporter) string {
	s := firstOf(settings, "check_"+string(kind)+"_method", "check_method")
	method := strings.ToUpper(strings.TrimSpace(s.value))
	if method == "" {
		return "GET"
	}
	if strings.ContainsFunc(method, notInToken) {
		report(s.label, fmt.Sprintf("%q is no HTTP method; GET is taken", s.value))
		return "GET"
	}
	return method
}

func readHeader(settings map[string]setting, kind Kind, report reporter) string {
	s := firstOf(settings, "check_"+string(kind)+"_header", "check_header")
	header, ok := ParseHeader(s.value)
	if !ok {
		report(s.label, `write "Name: value", several as lines; no header is sent`)
		return ""
	}
	return FormatHeader(header)
}
