package route

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// readAuth takes the name of one of the operator's user lists.
func readAuth(r reading, value string) error {
	if !slices.Contains(r.set.UserLists, value) {
		return unknownName("user list", "--user-list", value, r.set.UserLists)
	}
	r.Auth = value
	return nil
}

// readErrors takes the name of one of the operator's sets of pages.
func readErrors(r reading, value string) error {
	if !slices.Contains(r.set.PageSets, value) {
		return unknownName("set of pages", "--error-pages", value, r.set.PageSets)
	}
	r.Errors = value
	return nil
}

func unknownName(what, flag, value string, known []string) error {
	if len(known) == 0 {
		return fmt.Errorf("the operator named no %s; %s %s=PATH does", what, flag, orElse(value, "NAME"))
	}
	return fmt.Errorf("no %s is called so; there is %s", what, strings.Join(known, ", "))
}

func orElse(s, otherwise string) string {
	if s == "" || s != safeName(s) {
		return otherwise
	}
	return s
}

// CORS is which pages of other origins may read answers.
type CORS struct {
	Any         bool     // every origin
	Origins     []string `json:",omitempty"` // "https://app.test", "https://*.app.test"
	Credentials bool     `json:",omitzero"`  // with cookies
}

const maxOrigins = 50

// readCORS takes "*", or a list of origins; the word credentials lets them send cookies.
func readCORS(r reading, value string) error {
	var c CORS
	for _, item := range splitList(value) {
		switch {
		case item == "*":
			c.Any = true
		case item == "credentials":
			c.Credentials = true
		default:
			origin, err := readOrigin(item)
			if err != nil {
				return err
			}
			if !slices.Contains(c.Origins, origin) {
				c.Origins = append(c.Origins, origin)
			}
		}
	}
	switch {
	case c.Any && len(c.Origins) > 0:
		return errors.New("* is every origin; leave the others out, or *")
	case !c.Any && len(c.Origins) == 0, len(c.Origins) > maxOrigins:
		return fmt.Errorf("write * or 1 to %d origins, such as https://app.test,https://*.app.test", maxOrigins)
	case c.Any && c.Credentials:
		return errors.New("credentials for every origin would let any page act as its visitor; name the origins")
	}
	r.CORS = &c
	return nil
}

func readOrigin(s string) (string, error) {
	lower := strings.ToLower(s)
	u, err := url.Parse(strings.Replace(lower, "://*.", "://", 1))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || u.Opaque != "" {
		return "", fmt.Errorf("%s is not an origin, such as https://app.test, https://*.app.test or https://app.test:8443", quote(s))
	}
	if err := checkDNSName(u.Hostname()); err != nil {
		return "", fmt.Errorf("the origin %s: %w", quote(s), err)
	}
	if port := u.Port(); port != "" && !isNumber(port) || strings.HasSuffix(u.Host, ":") {
		return "", fmt.Errorf("the origin %s: a port is a number", quote(s))
	}
	return lower, nil
}

// retries that both proxies know, and what each calls them. A condition that one has no word for
// is refused there.
var retryWords = map[string]map[Proxy]string{
	"connect": {HAProxy: "conn-failure", Nginx: "error"},
	"empty":   {HAProxy: "empty-response", Nginx: "error"},
	"invalid": {HAProxy: "junk-response", Nginx: "invalid_header"},
	"timeout": {HAProxy: "response-timeout", Nginx: "timeout"},
	"401":     {HAProxy: "401"},
	"403":     {HAProxy: "403", Nginx: "http_403"},
	"404":     {HAProxy: "404", Nginx: "http_404"},
	"408":     {HAProxy: "408"},
	"425":     {HAProxy: "425"},
	"429":     {Nginx: "http_429"},
	"500":     {HAProxy: "500", Nginx: "http_500"},
	"501":     {HAProxy: "501"},
	"502":     {HAProxy: "502", Nginx: "http_502"},
	"503":     {HAProxy: "503", Nginx: "http_503"},
	"504":     {HAProxy: "504", Nginx: "http_504"},
}

// retryOrder makes the list independent of the label's order.
var retryOrder = []string{"connect", "empty", "invalid", "timeout", "401", "403", "404", "408", "425", "429", "500", "501", "502", "503", "504"}

// readRetryOn takes off, or a list of what is tried again on another server.
func readRetryOn(r reading, value string) error {
	items := splitList(strings.ToLower(value))
	if len(items) == 1 && items[0] == "off" {
		r.RetryOn = []string{"off"}
		return nil
	}
	for _, item := range items {
		words, known := retryWords[item]
		if !known {
			return fmt.Errorf("%s is not known; write off, or a list of %s", quote(item), strings.Join(retryOrder, ", "))
		}
		if r.proxy != AnyProxy && words[r.proxy] == "" {
			return fmt.Errorf("%s does not try again on %s; leave it out", r.proxy, item)
		}
		if r.proxy == Nginx && r.Proto == FastCGI && (item == "502" || item == "504") {
			return fmt.Errorf("nginx does not try again on %s with proto=fcgi; leave it out", item)
		}
	}
	if len(items) == 0 {
		return fmt.Errorf("write off, or a list of %s", strings.Join(retryOrder, ", "))
	}
	r.RetryOn = nil
	for _, word := range retryOrder {
		if slices.Contains(items, word) {
			r.RetryOn = append(r.RetryOn, word)
		}
	}
	return nil
}

// RetryWords are what a proxy calls the conditions of RetryOn, each once.
func (o *Options) RetryWords(p Proxy) []string {
	var list []string
	for _, word := range o.RetryOn {
		if w := retryWords[word][p]; w != "" && !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list
}
