package route

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"strconv"
	"strings"
)

// maxPattern keeps a path or regular expression within a line of either proxy's configuration.
// Consul's own limit is 512 for a meta value; tags have none.
const maxPattern = 1024

// host is one pattern of the key host.
type host struct {
	kind HostKind
	name string
}

// path is one pattern of the key path.
type path struct {
	kind PathKind
	name string
}

// splitList splits a comma list; empty items are dropped.
func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// splitPatterns splits a list of host or path patterns. A comma inside the braces, brackets or
// parentheses of a regular expression, as in ~^/v[0-9]{1,2}/, belongs to it.
func splitPatterns(s string) []string {
	if !strings.Contains(s, "~") {
		return splitList(s)
	}
	var list []string
	depth, from := 0, 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == ',' && depth <= 0:
			if item := strings.TrimSpace(s[from:i]); item != "" {
				list = append(list, item)
			}
			from, depth = i+1, 0
		case s[i] == '\\':
			i++
		case strings.IndexByte("([{", s[i]) >= 0:
			depth++
		case strings.IndexByte(")]}", s[i]) >= 0:
			depth--
		}
	}
	if from < len(s) && depth != 0 { // a trailing backslash skipped the end
		list = append(list, strings.TrimSpace(s[from:]))
	}
	return list
}

func parseHost(s string) (host, error) {
	if re, ok := strings.CutPrefix(s, "~"); ok {
		re, err := parseRegex(re)
		return host{HostRegex, re}, err
	}
	s = strings.ToLower(s)
	kind := HostExact
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		kind, s = HostWildcard, rest
	}
	if name, port, ok := strings.Cut(s, ":"); ok && isNumber(port) {
		s = name
	}
	s = strings.TrimSuffix(s, ".")
	return host{kind, s}, checkDNSName(s)
}

// checkDNSName accepts names of letters, digits, hyphens and underscores, of which the last are
// not DNS but exist inside many companies.
func checkDNSName(s string) error {
	switch {
	case s == "" || s == "*":
		return errors.New(`a host is a name like "demo.local", "*.demo.local" or "~regex"; for any host leave it out and use path or default`)
	case len(s) > 253:
		return errors.New("a host name has at most 253 characters")
	}
	for name := range strings.SplitSeq(s, ".") {
		if len(name) == 0 || len(name) > 63 {
			return errors.New("each part of a host name between dots has 1 to 63 characters")
		}
		for i := range len(name) {
			c := name[i]
			switch {
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
			case c == '-' && i > 0 && i < len(name)-1:
			case c >= 0x80:
				return errors.New(`write an international host name in its "xn--" form`)
			default:
				return fmt.Errorf("%q is not allowed there in a host name", c)
			}
		}
	}
	return nil
}

func parsePath(s string) (path, error) {
	if re, ok := strings.CutPrefix(s, "~"); ok {
		re, err := parseRegex(re)
		return path{PathRegex, re}, err
	}
	if exact, ok := strings.CutPrefix(s, "="); ok {
		return path{PathExact, exact}, checkPath(exact)
	}
	if err := checkPath(s); err != nil {
		return path{}, err
	}
	if s != "/" {
		s = strings.TrimSuffix(s, "/")
	}
	return path{PathPrefix, s}, nil
}

// checkPath accepts what a path looks like after decoding, as far as both proxies can carry it
// unchanged.
func checkPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return errors.New(`a path starts with "/", "=/" or "~"`)
	}
	if len(s) > maxPattern {
		return fmt.Errorf("a path has at most %d characters", maxPattern)
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("/-._~!$&'()*+;=:@", c) >= 0:
		case c == '%':
			return errors.New("write the path decoded: requests are compared after decoding")
		case c == '?' || c == '#':
			return fmt.Errorf("%q is not part of a path", c)
		default:
			return fmt.Errorf("%q is not allowed in a path", c)
		}
	}
	if strings.Contains(s, "//") {
		return errors.New("a path has no empty segment")
	}
	for segment := range strings.SplitSeq(s, "/") {
		if segment == "." || segment == ".." {
			return errors.New(`a path has no "." or ".." segment`)
		}
	}
	return nil
}

// parseRegex accepts an RE2 expression and returns it in the canonical form of Go's parser.
// The proxies compile it with PCRE: the canonical form has only constructs that mean the same
// there, whatever the label was written with.
func parseRegex(s string) (string, error) {
	if s == "" || len(s) > maxPattern {
		return "", fmt.Errorf("a regular expression has 1 to %d characters", maxPattern)
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return "", errors.New("a regular expression may hold printable ASCII characters only")
		}
	}
	re, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return "", fmt.Errorf("not a regular expression (RE2): %w", err)
	}
	if err := checkRegex(re, false); err != nil {
		return "", err
	}
	// Folding case adds these two, which equal s and k for Unicode and never occur in ASCII.
	canonical := strings.NewReplacer("\u017f", "", "\u212a", "").Replace(re.String())
	for i := range len(canonical) {
		if canonical[i] < 0x20 || canonical[i] > 0x7e {
			return "", errors.New("a regular expression may match ASCII characters only")
		}
	}
	if strings.Contains(canonical, `\x{`) || len(canonical) > 2*maxPattern {
		return "", errors.New("a regular expression may match ASCII characters only")
	}
	return canonical, nil
}

// groups counts the groups of an expression that parseRegex has accepted.
func groups(expression string) int {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0
	}
	return re.MaxCap()
}

// checkRegex refuses what RE2 allows and a backtracking engine or nginx must not be given.
func checkRegex(re *syntax.Regexp, repeated bool) error {
	if repeats(re.Op) && position(re.Sub[0].Op) {
		return errors.New("a repetition must follow something that can be repeated")
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return errors.New("the regular expression matches nothing")
	case syntax.OpEndText:
		re.Flags &^= syntax.WasDollar // \z: PCRE's $ would also match before a final newline
	case syntax.OpCapture:
		if re.Name != "" {
			return errors.New("a regular expression may not name its groups")
		}
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		if repeated {
			return errors.New("a repetition inside a repetition could keep the proxy busy for ever on one request")
		}
		repeated = re.Op != syntax.OpRepeat || re.Max != re.Min
	}
	for _, sub := range re.Sub {
		if err := checkRegex(sub, repeated); err != nil {
			return err
		}
	}
	return nil
}

func repeats(op syntax.Op) bool {
	return op == syntax.OpStar || op == syntax.OpPlus || op == syntax.OpQuest || op == syntax.OpRepeat
}

// position reports whether an operator matches a place and no character, as ^ does.
func position(op syntax.Op) bool {
	return op >= syntax.OpBeginLine && op <= syntax.OpNoWordBoundary
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "", "true", "yes", "on", "1": // "" is `--label fairway.default`
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("write true or false")
}

func parseInt(s string, lowest, highest int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < lowest || n > highest {
		return 0, fmt.Errorf("write a whole number from %d to %d", lowest, highest)
	}
	return n, nil
}

// parsePort accepts "8080" and "8080/tcp".
func parsePort(s string) (int, error) {
	n, err := parseInt(strings.TrimSuffix(s, "/tcp"), 1, 65535)
	if err != nil {
		return 0, errors.New("write a container port from 1 to 65535")
	}
	return n, nil
}

func isNumber(s string) bool {
	if len(s) == 0 || len(s) > 5 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
