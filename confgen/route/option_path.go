package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxStrip keeps the expression that a path is found by, encoded or not, within a word of nginx.
const maxStrip = 200

// readStrip takes a boolean, where true means the paths of the route, or the prefix to strip.
func readStrip(r reading, value string) error {
	if strings.HasPrefix(value, "/") {
		prefix, err := parsePath(value)
		if err != nil {
			return err
		}
		return r.strip(PathPattern{prefix.kind, prefix.name})
	}
	strip, err := parseBool(value)
	if err != nil {
		return errors.New("write true, false, or the prefix to strip, such as /api")
	}
	if !strip {
		return nil
	}
	for _, q := range r.wish.paths {
		if err := r.strip(PathPattern{q.kind, q.name}); err != nil {
			return err
		}
	}
	if len(r.Strip) == 0 {
		return errors.New(`the route has no path beyond "/" that could be stripped`)
	}
	slices.SortFunc(r.Strip, func(x, y PathPattern) int {
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
func readRewrite(r reading, value string) error {
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
	r.Rewrite = &Rewrite{From: PathPattern{pattern.kind, pattern.name}, To: to}
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
