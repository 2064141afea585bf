package render

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairway/confgen/route"
)

// emit adds a file to the configuration, beside those that have a template, and prints nothing.
// It must not be called from a block that remember prints, which does not run every time.
//
//	{{emit "users/staff" "joe:$6$…"}}
func (r *Renderer) emit(name, text string) (string, error) {
	if !filepath.IsLocal(name) || filepath.ToSlash(filepath.Clean(name)) != name {
		return "", fmt.Errorf("emit %q: want a path inside the configuration folder", name)
	}
	if slices.ContainsFunc(r.emitted, func(f File) bool { return f.Path == name }) {
		return "", fmt.Errorf("emit %q: there is such a file", name)
	}
	r.emitted = append(r.emitted, File{Path: name, Data: []byte(text)})
	return "", nil
}

// htpasswd prints a user list the way nginx reads it.
func htpasswd(l UserList) string {
	var out strings.Builder
	for _, u := range l.Users {
		fmt.Fprintf(&out, "%s:%s\n", u.Name, u.Hash)
	}
	return out.String()
}

// haproxyStatuses are those that HAProxy answers with itself, and so has pages for (manual,
// section 4.2, http-error).
var haproxyStatuses = []int{400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429, 500, 501, 502, 503, 504}

// pages are the statuses of a set of pages that HAProxy can answer with.
func pages(s Settings, set string) []int {
	return slices.DeleteFunc(s.pages(set), func(status int) bool { return !slices.Contains(haproxyStatuses, status) })
}

// pages are the statuses that a set has pages for, in order.
func (s Settings) pages(set string) []int {
	var list []int
	for _, p := range s.PageSets {
		if p.Name == set && set != "" {
			for status := range p.Pages {
				list = append(list, status)
			}
		}
	}
	slices.Sort(list)
	return list
}

// originRegex is a regular expression, without regard to case, for the origins that a label names.
func originRegex(c route.CORS) string {
	list := make([]string, len(c.Origins))
	for i, o := range c.Origins {
		list[i] = strings.Replace(regexQuote(o), `\*\.`, `(?:[a-z0-9_-]+\.)+`, 1)
	}
	return `^(?:` + strings.Join(list, "|") + `)\z`
}

// above is a regular expression for numbers larger than n, as a client writes a length.
func above(n int64) string {
	digits := strconv.FormatInt(n, 10)
	alternatives := []string{fmt.Sprintf("[1-9][0-9]{%d,}", len(digits))}
	for i := range len(digits) {
		if digits[i] == '9' {
			continue
		}
		alternatives = append(alternatives, fmt.Sprintf("%s[%c-9][0-9]{%d}", digits[:i], digits[i]+1, len(digits)-i-1))
	}
	return "^0*(?:" + strings.Join(alternatives, "|") + `)\z`
}

// nginxRate prints a rate as nginx counts it: what is no whole number a minute is rounded up.
func nginxRate(r route.Rate) string {
	if text, whole := r.PerMinute(); whole {
		return text
	}
	seconds := int(r.Period / time.Second)
	return fmt.Sprintf("%dr/m", (r.Requests*60+seconds-1)/seconds)
}

// multiply is a duration n times.
func multiply(d time.Duration, n int) time.Duration { return d * time.Duration(n) }

// pageChunk keeps a part of a page within a word of nginx.conf, which takes 4,096 bytes, also
// where every byte is escaped by eighteen.
const pageChunk = 1000

// chunks splits a page into words for nginx.conf, quoted.
func chunks(text string) ([]string, error) {
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("a page cannot hold NUL")
	}
	var list []string
	var word strings.Builder
	for i := range len(text) {
		switch c := text[i]; c {
		case '\\', '"':
			word.WriteByte('\\')
			word.WriteByte(c)
		case '$':
			word.WriteString("${fairway_dollar}")
		default:
			word.WriteByte(c)
		}
		if word.Len() >= pageChunk*3 || i == len(text)-1 {
			list = append(list, `"`+word.String()+`"`)
			word.Reset()
		}
	}
	return list, nil
}

// Sets are the names of the sets of pages that locations of a server block answer with.
func (v VirtualServer) Sets() []string {
	var list []string
	for l := range v.all {
		if l.Options != nil && l.Options.Errors != "" && !slices.Contains(list, l.Options.Errors) {
			list = append(list, l.Options.Errors)
		}
	}
	slices.Sort(list)
	return list
}
