package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/internal/reconcile"
)

// maxBody bounds one answer in bytes: 100,000 instances are about 50 MB of JSON.
const maxBody = 256 << 20

// maxHoldOff bounds how long a Retry-After header is obeyed.
const maxHoldOff = 30 * time.Second

// transport sends every request to one of several endpoints, with the token of the moment. It
// stays with an endpoint as long as that answers, and goes to the next when it does not.
type transport struct {
	base      http.RoundTripper
	endpoints []*url.URL
	token     *tokenFile // nil without a token file
	current   atomic.Uint32
	holdUntil atomic.Int64 // Unix nanoseconds, from Retry-After
}

func newTransport(cfg Config, endpoints []*url.URL) (*transport, error) {
	tlsConfig, err := api.SetupTLSConfig(&api.TLSConfig{
		Address: cfg.ServerName, CAFile: cfg.CACert, CAPath: cfg.CAPath,
		CertFile: cfg.ClientCert, KeyFile: cfg.ClientKey, InsecureSkipVerify: cfg.SkipVerify,
	})
	if err != nil {
		return nil, fmt.Errorf("consul TLS: %w", err)
	}
	conns := cfg.MaxConns
	if conns <= 0 {
		conns = DefaultMaxConns
	}
	t := &transport{endpoints: endpoints}
	if cfg.TokenFile != "" {
		t.token = &tokenFile{path: cfg.TokenFile}
		if _, err := t.token.read(); err != nil {
			return nil, err
		}
	}
	t.base = &http.Transport{
		DialContext:           t.dial,
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   5 * time.Second,
		ForceAttemptHTTP2:     true, // Consul speaks it on its HTTPS listener only
		DisableCompression:    true, // within a datacenter gzip costs both sides more time than it saves
		MaxConnsPerHost:       conns,
		MaxIdleConnsPerHost:   conns,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	return t, nil
}

// dial notices a peer that vanished without a word within half a minute, also on a connection
// that only waits for a blocking query.
func (t *transport) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		Timeout:         5 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	if host, _, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, unixHost) {
		i, err := strconv.Atoi(strings.TrimSuffix(host, unixHost))
		if err == nil && i < len(t.endpoints) {
			return d.DialContext(ctx, "unix", t.endpoints[i].Path)
		}
	}
	return d.DialContext(ctx, network, addr)
}

// unixHost marks the pretended host name of a unix socket; what stands in front of it is the
// endpoint's number.
const unixHost = ".unix.invalid"

// RoundTrip sends req to the current endpoint and, when that cannot even be dialled, to the
// others in turn.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := t.holdOff(req.Context()); err != nil {
		return nil, err
	}
	token := ""
	if t.token != nil {
		var err error
		if token, err = t.token.read(); err != nil {
			return nil, err
		}
	}
	for tried := 1; ; tried++ {
		at := t.current.Load()
		resp, err := t.base.RoundTrip(t.aim(req, at, token))
		if err == nil {
			t.judge(resp, at)
			capture(req.Context(), resp)
			return resp, nil
		}
		if req.Context().Err() != nil {
			return nil, err
		}
		t.advance(at)
		if tried >= len(t.endpoints) || !undelivered(err) || !rewind(req) {
			return nil, err
		}
	}
}

// aim returns a copy of req for the endpoint numbered at.
func (t *transport) aim(req *http.Request, at uint32, token string) *http.Request {
	i := int(at) % len(t.endpoints)
	e := t.endpoints[i]
	out := req.Clone(req.Context())
	if e.Scheme == "unix" {
		out.URL.Scheme, out.URL.Host, out.Host = "http", strconv.Itoa(i)+unixHost, "localhost"
	} else {
		out.URL.Scheme, out.URL.Host, out.Host = e.Scheme, e.Host, e.Host
		out.URL.Path = e.Path + out.URL.Path
		if password, set := e.User.Password(); set {
			out.SetBasicAuth(e.User.Username(), password)
		}
	}
	if token != "" {
		out.Header.Set("X-Consul-Token", token)
	}
	return out
}

// judge leaves an endpoint that has no leader or refuses for load, obeys Retry-After, and bounds
// the body.
func (t *transport) judge(resp *http.Response, at uint32) {
	switch resp.StatusCode {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusTooManyRequests:
		t.advance(at)
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		wait := min(time.Duration(s)*time.Second, maxHoldOff)
		t.holdUntil.Store(time.Now().Add(wait).UnixNano())
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody}
}

func (t *transport) advance(from uint32) { t.current.CompareAndSwap(from, from+1) }

func (t *transport) holdOff(ctx context.Context) error {
	return reconcile.Sleep(ctx, time.Until(time.Unix(0, t.holdUntil.Load())))
}

// undelivered reports whether the server cannot have seen the request.
func undelivered(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// rewind makes req's body readable from its start again.
func rewind(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = body
	return true
}

// boundedBody fails a body that is longer than anything Consul could mean.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("answer of Consul is longer than %d MiB", maxBody>>20)
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// tokenFile is an ACL token that may be rotated on disk.
type tokenFile struct {
	path string

	mu      sync.Mutex
	token   string
	checked time.Time
	stamp   time.Time
	size    int64
}

// read returns the token, looking at the file at most once a second. A file that became
// unreadable or empty leaves the last good token in use.
func (f *tokenFile) read() (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.token != "" && time.Since(f.checked) < time.Second {
		return f.token, nil
	}
	f.checked = time.Now()
	info, err := os.Stat(f.path)
	if err == nil && f.token != "" && info.ModTime().Equal(f.stamp) && info.Size() == f.size {
		return f.token, nil
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(f.path)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case err == nil && token != "":
		f.token, f.stamp, f.size = token, info.ModTime(), info.Size()
	case f.token != "":
	case err != nil:
		return "", fmt.Errorf("consul token file: %w", err)
	default:
		return "", fmt.Errorf("consul token file %s is empty", f.path)
	}
	return f.token, nil
}

// TokenNow returns what tells the token that requests carry at the moment it is called; "" for none
// and for one that cannot be read, which requests report.
func (cfg Config) TokenNow() func() string {
	if cfg.TokenFile == "" {
		return func() string { return cfg.Token }
	}
	f := &tokenFile{path: cfg.TokenFile}
	return func() string {
		token, err := f.read()
		if err != nil {
			return ""
		}
		return token
	}
}
