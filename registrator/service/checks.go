package service

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// checks is what SERVICE_CHECK_* says about one port: about the check that every registration
// has, which follows the container's own state, and about those that ask the service itself.
type checks struct {
	ignoreHealth bool   // CHECK_DOCKER=false
	initial      Status // CHECK_INITIAL_STATUS: what holds before there is a verdict
	active       []Check
	port         uint16 // CHECK_PORT; zero for the port itself
}

// checkDetails are the keys that say how an active check is made.
var checkDetails = []string{
	"check_interval", "check_timeout", "check_deregister_after", "check_port", "check_tls_skip_verify",
	"check_method", "check_header", "check_http_method", "check_http_header", "check_https_method", "check_https_header",
	"check_use_tls", "check_grpc_use_tls", "check_success_before_passing", "check_failures_before_warning", "check_failures_before_critical",
}

func isCheckKey(key string) bool { return strings.HasPrefix(key, "check_") }

// readChecks reads the check keys of one port. They never become meta.
func readChecks(settings map[string]setting, p Port, c *Container, report reporter) checks {
	var check checks
	for key, s := range settings {
		switch {
		case !isCheckKey(key):
		case key == "check_initial_status":
			check.initial = readStatus(s, report)
		case key == "check_docker":
			check.ignoreHealth = readCheckDocker(s, c, report)
		case key == "check_ttl":
			// What it asks for is what the container check does by itself: passing while the
			// container is up, and critical as soon as it is not.
			readTTL(s, report)
		case slices.Contains(Kinds, Kind(strings.TrimPrefix(key, "check_"))):
			// Read below, in order.
		case !slices.Contains(checkDetails, key):
			report(s.label, "no check setting is called so; the kinds are CHECK_HTTP, HTTPS, TCP, GRPC, SCRIPT, CMD, TTL, DOCKER")
		}
	}
	check.readActive(settings, p, c, report)
	return check
}

// readTTL only tells of slips: nothing depends on the value.
func readTTL(s setting, report reporter) {
	if on, ok := parseBool(s.value); ok && !on { // also when it is empty
		return
	}
	if d, err := time.ParseDuration(strings.TrimSpace(s.value)); err != nil || d <= 0 {
		report(s.label, fmt.Sprintf("%q is no duration such as 30s; the check is passing while the container runs, whatever this says", s.value))
	}
}

func readStatus(s setting, report reporter) Status {
	status := Status(strings.ToLower(strings.TrimSpace(s.value)))
	switch status {
	case Passing, Warning, Critical:
		return status
	case "":
		return ""
	}
	report(s.label, "the statuses are passing, warning and critical")
	return ""
}

func readCheckDocker(s setting, c *Container, report reporter) (ignoreHealth bool) {
	on, ok := parseBool(s.value)
	switch {
	case !ok:
		report(s.label, "write true or false")
	case on && c.Health == NoHealth:
		report(s.label, "the container has no HEALTHCHECK; it counts as healthy while it runs")
	}
	return ok && !on && s.value != ""
}

// apply says what a container's state means for a registration with this check.
func (k checks) apply(c *Container, l life) (Status, string) {
	if c.State != Running || c.Stopping {
		return l.status, l.output
	}
	if k.ignoreHealth {
		return Passing, "running"
	}
	if c.Health == Starting && k.initial != "" {
		return k.initial, l.output
	}
	return l.status, l.output
}
