//go:build cluster

package acceptance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// clientIsSeen wants the web service to be told this client's own address, which host mode keeps,
// and not the one that the client makes up.
func (c *cluster) clientIsSeen() {
	c.t.Helper()
	const madeUp = "203.0.113.9"
	var own net.Addr
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, address)
		if err == nil {
			own = conn.LocalAddr()
		}
		return conn, err
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.web()+"/", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Host = "cluster.test"
	req.Header.Set("X-Forwarded-For", madeUp)
	req.Header.Set("X-Real-IP", madeUp)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	host, _, err := net.SplitHostPort(own.String())
	if err != nil {
		c.t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "Forwarded for")
	told, _, _ := strings.Cut(rest, "Forwarded protocol")
	if !found || !strings.Contains(told, fmt.Sprintf(">%s<", host)) || strings.Contains(string(page), madeUp) {
		c.t.Errorf("the client is %s, says that it is %s, and the service was told %q", host, madeUp, told)
	}
}
