package route

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Conditions are what a request must meet beside host and path. A request that does not meet
// them goes on to the next route that matches. nil asks for nothing.
type Conditions struct {
	Methods []string      `json:",omitempty"` // one of them, sorted
	Headers []HeaderMatch `json:",omitempty"` // all of them, sorted by name
	Query   []QueryMatch  `json:",omitempty"` // all of them, sorted by name
}

// HeaderMatch is a header that a request must have. Where it comes several times the first counts.
type HeaderMatch struct {
	Name  string // lower case
	Kind  MatchKind
	Value string // "" for MatchPresent
}

// QueryMatch is a parameter that the query of a request must have, however it is encoded. Where
// it comes several times one of them must match.
type QueryMatch struct {
	Name  string
	Kind  MatchKind // MatchPresent or MatchEqual
	Value string
}

// MatchKind says how a value is compared.
type MatchKind int

// The ways to compare a value. A present header has at least one character.
const (
	MatchPresent MatchKind = iota
	MatchEqual
	MatchRegex
)

const (
	maxConditions = 10
	maxMethods    = 20
	maxQuery      = 200
)

// conditions reads the keys methods, header and query of a route. It returns false when one of
// them cannot be used: leaving it out would let in what it keeps out.
func (p *parser) conditions(out *parsed, w *wish) (*Conditions, bool) {
	var c Conditions
	usable := true
	for _, part := range []struct {
		key  string
		read func(string) error
	}{
		{"methods", func(s string) (err error) { c.Methods, err = readMethods(s); return err }},
		{"header", func(s string) (err error) { c.Headers, err = readHeaderMatches(s); return err }},
		{"query", func(s string) (err error) { c.Query, err = readQueryMatches(s); return err }},
	} {
		value, given := w.values[part.key]
		if !given {
			continue
		}
		if err := part.read(value); err != nil {
			usable = false
			p.problem(out, w.name, part.key, quote(value)+": "+err.Error()+withheld)
		}
	}
	if c.count() == 0 {
		return nil, usable
	}
	return &c, usable
}

