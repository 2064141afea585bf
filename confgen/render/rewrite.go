package render

import (
	"fmt"
	"strings"

	"fairway/confgen/route"
)

// Substitution replaces a whole path, as the client wrote it and without its query, that a
// regular expression matches.
type Substitution struct {
	Prefix string // what is cut off, decoded; "" for a rewrite
	Fetch  string // HAProxy: the condition under which the decoded path begins with Prefix
	Regex  string
	to     string
	groups bool // $1 to $9 in to are groups
}

// cuts are the prefixes that are stripped, the first that matches a path before others. They
// work on the path as it was sent, so that what the client encoded arrives encoded.
func cuts(o *route.Options) ([]Substitution, error) {
	if o == nil {
		return nil, nil
	}
	list := make([]Substitution, 0, len(o.Strip))
	for _, p := range o.Strip {
		fetch, text, end := "var(txn.path),concat(/) -m beg -- ", p.Path+"/", "(?:"+slash+"(.*))?$"
		if p.Kind == route.PathExact {
			fetch, text, end = "var(txn.path) -m str -- ", p.Path, "()$"
		}
		quoted, err := haproxyQuote(text)
		if err != nil {
			return nil, err
		}
		list = append(list, Substitution{Prefix: p.Path, Fetch: fetch + quoted, Regex: "^" + anyEncoding(p.Path) + end, to: "/$1", groups: true})
	}
	return list, nil
}

// rewrite is what the key rewrite asks for, or nil.
func rewrite(o *route.Options) *Substitution {
	switch {
	case o == nil || o.Rewrite == nil:
		return nil
	case o.Rewrite.From.Kind == route.PathRegex:
		return &Substitution{Regex: o.Rewrite.From.Path, to: o.Rewrite.To, groups: true}
	}
	from, to := strings.TrimSuffix(o.Rewrite.From.Path, "/"), strings.TrimSuffix(o.Rewrite.To, "/")
	if to == "" {
		return &Substitution{Regex: "^" + anyEncoding(from) + "(?:" + slash + "(.*))?$", to: "/"}
	}
	return &Substitution{Regex: "^" + anyEncoding(from) + "(" + slash + ".*)?$", to: to}
}

// slash matches a slash, encoded or not: matching decodes, so both end a segment.
const slash = "(?:/|%2[Ff])"

// anyEncoding is a regular expression that matches a path however a client encodes it.
func anyEncoding(path string) string {
	var out strings.Builder
	for i := range len(path) {
		c := path[i]
		if c == '/' {
			out.WriteString(slash)
			continue
		}
		fmt.Fprintf(&out, "(?:%s|%%%s%s)", regexQuote(path[i:i+1]), hexDigit(c>>4), hexDigit(c&15))
	}
	return out.String()
}

func hexDigit(n byte) string {
	if n < 10 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("[%X%x]", n, n)
}

// HAProxy prints the replacement for http-request replace-path: a log format in which \1 is a
// group (manual, section 4.2).
func (s Substitution) HAProxy() (string, error) {
	return haproxyQuote(s.replacement(logFormat, `\`))
}

// Nginx prints the replacement as the value of a map.
func (s Substitution) Nginx() (string, error) {
	return nginxRegex(s.replacement(nginxLiteral, "$"))
}

func (s Substitution) replacement(literal func(string) string, group string) string {
	if !s.groups {
		return literal(s.to) + group + "1"
	}
	var out strings.Builder
	for i, part := range strings.Split(s.to, "$") {
		if i > 0 {
			out.WriteString(group + part[:1])
			part = part[1:]
		}
		out.WriteString(literal(part))
	}
	return out.String()
}

// nginxLiteral prints text as it is where nginx expands variables: it has no way to escape a
// dollar sign, so nginx.conf has a variable that is one.
func nginxLiteral(s string) string { return strings.ReplaceAll(s, "$", "${fairway_dollar}") }

// nginxText prints any text without control characters as one word of nginx.conf that comes out
// as it is where nginx expands variables.
//
//	proxy_set_header Price {{nginxText "1 $"}} → "1 ${fairway_dollar}"
func nginxText(s string) (string, error) { return nginxRegex(nginxLiteral(s)) }

// nginxName prints a name as the end of a variable's: different names, different variables.
//
//	{{nginxName "web.a-b"}} → web_da_hb
func nginxName(s string) string {
	return strings.NewReplacer("_", "__", ".", "_d", "-", "_h").Replace(s)
}
