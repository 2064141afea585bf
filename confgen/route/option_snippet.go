package route

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// snippet reads raw lines for one proxy. They are used by that proxy alone, and only where the
// operator trusts the service.
func snippet(kind Proxy, check func(line string) error) func(reading, string) error {
	return func(r reading, value string) error {
		if !slices.Contains(r.set.Snippets, "*") && !slices.Contains(r.set.Snippets, r.service) {
			return fmt.Errorf("raw lines of configuration are refused unless the operator trusts the service: --allow-snippets %s", orElse(r.service, "SERVICE"))
		}
		var lines []string
		for line := range strings.SplitSeq(strings.ReplaceAll(value, `\n`, "\n"), "\n") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			if !printable(line) {
				return errors.New("a line holds printable ASCII characters only")
			}
			if err := check(line); err != nil {
				return err
			}
			lines = append(lines, line)
		}
		if len(lines) == 0 {
			return errors.New(`write lines of configuration, with \n between them`)
		}
		if kind == Nginx {
			if err := balanced(lines); err != nil {
				return err
			}
		}
		if r.proxy == kind || r.proxy == AnyProxy {
			r.Snippet = append(r.Snippet, lines...)
		}
		return nil
	}
}

// haproxySections are words that would end the backend.
var haproxySections = []string{
	"global", "defaults", "frontend", "backend", "listen", "userlist", "resolvers", "peers", "mailers", "ring", "cache", "program",
	"http-errors", "fcgi-app", "log-forward", "log-profile", "crt-store", "traces", "acme", "healthcheck", "server", "server-template", "default-server", "dispatch",
}

// checkHAProxyLine keeps a line inside its backend.
func checkHAProxyLine(line string) error {
	word, _, _ := strings.Cut(strings.ToLower(strings.Trim(line, `'"\`)), " ")
	word = strings.Trim(word, `'"\`)
	switch {
	case strings.ContainsAny(word, `'"\`):
		return fmt.Errorf("%s: a line begins with a plain word", quote(line))
	case slices.Contains(haproxySections, word):
		return fmt.Errorf("%s does not stand inside a backend, or is Fairway's own", quote(word))
	case strings.HasPrefix(word, "."):
		return fmt.Errorf("%s would change how the rest of the file is read", quote(word))
	case strings.HasSuffix(line, `\`):
		return errors.New("a line does not end with a backslash")
	case strings.Count(line, `"`)%2 != 0 || strings.Count(line, "'")%2 != 0:
		return errors.New("a quote is not closed")
	}
	return nil
}

func checkNginxLine(line string) error {
	if strings.HasPrefix(line, "#") {
		return errors.New("a comment says nothing to nginx; leave it out")
	}
	return nil
}

// balanced reports whether lines open and close braces and quotes among themselves, and end what
// they begin.
func balanced(lines []string) error {
	depth, inside, ended := 0, byte(0), true
	for i, text := 0, strings.Join(lines, "\n"); i < len(text); i++ {
		c := text[i]
		if c == '\\' {
			i++
			ended = false
			continue
		}
		if inside != 0 {
			if c == inside {
				inside = 0
			}
			continue
		}
		switch c {
		case '"', '\'':
			inside, ended = c, false
		case '#':
			return errors.New("a comment could hide what follows; leave it out")
		case '{':
			if i == 0 || text[i-1] != '$' {
				depth++
			} else if end := strings.IndexByte(text[i:], '}'); end > 0 {
				i += end // ${variable}
			}
			ended = true
		case '}':
			depth--
			ended = true
		case ';':
			ended = true
		case ' ', '\n', '\t':
		default:
			ended = false
		}
		if depth < 0 {
			return errors.New("a } closes what the lines have not opened")
		}
	}
	if depth != 0 || inside != 0 || !ended {
		return errors.New("the lines must end what they begin: quotes, braces, and each directive with a semicolon")
	}
	return nil
}