func readMethods(value string) ([]string, error) {
	methods := sortedUnique(splitList(strings.ToUpper(value)))
	if len(methods) == 0 || len(methods) > maxMethods {
		return nil, fmt.Errorf("write 1 to %d methods, such as GET,POST", maxMethods)
	}
	for _, m := range methods {
		switch {
		case len(m) > 32 || strings.Trim(m, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" || m[0] == '-' || m[0] == '_':
			return nil, fmt.Errorf("%s is not a method, such as GET", quote(m))
		case m == "CONNECT" || m == "TRACE":
			return nil, fmt.Errorf("the front end refuses %s itself", m)
		}
	}
	return methods, nil
}

// settled are headers that the front end writes or reads itself, so that what a client says in
// them reaches nobody.
var settled = append([]string{"host", "forwarded", "proxy", "x-real-ip", "x-request-id"}, framing...)

// readHeaderMatches takes "Name: value; Name: ~regex; Name". A semicolon in a value is written "\;".
func readHeaderMatches(value string) ([]HeaderMatch, error) {
	var list []HeaderMatch
	for _, item := range splitHeaders(value) {
		name, text, valued := strings.Cut(item, ":")
		m := HeaderMatch{Name: strings.ToLower(strings.TrimSpace(name)), Value: strings.TrimSpace(text)}
		if err := checkMatchedHeader(m.Name); err != nil {
			return nil, err
		}
		switch re, isRegex := strings.CutPrefix(m.Value, "~"); {
		case !valued:
			m.Kind = MatchPresent
		case m.Value == "":
			return nil, fmt.Errorf("%s has no value; for any value write the name without a colon", m.Name)
		case isRegex:
			canonical, err := parseRegex(re)
			if err != nil {
				return nil, err
			}
			if matches(canonical, "") {
				return nil, fmt.Errorf("the expression for %s matches no value at all; for any value write the name without a colon", m.Name)
			}
			m.Kind, m.Value = MatchRegex, canonical
		default:
			m.Kind = MatchEqual
			if len(m.Value) > maxHeaderValue || !printable(m.Value) {
				return nil, fmt.Errorf("the value of %s has at most %d printable ASCII characters", m.Name, maxHeaderValue)
			}
		}
		if slices.ContainsFunc(list, func(o HeaderMatch) bool { return o.Name == m.Name }) {
			return nil, fmt.Errorf("%s comes twice; for one of several values write %s: ~^(a|b)$", m.Name, m.Name)
		}
		list = append(list, m)
	}
	if len(list) == 0 || len(list) > maxConditions {
		return nil, fmt.Errorf("write 1 to %d headers, such as X-Canary: yes; Cookie: ~beta=1; X-Any", maxConditions)
	}
	slices.SortFunc(list, func(x, y HeaderMatch) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

func checkMatchedHeader(name string) error {
	if err := checkHeaderName(name); err != nil {
		return err
	}
	switch {
	case strings.Contains(name, "_"):
		return errors.New("a header to route by has no underscore")
	case slices.Contains(settled, name) || strings.HasPrefix(name, "x-forwarded-"):
		return fmt.Errorf("%s is settled by the front end itself; route by another header", name)
	}
	return nil
}

// readQueryMatches takes "name=value&name", encoded as in a URL.
func readQueryMatches(value string) ([]QueryMatch, error) {
	var list []QueryMatch
	for item := range strings.SplitSeq(value, "&") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		m := QueryMatch{Kind: MatchPresent}
		name, text, valued := strings.Cut(item, "=")
		if valued {
			m.Kind = MatchEqual
		}
		var err error
		if m.Name, err = url.QueryUnescape(name); err == nil {
			m.Value, err = url.QueryUnescape(text)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s is not encoded as in a URL", quote(item))
		case m.Name == "" || len(item) > maxQuery || !printable(m.Name) || !printable(m.Value):
			return nil, fmt.Errorf("a parameter is NAME=VALUE of at most %d printable ASCII characters", maxQuery)
		case slices.ContainsFunc(list, func(o QueryMatch) bool { return o.Name == m.Name }):
			return nil, fmt.Errorf("the parameter %s comes twice", quote(m.Name))
		}
		list = append(list, m)
	}
	if len(list) == 0 || len(list) > maxConditions {
		return nil, fmt.Errorf("write 1 to %d parameters, such as beta=1&debug", maxConditions)
	}
	slices.SortFunc(list, func(x, y QueryMatch) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// count is how many conditions there are: of two routes for one host and path the one with more
// goes first.
func (c *Conditions) count() int {
	if c == nil {
		return 0
	}
	n := len(c.Headers) + len(c.Query)
	if len(c.Methods) > 0 {
		n++
	}
	return n
}

// implies reports whether every request that meets c meets weaker as well.
func (c *Conditions) implies(weaker *Conditions) bool {
	switch {
	case weaker.count() == 0:
		return true
	case c.count() == 0:
		return false
	}
	methods := len(weaker.Methods) == 0 || len(c.Methods) > 0 && all(c.Methods, weaker.Methods)
	return methods && all(weaker.Headers, c.Headers) && all(weaker.Query, c.Query)
}

// all reports whether whole holds all of part.
func all[T comparable](part, whole []T) bool {
	return !slices.ContainsFunc(part, func(v T) bool { return !slices.Contains(whole, v) })
}

// String writes the conditions as one line for a person; "" for none. Different conditions are
// written differently.
func (c *Conditions) String() string {
	if c == nil {
		return ""
	}
	var parts []string
	if len(c.Methods) > 0 {
		parts = append(parts, "methods "+strings.Join(c.Methods, ","))
	}
	for _, h := range c.Headers {
		parts = append(parts, "header "+h.String())
	}
	for _, q := range c.Query {
		parts = append(parts, "query "+q.String())
	}
	return strings.Join(parts, " and ")
}

// String writes the condition as a label does, its value quoted.
func (h HeaderMatch) String() string {
	switch h.Kind {
	case MatchEqual:
		return h.Name + ": " + quoteAll(h.Value)
	case MatchRegex:
		return h.Name + ": ~" + quoteAll(h.Value)
	case MatchPresent:
	}
	return h.Name
}

// String writes the condition as a label does, decoded and quoted.
func (q QueryMatch) String() string {
	if q.Kind == MatchPresent {
		return quoteAll(q.Name)
	}
	return quoteAll(q.Name) + "=" + quoteAll(q.Value)
}

func quoteAll(s string) string { return fmt.Sprintf("%q", s) }

// Regex is a regular expression on a query as it was sent that finds the parameter however the
// client encoded it. Go and PCRE read it alike.
func (q QueryMatch) Regex() string {
	if q.Kind == MatchPresent {
		return "(?:^|&)" + anyQueryEncoding(q.Name) + "(?:=|&|\\z)"
	}
	return "(?:^|&)" + anyQueryEncoding(q.Name) + "=" + anyQueryEncoding(q.Value) + "(?:&|\\z)"
}

func anyQueryEncoding(s string) string {
	var out strings.Builder
	for i := range len(s) {
		c := s[i]
		encoded := fmt.Sprintf("%%%s%s", eitherCase(c>>4), eitherCase(c&15))
		switch {
		case c == ' ':
			out.WriteString(`(?:%20|\+)`)
		case strings.IndexByte("&+%#", c) >= 0: // as they stand they mean something else
			out.WriteString(encoded)
		default:
			fmt.Fprintf(&out, "(?:%s|%s)", regexp.QuoteMeta(string(rune(c))), encoded)
		}
	}
	return out.String()
}

func eitherCase(n byte) string {
	if n < 10 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("[%X%x]", n, n)
}

// Unmet says which conditions a request does not meet, each as a person reads it.
func (c *Conditions) Unmet(q Request) []string {
	if c == nil {
		return nil
	}
	var list []string
	if len(c.Methods) > 0 && !slices.Contains(c.Methods, q.Method) {
		list = append(list, "it is for "+strings.Join(c.Methods, ", ")+" and not for "+q.Method)
	}
	for _, h := range c.Headers {
		if value := q.Header[h.Name]; !h.matches(value) {
			list = append(list, fmt.Sprintf("it wants the header %s, which is %s", h, orNothing(value)))
		}
	}
	for _, m := range c.Query {
		if !matches(m.Regex(), q.Query) {
			list = append(list, fmt.Sprintf("it wants %s in the query", m))
		}
	}
	return list
}

func (h HeaderMatch) matches(value string) bool {
	switch h.Kind {
	case MatchEqual:
		return value == h.Value
	case MatchRegex:
		return value != "" && matches(h.Value, value)
	case MatchPresent:
	}
	return value != ""
}
