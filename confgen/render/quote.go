package render

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// Quoting are the functions that depend on nothing but their arguments and are Fairway's own:
// those that quote, and generation. Templates in another dialect may call them too.
func Quoting() template.FuncMap {
	funcs := (&Renderer{}).funcs()
	own := template.FuncMap{}
	for _, name := range []string{"haproxyWord", "haproxyQuote", "nginxQuote", "nginxText", "nginxName", "regexQuote", "hostPort", "mapKey", "comment", "generation"} {
		own[name] = funcs[name]
	}
	return own
}

// funcs are what templates may call, beside sprig's hermetic functions (those that depend on
// nothing but their arguments). Each refuses what it cannot print safely: an error, with the
// template's file and line, is better than a line that a label wrote.
func (r *Renderer) funcs() template.FuncMap {
	funcs := sprig.HermeticTxtFuncMap()
	own := template.FuncMap{
		"remember":     r.remember,
		"include":      r.include,
		"serverLine":   serverLine,
		"serverEnd":    r.serverEnd,
		"haproxyWord":  haproxyWord,
		"haproxyQuote": haproxyQuote,
		"nginxQuote":   nginxQuote,
		"nginxRegex":   nginxRegex,
		"nginxText":    nginxText,
		"nginxName":    nginxName,
		"cuts":         cuts,
		"rewrite":      rewrite,
		"nginxHeaders": nginxHeaders,
		"testName":     testName,

		"emit": r.emit, "htpasswd": htpasswd, "pages": pages, "originRegex": originRegex, "above": above,
		"nginxRate": nginxRate, "multiply": multiply, "chunks": chunks,
		"mapKey":     mapKey,
		"logFormat":  logFormat,
		"regexQuote": regexQuote,
		"hostPort":   hostPort,
		"ms":         milliseconds,
		"quarter":    func(d time.Duration) time.Duration { return max(d/4, time.Millisecond) },
		"comment":    comment,
		"generation": func() string { return Generation },
	}
	own["certificateFile"], own["authorityFile"] = certificateFile, authorityFile
	maps.Copy(funcs, own)
	return funcs
}

// haproxyWord prints a word of haproxy.cfg that needs no quoting: letters, digits and
// _ . : / @ % + , = - [ ] ~.
//
//	{{haproxyWord .Name}} → web.api
func haproxyWord(s string) (string, error) {
	for i := range len(s) {
		c := s[i]
		if !alphanumeric(c) && strings.IndexByte("_.:/@%+,=-[]~", c) < 0 {
			return "", fmt.Errorf("%q cannot be a word of haproxy.cfg: it holds %q", s, c)
		}
	}
	if s == "" {
		return "", fmt.Errorf("a word of haproxy.cfg cannot be empty")
	}
	return s, nil
}

// haproxyQuote prints any text without control characters as one word of haproxy.cfg, in strong
// quotes, in which HAProxy expands nothing (manual, section 2.2).
//
//	{{haproxyQuote "it's $HOME"}} → 'it'\''s $HOME'
func haproxyQuote(s string) (string, error) {
	if c, ok := control(s); ok {
		return "", fmt.Errorf("%q cannot stand in haproxy.cfg: it holds the control character %q", s, c)
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'", nil
}

// nginxQuote prints text as one word of nginx.conf. A dollar sign is refused: nginx would read
// a variable.
//
//	{{nginxQuote `a "b"`}} → "a \"b\""
func nginxQuote(s string) (string, error) {
	if strings.Contains(s, "$") {
		return "", fmt.Errorf("%q cannot stand in nginx.conf: $ would start a variable", s)
	}
	return nginxRegex(s)
}

// nginxRegex prints text as one word of nginx.conf where nginx expands no variables: regular
// expressions and paths of location, and regular expressions of server_name.
//
//	location ~ {{nginxRegex `^/v\d+$`}} → location ~ "^/v\\d+$"
func nginxRegex(s string) (string, error) {
	if c, ok := control(s); ok {
		return "", fmt.Errorf("%q cannot stand in nginx.conf: it holds the control character %q", s, c)
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`, nil
}

// mapKey prints a key of an HAProxy map file: no white space, no control character, and not
// starting as a comment.
//
//	{{mapKey "web/cluster.test/"}} web
func mapKey(s string) (string, error) {
	if _, bad := control(s); bad || s == "" || s[0] == '#' || strings.Contains(s, " ") {
		return "", fmt.Errorf("%q cannot be a key of a map file", s)
	}
	return s, nil
}

// logFormat prints text that HAProxy will read as a log format, so that it comes out as it is.
//
//	{{logFormat "100%"}} → 100%%
func logFormat(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// regexQuote prints a regular expression that matches the text and nothing else.
//
//	{{regexQuote "a.b"}} → a\.b
func regexQuote(s string) string {
	var out strings.Builder
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '_' && s[i] < 0x80 {
			out.WriteByte('\\')
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// hostPort joins an IP address, or "*", and a port, with brackets where there must be some.
//
//	{{hostPort "fd00::1" 80}} → [fd00::1]:80
func hostPort(host string, port int) (string, error) {
	if _, err := netip.ParseAddr(host); err != nil && host != "*" {
		return "", fmt.Errorf("%q is not an IP address", host)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// milliseconds prints a duration the way both proxies read it.
//
//	{{ms .Settings.Timeouts.Connect}} → 2000ms
func milliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// comment prints text behind "#": what could end the line is replaced, and long text is cut,
// since nginx takes no word over 4,096 bytes, not even in a comment.
//
//	# {{comment .Service}}
func comment(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e {
			return '?'
		}
		return c
	}, s)
}

func control(s string) (byte, bool) {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return s[i], true
		}
	}
	return 0, false
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
