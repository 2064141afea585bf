package route

import (
	"errors"
	"strings"
)

// readBalance takes the name of a way to choose a server. For roundrobin, which is what happens
// anyway, nothing is kept.
func readBalance(r reading, value string) error {
	value = strings.ToLower(value)
	if name, ok := strings.CutPrefix(value, "header:"); ok {
		r.Balance = Balance{Algorithm: Header, Header: strings.TrimSpace(name)}
		return checkBalanceHeader(r.Balance.Header)
	}
	switch a := Algorithm(value); a {
	case "roundrobin":
		r.Balance = Balance{}
	case LeastConn, Random, Source, URI:
		r.Balance = Balance{Algorithm: a}
	default:
		return errors.New("write roundrobin, leastconn, random, source, uri or header:NAME")
	}
	return nil
}

// checkBalanceHeader accepts what both proxies can look up.
func checkBalanceHeader(name string) error {
	if err := checkHeaderName(name); err != nil {
		return err
	}
	if strings.Contains(name, "_") {
		return errors.New("a header to balance by has no underscore")
	}
	return nil
}

// readSticky takes off, source or cookie, which a name may follow. Whoever sticks is found by a
// hash, so that every front end, and a reloaded one, sends a client to the same server.
func readSticky(r reading, value string) error {
	kind, name, named := strings.Cut(value, ":")
	switch kind = strings.ToLower(kind); {
	case kind == "off" && !named:
		return nil
	case kind != "cookie" && (kind != "source" || named):
		return errors.New("write off, source, cookie or cookie:NAME")
	case r.Balance != Balance{}:
		return errors.New("it decides which server a client gets; leave balance out")
	case kind == "source":
		r.Balance = Balance{Algorithm: Source}
		return nil
	}
	if !named {
		name = "fairway"
	}
	if name == "" || len(name) > maxHeaderName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return errors.New("the name of the cookie has 1 to 64 characters of a-z, 0-9 and _")
	}
	r.Balance = Balance{Algorithm: Cookie, Cookie: name}
	return nil
}
