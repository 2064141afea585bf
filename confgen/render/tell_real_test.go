//go:build real

package render_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"

	"google.golang.org/grpc/credentials/insecure"
)

// told is a connection whose PROXY header has been read already.
type told struct {
	net.Conn
	from io.Reader
}

func (c told) Read(b []byte) (int, error) { return c.from.Read(b) }

// toldBy reads a PROXY header, and says its version and the client that it names.
func toldBy(r *bufio.Reader) (string, error) {
	if head, err := r.Peek(12); err != nil || string(head) != "\r\n\r\n\x00\r\nQUIT\n" {
		line, err := r.ReadString('\n')
		if words := strings.Fields(line); err == nil && len(words) == 6 && words[0] == "PROXY" {
			return "v1 " + words[2], nil
		}
		return "", fmt.Errorf("no PROXY header but %q: %w", line, err)
	}
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	addresses := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, addresses); err != nil || head[12] != 0x21 || len(addresses) < 12 {
		return "", fmt.Errorf("header %x %x: %w", head, addresses, err)
	}
	return fmt.Sprintf("v2 %s", net.IP(addresses[:4])), nil
}

// tellingServer wants a PROXY header and TLS behind it, and says what it was told.
func tellingServer(t *testing.T, config *tls.Config) string {
	t.Helper()
	return tcpServer(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(c)
		who, err := toldBy(r)
		if err != nil {
			return
		}
		inside := tls.Server(told{c, r}, config)
		if line, err := bufio.NewReader(inside).ReadString('\n'); err == nil {
			fmt.Fprintf(inside, "%s: %s", who, line)
		}
	})
}

// TestPassThrough_proxyProtocol has servers of TLS that is passed through told who the client is,
// before the TLS that they end themselves. nginx can only say it in v1.
func TestPassThrough_proxyProtocol(t *testing.T) {
	inner := testbed.NewAuthority(t, "inner")
	config := &tls.Config{Certificates: []tls.Certificate{inner.TLS(t, "one.com", "two.com", "none.com")}, MinVersion: tls.VersionTLS12}
	each(t, func(t *testing.T, proxy int, dir string) {
		text := "one n " + tellingServer(t, config) + " passing 1 fairway-sni=one.com fairway-proxy-protocol=v1 fairway-check=off\n" +
			"none n " + tellingServer(t, config) + " passing 2 fairway-sni=none.com fairway-check=off\n"
		cases := map[string]string{"one.com": "v1 127.0.0.9: hello", "none.com": "refused"}
		if proxies[proxy].name == "haproxy" {
			text += "two n " + tellingServer(t, config) + " passing 3 fairway-sni=two.com fairway-proxy-protocol=v2 fairway-check=off\n"
			cases["two.com"] = "v2 127.0.0.9: hello"
		}
		v := streamView(t, proxy, catalog(t, text), &store{}, dir)
		start(t, proxy, dir, v)
		for host, want := range cases {
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}, Timeout: 2 * time.Second}
			got := "refused"
			c, err := tls.DialWithDialer(d, "tcp", fmt.Sprintf("127.0.0.1:%d", v.Entrypoints[1].Port), &tls.Config{RootCAs: inner.Pool, ServerName: host, MinVersion: tls.VersionTLS12})
			if err == nil {
				got = talk(c, nil)
			}
			if got != want {
				t.Errorf("%s: %q, want %q (%v)", host, got, want, err)
			}
		}
	})
}

// TestGRPC_clear calls with no TLS at all, which only HAProxy takes from clients.
func TestGRPC_clear(t *testing.T) {
	dir := t.TempDir()
	s := catalog(t, "clear n "+grpcServer(t)+" passing 1 fairway-host=clear.com fairway-proto=grpc")
	calls(t, "clear.com", start(t, 0, dir, viewFor(t, 0, s, dir)), insecure.NewCredentials())
}
