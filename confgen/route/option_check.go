package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// readCheck takes "off", "tcp" or "GET /path", which a status may follow.
func readCheck(r reading, value string) error {
	words := strings.Fields(value)
	switch {
	case strings.EqualFold(value, "off"):
		r.Check.Off = true
		return nil
	case strings.EqualFold(value, "tcp"):
		return nil
	case len(words) < 2 || len(words) > 3 || !slices.Contains([]string{"GET", "HEAD"}, words[0]):
		return errors.New("write off, tcp or GET /path, which a status may follow: GET /health 200")
	case r.proxy == Nginx:
		return errors.New("nginx has no active checks in its open edition; write off or tcp")
	}
	if err := checkURL(words[1]); err != nil || words[1][0] != '/' || strings.Contains(words[1], "#") {
		return fmt.Errorf("%s is not a path, such as /health", quote(words[1]))
	}
	if len(words) == 3 {
		status, err := parseInt(words[2], 100, 599)
		if err != nil {
			return fmt.Errorf("the status: %w", err)
		}
		r.Check.Status = status
	}
	r.Check.Method, r.Check.Path, r.Check.Host = words[0], words[1], "localhost"
	if len(r.wish.hosts) > 0 && r.wish.hosts[0].kind == HostExact {
		r.Check.Host = r.wish.hosts[0].name
	}
	return nil
}

// timing is a key that says something of checks, which must not be off.
func timing(read func(c *Check, value string) error) func(reading, string) error {
	return func(r reading, value string) error {
		if r.Check.Off {
			return errors.New("check is off, so there is nothing to time")
		}
		return read(&r.Check, value)
	}
}

func readCheckInterval(c *Check, value string) (err error) {
	c.Interval, err = parseDuration(value)
	return err
}

func readCheckTimeout(c *Check, value string) (err error) {
	c.Timeout, err = parseDuration(value)
	return err
}

func readCheckRise(c *Check, value string) (err error) {
	c.Rise, err = parseInt(value, 1, 100)
	return err
}

func readCheckFall(c *Check, value string) (err error) {
	c.Fall, err = parseInt(value, 1, 100)
	return err
}
