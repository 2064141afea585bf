// Package redact makes addresses fit to be printed: what stands before an @ may be a password.
package redact

import "strings"

// Address is an address without the user and password in it, whether it can be parsed or not.
func Address(address string) string {
	scheme, rest, found := strings.Cut(address, "://")
	if !found {
		scheme, rest = "", address
	} else {
		scheme += "://"
	}
	if strings.HasPrefix(rest, "/") {
		return address // a path has no user
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = "…" + rest[i:]
	}
	return scheme + rest
}
