package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// option reads the value of one key into the options of a wish, whose hosts and paths are known.
type option struct {
	read   func(o *Options, w *wish, value string) error
	unable map[Proxy]string // why a proxy cannot, and what to do instead
}

// optionKeys are the keys that become options of a backend.
var optionKeys = map[string]option{
	"strip":           {read: readStrip},
	"rewrite":         {read: readRewrite},
	"timeout.connect": {read: timeout(func(t *Timeouts) *time.Duration { return &t.Connect })},
	"timeout.server":  {read: timeout(func(t *Timeouts) *time.Duration { return &t.Server })},
	"timeout.tunnel": {
		read:   timeout(func(t *Timeouts) *time.Duration { return &t.Tunnel }),
		unable: map[Proxy]string{Nginx: "nginx has no timeout of its own for tunnels; timeout.server counts for them too"},
	},
	"timeout.queue": {
		read:   timeout(func(t *Timeouts) *time.Duration { return &t.Queue }),
		unable: map[Proxy]string{Nginx: "nginx has no queue in its open edition; leave the label out"},
	},
}

// restricts are keys without which a route would let in what they keep out: when their value
// cannot be used the route is withheld.
var restricts = map[string]bool{}

// options reads all option keys of one route. It returns false when the route must be withheld.
func (p *parser) options(out *parsed, w *wish) (*Options, bool) {
	var given []string
	for key := range w.values {
		if _, ok := optionKeys[key]; ok {
			given = append(given, key)
		}
	}
	if given == nil {
		return nil, true
	}
	slices.Sort(given)
	var o Options
	usable := true
	for _, key := range given {
		option := optionKeys[key]
		reason := option.unable[p.proxy]
		if reason == "" {
			if err := option.read(&o, w, w.values[key]); err != nil {
				reason = quote(w.values[key]) + ": " + err.Error()
			}
		}
		if reason == "" {
			continue
		}
		if restricts[key] {
			usable = false
			reason += "; the route is withheld, because serving it without would do what the label forbids"
		}
		p.problem(out, w.name, key, reason)
	}
	return o.orNil(), usable
}

// maxStrip keeps the expression that a path is found by, encoded or not, within a word of nginx.
const maxStrip = 200

// readStrip takes a boolean, where true means the paths of the route, or the prefix to strip.
func readStrip(o *Options, w *wish, value string) error {
	if strings.HasPrefix(value, "/") {
		prefix, err := parsePath(value)
		if err != nil {
			return err
		}
		return o.strip(PathPattern{prefix.kind, prefix.name})
	}
	strip, err := parseBool(value)
	if err != nil {
		return errors.New("write true, false, or the prefix to strip, such as /api")
	}
	if !strip {
		return nil
	}
	for _, q := range w.paths {
		if err := o.strip(PathPattern{q.kind, q.name}); err != nil {
			o.Strip = nil
			return err
		}
	}
	if len(o.Strip) == 0 {
		return errors.New(`the route has no path beyond "/" that could be stripped`)
	}
	slices.SortFunc(o.Strip, func(x, y PathPattern) int {
		return comparePrecedence(Route{PathKind: x.Kind, Path: x.Path}, Route{PathKind: y.Kind, Path: y.Path})
	})
	return nil
}

func (o *Options) strip(p PathPattern) error {
	switch {
	case p.Kind == PathRegex:
		return errors.New("a regular expression has no fixed part to strip; write the prefix, as in strip=/api, or use rewrite")
	case len(p.Path) > maxStrip:
		return fmt.Errorf("a path of over %d characters cannot be stripped", maxStrip)
	case p.Path != "/":
		o.Strip = append(o.Strip, p)
	}
	return nil
}

// readRewrite takes "from => to".
func readRewrite(o *Options, _ *wish, value string) error {
	from, to, ok := strings.Cut(value, "=>")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if !ok || from == "" || to == "" {
		return errors.New("write FROM => TO, such as /old => /new or ~^/v[0-9]+/(.*)$ => /$1")
	}
	pattern, err := parsePath(from)
	if err != nil {
		return err
	}
	switch {
	case pattern.kind == PathExact:
		return errors.New("FROM is a prefix or ~regex; for one path write ~^/path$")
	case len(from) > maxStrip && pattern.kind == PathPrefix, len(to) > maxStrip:
		return fmt.Errorf("FROM and TO have at most %d characters each", maxStrip)
	}
	if pattern.kind == PathRegex {
		err = checkReplacement(to, groups(pattern.name))
	} else {
		err = checkPath(to)
	}
	if err != nil {
		return fmt.Errorf("TO: %w", err)
	}
	o.Rewrite = &Rewrite{From: PathPattern{pattern.kind, pattern.name}, To: to}
	return nil
}

// checkReplacement accepts a path in which $1 to $9 stand for groups.
func checkReplacement(s string, groups int) error {
	plain := []byte(s)
	for i := 0; i < len(s); i++ {
		if s[i] != '$' {
			continue
		}
		if i+1 == len(s) || s[i+1] < '1' || s[i+1] > '9' {
			return errors.New("$ is followed by the number of a group, 1 to 9")
		}
		if n := int(s[i+1] - '0'); n > groups {
			return fmt.Errorf("$%d: the regular expression has no group %d", n, n)
		}
		plain[i] = 'x'
	}
	return checkPath(string(plain))
}

// longest is what HAProxy takes as a duration: 2^31 milliseconds.
const longest = 24 * 24 * time.Hour

func timeout(of func(*Timeouts) *time.Duration) func(*Options, *wish, string) error {
	return func(o *Options, _ *wish, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < time.Millisecond || d > longest || d%time.Millisecond != 0 {
			return errors.New("write a duration from 1ms to 576h, such as 500ms, 30s or 1h30m")
		}
		*of(&o.Timeouts) = d
		return nil
	}
}
