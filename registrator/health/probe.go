package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"fairway/registrator/service"
)

// maxBody is how much of an answer is read: it is only polite to take it.
const maxBody = 64 << 10

// maxOutput bounds what a check may write into the catalog, in bytes.
const maxOutput = 256

// ask runs a check once.
func (r *Runner) ask(ctx context.Context, k service.Check, env []string) (service.Status, string) {
	var status service.Status
	var output string
	switch k.Kind {
	case service.HTTP, service.HTTPS:
		status, output = askHTTP(ctx, k)
	case service.TCP:
		status, output = askTCP(ctx, k)
	case service.GRPC:
		status, output = askGRPC(ctx, k)
	case service.Script, service.Cmd:
		status, output = r.askInside(ctx, k, env)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		status, output = service.Critical, unanswered(k)
	}
	return status, oneLine(output)
}

// unanswered says that the time was over before there was an answer.
func unanswered(k service.Check) string { return fmt.Sprintf("no answer within %s", k.Timeout) }

// askHTTP is passing at 2xx, warning at 429, critical at all else, as Consul's own check is. Every
// request has a connection of its own: an old one says nothing about a new one.
func askHTTP(ctx context.Context, k service.Check) (service.Status, string) {
	request, err := http.NewRequestWithContext(ctx, k.Method, k.Target, nil)
	if err != nil {
		return service.Critical, reason(err)
	}
	given, _ := service.ParseHeader(k.Header) // was parsed before
	header := http.Header(given)
	header.Set("Connection", "close")
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "Fairway health check")
	}
	name := header.Get("Host")
	if name != "" {
		request.Host = name
	}
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	request.Header = header
	transport := &http.Transport{
		DisableKeepAlives: true,
		// Whoever asked for no verification has a certificate that nobody could verify.
		TLSClientConfig: &tls.Config{ServerName: name, InsecureSkipVerify: k.SkipVerify}, //nolint:gosec // CHECK_TLS_SKIP_VERIFY
	}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return service.Critical, reason(err)
	}
	defer response.Body.Close()
	_, readErr := io.Copy(io.Discard, io.LimitReader(response.Body, maxBody))
	output := fmt.Sprintf("%s %s: %s", k.Method, k.Target, response.Status)
	switch {
	case readErr != nil:
		return service.Critical, output + ": " + reason(readErr)
	case response.StatusCode >= 200 && response.StatusCode < 300:
		return service.Passing, output
	case response.StatusCode == http.StatusTooManyRequests:
		return service.Warning, output
	}
	return service.Critical, output
}

func askTCP(ctx context.Context, k service.Check) (service.Status, string) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", k.Target)
	if err != nil {
		return service.Critical, reason(err)
	}
	if err := conn.Close(); err != nil {
		return service.Critical, reason(err)
	}
	return service.Passing, "connect to " + k.Target + ": success"
}

// askInside runs a command in the container: exit code 0 is passing, 1 warning, all else critical.
func (r *Runner) askInside(ctx context.Context, k service.Check, env []string) (service.Status, string) {
	code, printed, err := r.opt.Exec(ctx, k.Container, k.Command, env)
	if err != nil {
		return service.Critical, reason(err)
	}
	output := fmt.Sprintf("exit code %d", code)
	if line := lastLine(printed); line != "" {
		output += ": " + line
	}
	switch code {
	case 0:
		return service.Passing, output
	case 1:
		return service.Warning, output
	}
	return service.Critical, output
}

// reason is an error without the local port of its connection, which would make the same failure
// look new every time.
func reason(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Sprintf("%s %s: %v", op.Op, op.Addr, op.Err)
	}
	return err.Error()
}

// envOf tells a command where its service is registered.
func envOf(row service.Registration) []string {
	return []string{"SERVICE_IP=" + row.Address, "SERVICE_PORT=" + strconv.Itoa(row.Port)}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// oneLine is a text that Consul returns unchanged.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if text = strings.TrimSpace(text); len(text) > maxOutput {
		text = strings.ToValidUTF8(text[:maxOutput], "") + "…"
	}
	return text
}
