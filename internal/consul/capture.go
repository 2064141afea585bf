package consul

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
)

// Captured is the text of one answer, as Consul sent it.
type Captured struct {
	text *bytes.Buffer
	full bool
}

type captureKey struct{}

// Capture returns a context for one query by a client that New made. What is asked for is not
// decoded but put into text as it came: the client gets null in its place, and its out parameter
// stays as it is.
func Capture(ctx context.Context, text *bytes.Buffer) (context.Context, *Captured) {
	c := &Captured{text: text}
	return context.WithValue(ctx, captureKey{}, c), c
}

// Text returns the text; false when no good answer came, or by way of another client.
func (c *Captured) Text() ([]byte, bool) { return c.text.Bytes(), c.full }

// capture takes the body of a good answer for whoever wants its text.
func capture(ctx context.Context, resp *http.Response) {
	c, wanted := ctx.Value(captureKey{}).(*Captured)
	if !wanted || resp.StatusCode != http.StatusOK {
		return
	}
	body := resp.Body
	if _, err := c.text.ReadFrom(body); err != nil {
		return // the client meets the same error, which a body repeats
	}
	c.full = true
	resp.Body = readCloser{strings.NewReader("null"), body}
}

type readCloser struct {
	io.Reader
	io.Closer
}
