package dialect

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clip keeps what is quoted within a line of a log.
func clip(s string) string {
	const most = 160
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func quote(s string) string { return strconv.Quote(clip(s)) }

func splitList(s string) []string {
	var list []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// splitPatterns splits a list the way the front end does, where a comma in the brackets of a
// regular expression does not split.
func splitPatterns(s string) []string {
	if !strings.Contains(s, "~") {
		return splitList(s)
	}
	var list []string
	depth, from := 0, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == ',' && depth <= 0:
			list, from, depth = append(list, s[from:i]), i+1, 0
		case s[i] == '\\':
			i++
		case strings.IndexByte("([{", s[i]) >= 0:
			depth++
		case strings.IndexByte(")]}", s[i]) >= 0:
			depth--
		}
	}
	return append(list, s[from:])
}

// hostPattern is a host as Fairway writes it. nginx's ".example.com" is two of them.
func hostPattern(s string) ([]string, error) {
	if re, ok := strings.CutPrefix(s, "~"); ok {
		re, err := pattern(re)
		return []string{re}, err
	}
	s = strings.ToLower(s)
	if rest, ok := strings.CutPrefix(s, "."); ok && rest != "" {
		return []string{rest, "*." + rest}, plainHost(rest)
	}
	if rest, ok := strings.CutSuffix(s, ".*"); ok && plainHost(rest) == nil {
		return nil, fmt.Errorf("a wildcard stands in front only; write the names out, or fairway.host=~^%s\\.[a-z]+$", strings.ReplaceAll(rest, ".", `\.`))
	}
	return []string{s}, plainHost(strings.TrimPrefix(s, "*."))
}

func plainHost(s string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-._"
	if s == "" || strings.Trim(strings.ToLower(s), allowed) != "" {
		return errors.New("not the name of a host")
	}
	return nil
}

// plainPath accepts what can stand in a list of paths and means itself there.
func plainPath(s string) error {
	switch {
	case !strings.HasPrefix(s, "/"):
		return errors.New(`a path begins with "/"`)
	case strings.ContainsAny(s, ",~{}"):
		return errors.New(`a path holds none of , ~ { and }`)
	}
	return nil
}

// pattern is a regular expression as an item of a list. One whose commas would split the list is
// put into parentheses, between which they do not.
func pattern(re string) (string, error) {
	if _, err := syntax.Parse(re, syntax.Perl); err != nil {
		return "", fmt.Errorf("not a regular expression (RE2): %w", err)
	}
	if strings.Contains(re, ",") {
		re = "(?:" + re + ")"
	}
	if len(splitPatterns("~"+re)) != 1 || strings.TrimSpace(re) != re || re == "" {
		return "", errors.New("this regular expression cannot stand in a label; write it without commas and spaces at its ends")
	}
	return "~" + re, nil
}

func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "1", "yes", "on", "t":
		return true, true
	case "false", "0", "no", "off", "f":
		return false, true
	}
	return false, false
}

func parsePort(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return errors.New("ports go from 1 to 65535")
	}
	return nil
}

// networks reads addresses and networks and writes them as networks.
func networks(items []string) (string, error) {
	var list []string
	for _, item := range items {
		network, err := netip.ParsePrefix(item)
		if addr, single := netip.ParseAddr(item); err != nil && single == nil && addr.Zone() == "" {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return "", fmt.Errorf("%s is neither an address nor a network such as 10.0.0.0/8", quote(item))
		}
		list = append(list, network.String())
	}
	if len(list) == 0 {
		return "", errors.New("names no network")
	}
	return strings.Join(list, ","), nil
}

// duration reads "10s" and a plain number of the unit, and writes it as the front end reads it.
func duration(s string, unit time.Duration) (string, error) {
	d, err := parseDuration(s, unit)
	if err != nil {
		return "", err
	}
	return shortDuration(d), nil
}

func parseDuration(s string, unit time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if n, number := strconv.ParseUint(s, 10, 31); number == nil {
		d, err = time.Duration(n)*unit, nil
	}
	if err != nil || d <= 0 || d > 24*24*time.Hour {
		return 0, errors.New("not a duration such as 10s")
	}
	return d, nil
}

// shortDuration writes 1m rather than 1m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// isToken accepts names of headers, cookies, methods, lists and entrypoints.
func isToken(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	return s != "" && len(s) <= 100 && strings.Trim(s, allowed) == ""
}

// setHeaders adds a change of headers to a route. Semicolons separate changes.
func (t *route) setHeader(key, name, value, label string) error {
	if !isToken(name) {
		return fmt.Errorf("%s is not the name of a header", quote(name))
	}
	change := name + ": " + strings.ReplaceAll(value, ";", `\;`)
	if value == "" {
		change = "-" + name
	}
	t.add(key, "; ", change, label)
	return nil
}

// storeName is what the front end's certificate store calls a file: its name without folder and
// extension, or its folder's name where the file says only what it is. docs/tls.md lists them.
func storeName(file string) string {
	folder, name := path.Split(file)
	folder = path.Base(folder)
	if slices.Contains([]string{"fullchain.pem", "tls.crt"}, name) && isToken(folder) && folder[0] != '.' {
		return folder
	}
	if ext := path.Ext(name); slices.Contains([]string{".pem", ".crt", ".cer", ".cert"}, ext) {
		return strings.TrimSuffix(name, ext)
	}
	return name
}
