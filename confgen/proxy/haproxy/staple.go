package haproxy

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// certificate is what HAProxy is given under one name.
type certificate struct {
	text   string // PEM
	staple string // OCSP response as DER; "" for none
}

func (c certificate) encoded() string { return base64.StdEncoding.EncodeToString([]byte(c.staple)) }

// longest is how long the longest message gets that gives it to HAProxy.
func (c certificate) longest() int {
	return max(len(c.text), base64.StdEncoding.EncodedLen(len(c.staple))+len(StapleExt))
}

// staples reports whether a certificate, as the worker shows it, has an OCSP response and from
// when to when that counts. A HAProxy that does not say (before 2.5, and 2.6 of Ed25519) is taken
// to have it.
func (c *Conn) staples(ctx context.Context, shown, der string) (bool, error) {
	_, rest, said := strings.Cut(shown, "OCSP Response Key:")
	if !said {
		return true, nil
	}
	key, _, _ := strings.Cut(rest, "\n")
	key = strings.TrimSpace(key)
	if key == "" || der == "" {
		return (key == "") == (der == ""), nil
	}
	answer, err := c.Ask(ctx, "show ssl ocsp-response "+key)
	if err != nil {
		return false, err
	}
	wanted, err := ocsp.ParseResponse([]byte(der), nil)
	if err != nil {
		return true, nil //nolint:nilerr // HAProxy has one, and nobody can say of which it should be.
	}
	const form = "Jan _2 15:04:05 2006 GMT"
	for key, at := range map[string]time.Time{"This Update: ": wanted.ThisUpdate, "Next Update: ": wanted.NextUpdate} {
		if !strings.Contains(answer, key+at.UTC().Format(form)) {
			return false, nil
		}
	}
	return true, nil
}
