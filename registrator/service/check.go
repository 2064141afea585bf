package service

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Check is one active check of a registration: it asks the service itself, beside the container's
// own check, which every registration has. Of each kind a registration has one at most, in the
// order of Kinds.
type Check struct {
	Kind Kind

	// What Consul is told of how the check is made.
	Target          string // URL, host:port, or host:port/service of gRPC; empty for what runs inside the container
	Method          string
	Header          string // "Name: value" lines, sorted
	UseTLS          bool   // gRPC over TLS; HTTPS is a kind of its own
	SkipVerify      bool
	Interval        time.Duration
	Timeout         time.Duration
	DeregisterAfter time.Duration // the row goes after being critical for so long; zero for never

	Local // what only its runner must know

	// Print is Fingerprint as it was read back, of a check whose details cannot be: a Consul agent
	// does not tell how it asks. Empty everywhere else.
	Print string

	Status Status
	Output string

	// CriticalSince is when it became critical, to the millisecond and in UTC: where DeregisterAfter is
	// set, the catalog keeps it, so that a restart of registrator does not begin to count anew.
	CriticalSince time.Time
}

// Local is what Consul neither needs nor keeps of a check.
type Local struct {
	Command                string // for /bin/sh in the container
	Container              string // its id
	SuccessBeforePassing   int    // successes in a row that make it passing
	FailuresBeforeWarning  int    // failures in a row that make it warning
	FailuresBeforeCritical int    // failures in a row that make it critical
	Suspended              bool   // it is not run: the container is paused or stopping
	Shared                 bool   // it asks a place of all tasks of a Swarm service: its verdict outlives any of them
}

// Kind is a way to ask a service.
type Kind string

// The kinds of active checks that registrator runs.
const (
	HTTP   Kind = "http"
	HTTPS  Kind = "https"
	TCP    Kind = "tcp"
	GRPC   Kind = "grpc"
	Script Kind = "script"
	Cmd    Kind = "cmd"
)

// Kinds are all of them, in the order in which a registration has them.
var Kinds = []Kind{HTTP, HTTPS, TCP, GRPC, Script, Cmd}

// Unchecked is the output of a check that has not run yet.
const Unchecked = "not checked yet"

// Same reports whether Consul holds the same about two checks, save for their words. That there is
// a first verdict is more than words.
func (k Check) Same(other Check) bool {
	return k.Status == other.Status && (k.Output == Unchecked) == (other.Output == Unchecked) && k.SameWay(other)
}

// SameWay reports whether Consul holds the same about how two checks are made.
func (k Check) SameWay(other Check) bool {
	if k.Print != "" || other.Print != "" {
		return k.Kind == other.Kind && k.Fingerprint() == other.Fingerprint()
	}
	k.Local, k.Status, k.Output, k.CriticalSince = other.Local, other.Status, other.Output, other.CriticalSince
	if k.Header == ShownHeader(other.Header) || ShownHeader(k.Header) == other.Header {
		k.Header = other.Header
	}
	return k == other
}

// Fingerprint stands for the way a check is made, all that its runner must know included. It holds
// no word of it: a header may be a secret.
func (k Check) Fingerprint() string {
	if k.Print != "" {
		return k.Print
	}
	k.Container, k.Suspended, k.Status, k.Output, k.CriticalSince = "", false, "", "", time.Time{}
	sum := sha256.Sum256(fmt.Appendf(nil, "%#v", k))
	return hex.EncodeToString(sum[:8])
}

// Health is the worst of a registration's checks, as a front end sees it: its status and output.
func (r Registration) Health() (Status, string) {
	rank := map[Status]int{Passing: 0, Warning: 1, Critical: 2}
	status, output := r.Status, r.Output
	for _, k := range r.Checks {
		if rank[k.Status] > rank[status] {
			status, output = k.Status, string(k.Kind)+" check: "+k.Output
		}
	}
	return status, output
}

// sameWords reports whether the outputs of two lists of the same checks are the same.
func sameWords(x, y []Check) bool {
	return slices.EqualFunc(x, y, func(a, b Check) bool { return a.Output == b.Output })
}

// ParseHeader reads "Name: value" lines as HTTP knows them; ok says that each is one.
func ParseHeader(text string) (header map[string][]string, ok bool) {
	header = map[string][]string{}
	if !utf8.ValidString(text) {
		return nil, false
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" || strings.ContainsFunc(name, notInToken) || strings.ContainsFunc(value, isControl) {
			return nil, false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		header[name] = append(header[name], value)
	}
	return header, true
}

// notShown stands in the catalog for the value of a header.
const notShown = "(not shown)"

// ShownHeader is what everybody may read of a header as Check holds it: names, and values of none but
// Host, since the others may be secrets.
func ShownHeader(text string) string {
	header, ok := ParseHeader(text)
	if text == "" || !ok {
		return text
	}
	for name, values := range header {
		if name != "Host" {
			header[name] = slices.Repeat([]string{notShown}, len(values))
		}
	}
	return FormatHeader(header)
}

// notInToken tells what may not stand in the name of a header (RFC 9110, section 5.6.2).
func notInToken(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// FormatHeader writes a header as Check holds it.
func FormatHeader(header map[string][]string) string {
	var lines []string
	for name, values := range header {
		for _, value := range values {
			lines = append(lines, name+": "+value)
		}
	}
	slices.SortFunc(lines, cmp.Compare[string])
	return strings.Join(lines, "\n")
}
