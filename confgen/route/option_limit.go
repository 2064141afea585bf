package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is how many requests a client may make.
type Rate struct {
	Requests int           // in every Period
	Period   time.Duration // whole seconds
	Burst    int           // further ones at once, now and then
	Header   string        // lower case: whose value tells clients apart; "" for the client's address
}

// PerMinute is the rate as nginx counts it: whole requests a second, else whole requests a
// minute; false where it is neither.
func (r Rate) PerMinute() (string, bool) {
	switch seconds := int(r.Period / time.Second); {
	case r.Requests%seconds == 0:
		return fmt.Sprintf("%dr/s", r.Requests/seconds), true
	case r.Requests*60%seconds == 0:
		return fmt.Sprintf("%dr/m", r.Requests*60/seconds), true
	}
	return "", false
}

const maxRate = 1_000_000

// readRate takes "100/1s", which ",burst=50" and ",key=ip" or ",key=header:NAME" may follow.
func readRate(r reading, value string) error {
	parts := splitList(value)
	if len(parts) == 0 {
		return errors.New("write REQUESTS/PERIOD, such as 100/1s")
	}
	requests, period, both := strings.Cut(parts[0], "/")
	if !both {
		return errors.New("write REQUESTS/PERIOD, such as 100/1s")
	}
	var rate Rate
	var err error
	if rate.Requests, err = parseInt(strings.TrimSpace(requests), 1, maxRate); err != nil {
		return fmt.Errorf("write REQUESTS/PERIOD, such as 100/1s; the requests: %w", err)
	}
	if rate.Period, err = parsePeriod(strings.TrimSpace(period)); err != nil {
		return err
	}
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "=")
		switch name, text = strings.TrimSpace(name), strings.TrimSpace(text); name {
		case "burst":
			if rate.Burst, err = parseInt(text, 0, maxRate); err != nil {
				return fmt.Errorf("burst: %w", err)
			}
		case "key":
			if rate.Header, err = readRateKey(text); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is not known there; write burst=50, key=ip or key=header:NAME", quote(name))
		}
	}
	if _, whole := rate.PerMinute(); r.proxy == Nginx && !whole {
		seconds := int(rate.Period / time.Second)
		return fmt.Errorf("nginx counts whole requests a second or a minute; write %d/1m", max(1, (rate.Requests*60+seconds/2)/seconds))
	}
	r.Rate = &rate
	return nil
}

// parsePeriod takes a duration, also a bare unit: 1s, s, 10m.
func parsePeriod(s string) (time.Duration, error) {
	if s == "s" || s == "m" || s == "h" {
		s = "1" + s
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d > 24*time.Hour || d%time.Second != 0 {
		return 0, errors.New("the period is of whole seconds, from 1s to 24h")
	}
	return d, nil
}

func readRateKey(text string) (string, error) {
	if text == "ip" {
		return "", nil
	}
	name, isHeader := strings.CutPrefix(text, "header:")
	if !isHeader {
		return "", errors.New("key is ip or header:NAME")
	}
	name = strings.ToLower(strings.TrimSpace(name))
	return name, checkMatchedHeader(name)
}

func readInFlight(r reading, value string) (err error) {
	r.InFlight, err = parseInt(value, 1, maxRate)
	return err
}

// readBodyMax takes a number of bytes, also in k, m or g.
func readBodyMax(r reading, value string) (err error) {
	r.BodyMax, err = parseSize(value)
	return err
}

const maxSize = 1 << 40

func parseSize(s string) (int64, error) {
	s = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "b")
	unit := int64(1)
	for suffix, bytes := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = strings.TrimSpace(rest), bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxSize/unit {
		return 0, errors.New("write a size such as 512k, 10m or 1g, from 1 byte to 1024g")
	}
	return n * unit, nil
}

func readQueue(r reading, value string) (err error) {
	if r.wish.limits.MaxConn == 0 {
		return errors.New("nobody waits for a server without maxconn; write that too")
	}
	r.Queue, err = parseInt(value, 1, maxRate)
	return err
}
