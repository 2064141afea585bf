package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxHeaders     = 20
	maxHeaderName  = 64
	maxHeaderValue = 1000
)

// framing are headers by which programs agree where a message ends and what the connection
// carries: a label that changed them could make two programs read one message in two ways.
var framing = []string{
	"connection", "content-length", "http2-settings", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade",
}

func readRequestHeaders(r reading, value string) error {
	changes, err := parseHeaders(value)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if strings.EqualFold(c.Name, "host") && c.Action != SetHeader {
			return errors.New("a request has exactly one Host; write Host: NAME to set it")
		}
	}
	r.RequestHeaders = changes
	return nil
}

// nginxOwn are headers of answers that nginx writes itself, whatever it is told.
var nginxOwn = []string{"content-encoding", "content-type", "date", "last-modified", "location", "refresh", "server"}

func readResponseHeaders(r reading, value string) error {
	changes, err := parseHeaders(value)
	if err != nil {
		return err
	}
	for _, c := range changes {
		switch lower := strings.ToLower(c.Name); {
		case r.proxy == Nginx && slices.Contains(nginxOwn, lower):
			return fmt.Errorf("nginx writes %s itself; leave it out", c.Name)
		case strings.HasPrefix(lower, "x-accel-"):
			return fmt.Errorf("%s is for nginx itself and never reaches a client", c.Name)
		}
	}
	r.ResponseHeaders = changes
	return nil
}

// parseHeaders takes "Name: v; +Name: v; -Name". A semicolon in a value is written "\;".
func parseHeaders(s string) ([]HeaderChange, error) {
	var list []HeaderChange
	for _, item := range splitHeaders(s) {
		c, err := parseHeader(item)
		if err != nil {
			return nil, err
		}
		if c.Action != AddHeader && slices.ContainsFunc(list, func(o HeaderChange) bool { return strings.EqualFold(o.Name, c.Name) }) {
			return nil, fmt.Errorf("%s comes twice; +%s: VALUE adds a further one", c.Name, c.Name)
		}
		list = append(list, c)
	}
	if len(list) == 0 || len(list) > maxHeaders {
		return nil, fmt.Errorf("write 1 to %d changes, such as Name: value; +Name: value; -Name", maxHeaders)
	}
	return list, nil
}

func splitHeaders(s string) []string {
	const semicolon = "\x00" // refused in values
	var list []string
	for item := range strings.SplitSeq(strings.ReplaceAll(s, `\;`, semicolon), ";") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, strings.ReplaceAll(item, semicolon, ";"))
		}
	}
	return list
}

func parseHeader(s string) (HeaderChange, error) {
	c := HeaderChange{Action: SetHeader}
	switch s[0] {
	case '-':
		c.Action, s = RemoveHeader, s[1:]
	case '+':
		c.Action, s = AddHeader, s[1:]
	}
	name, value, hasValue := strings.Cut(s, ":")
	c.Name, c.Value = strings.TrimSpace(name), strings.TrimSpace(value)
	if err := checkHeaderName(c.Name); err != nil {
		return c, err
	}
	switch {
	case slices.Contains(framing, strings.ToLower(c.Name)):
		return c, fmt.Errorf("%s belongs to the connection; the proxy sets it", c.Name)
	case c.Action == RemoveHeader && hasValue:
		return c, fmt.Errorf("to remove %s write -%s without a value", c.Name, c.Name)
	case c.Action != RemoveHeader && c.Value == "":
		return c, fmt.Errorf("%s has no value; to remove it write -%s", c.Name, c.Name)
	case len(c.Value) > maxHeaderValue:
		return c, fmt.Errorf("the value of %s has over %d characters", c.Name, maxHeaderValue)
	}
	for i := range len(c.Value) {
		if c.Value[i] < 0x20 || c.Value[i] > 0x7e {
			return c, fmt.Errorf("the value of %s may hold printable ASCII characters only", c.Name)
		}
	}
	return c, nil
}

func checkHeaderName(s string) error {
	if s == "" || len(s) > maxHeaderName {
		return fmt.Errorf("the name of a header has 1 to %d characters", maxHeaderName)
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return fmt.Errorf("%q is not allowed in the name of a header", c)
		}
	}
	return nil
}
