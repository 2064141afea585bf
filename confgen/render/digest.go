package render

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"fairway/confgen/route"
)

// digest names something after its content, so that the name changes with nothing else, and
// nobody can make another content that has it.
func digest[T any](parts []T) string {
	var text strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&text, "%v\x00", p)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// String is for digest.
func (c Choice) String() string { return c.Backend + " " + c.When.String() }

// testName is the end of the name of the variable that tells whether conditions are met.
func testName(c *route.Conditions) string { return digest([]string{c.String()}) }
