// Package consul makes Consul clients the way both programs need them and follows blocking
// queries by Consul's rules. Nothing else in Fairway knows how to reach or authenticate to
// Consul.
package consul

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v2"

	"fairway/internal/redact"
)

// DefaultAddress is where Consul is looked for when nothing says otherwise.
const DefaultAddress = "127.0.0.1:8500"

// DefaultMaxConns bounds the connections to one Consul server; Consul's own limit is 200 for
// each source address (limits.http_max_conns_per_client).
const DefaultMaxConns = 8

// Config says how to reach Consul. The zero value reaches DefaultAddress without a token.
type Config struct {
	// Addresses are tried in turn: "host:port", "http://…", "https://…" or "unix:///path". A user and
	// password in one are sent as HTTP's basic authentication.
	Addresses []string
	TLS       bool // https for addresses without a scheme

	Token     string
	TokenFile string // read again whenever it changes; wins over Token

	CACert, CAPath        string // PEM file, folder of PEM files; the system's roots when empty
	ClientCert, ClientKey string
	ServerName            string // name expected in the server's certificate
	SkipVerify            bool

	Datacenter, Namespace, Partition string

	MaxConns int // connections to one server; 0 means DefaultMaxConns
}

// Flags returns the flags both programs share; FromFlags reads them. The environment variables
// are those of the consul command.
func Flags() []cli.Flag {
	const category = "Consul:"
	text := func(name, env, value, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, EnvVars: []string{env}, Value: value, Usage: usage, Category: category}
	}
	return []cli.Flag{
		text("consul-addr", "CONSUL_HTTP_ADDR", DefaultAddress, "Consul `ADDRESS`: host:port, http(s)://host:port or unix:///path; several, separated by commas, are tried in turn"),
		text("consul-token", "CONSUL_HTTP_TOKEN", "", "ACL `TOKEN`; prefer --consul-token-file"),
		text("consul-token-file", "CONSUL_HTTP_TOKEN_FILE", "", "`FILE` with the ACL token, read again whenever it changes"),
		&cli.BoolFlag{Name: "consul-ssl", EnvVars: []string{"CONSUL_HTTP_SSL"}, Usage: "use https for addresses without a scheme", Category: category},
		&cli.BoolFlag{Name: "consul-ssl-verify", EnvVars: []string{"CONSUL_HTTP_SSL_VERIFY"}, Value: true, Usage: "verify the server's certificate", Category: category},
		text("consul-ca-cert", "CONSUL_CACERT", "", "PEM `FILE` of the authority that signed Consul's certificate"),
		text("consul-ca-path", "CONSUL_CAPATH", "", "`FOLDER` of such PEM files"),
		text("consul-client-cert", "CONSUL_CLIENT_CERT", "", "PEM `FILE` of the client certificate"),
		text("consul-client-key", "CONSUL_CLIENT_KEY", "", "PEM `FILE` of its private key"),
		text("consul-tls-server-name", "CONSUL_TLS_SERVER_NAME", "", "`NAME` expected in the server's certificate"),
		text("consul-datacenter", "CONSUL_DATACENTER", "", "`DATACENTER` to ask; the server's own when empty"),
		text("consul-namespace", "CONSUL_NAMESPACE", "", "Consul Enterprise `NAMESPACE`"),
		text("consul-partition", "CONSUL_PARTITION", "", "Consul Enterprise admin `PARTITION`"),
		&cli.IntFlag{Name: "consul-connections", EnvVars: []string{"FAIRWAY_CONSUL_CONNECTIONS"}, Value: DefaultMaxConns, Usage: "most connections to one Consul server", Category: category},
	}
}

// Values are the values of flags; a cli.Context has them.
type Values interface {
	String(name string) string
	Bool(name string) bool
	Int(name string) int
}

// FromFlags reads what Flags declared.
func FromFlags(c Values) Config {
	return Config{
		Addresses:  splitList(c.String("consul-addr")),
		TLS:        c.Bool("consul-ssl"),
		Token:      c.String("consul-token"),
		TokenFile:  c.String("consul-token-file"),
		CACert:     c.String("consul-ca-cert"),
		CAPath:     c.String("consul-ca-path"),
		ClientCert: c.String("consul-client-cert"),
		ClientKey:  c.String("consul-client-key"),
		ServerName: c.String("consul-tls-server-name"),
		SkipVerify: !c.Bool("consul-ssl-verify"),
		Datacenter: c.String("consul-datacenter"),
		Namespace:  c.String("consul-namespace"),
		Partition:  c.String("consul-partition"),
		MaxConns:   c.Int("consul-connections"),
	}
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// New returns a client for cfg. It contacts nobody: a Consul that is away is no error here, a
// certificate or address that cannot be used is.
func New(cfg Config) (*api.Client, error) {
	endpoints, err := parseEndpoints(cfg.Addresses, cfg.TLS)
	if err != nil {
		return nil, err
	}
	rt, err := newTransport(cfg, endpoints)
	if err != nil {
		return nil, err
	}
	first := endpoints[0] // names the requests in errors; where they go, the transport decides
	client, err := api.NewClient(&api.Config{
		Address:    cmp.Or(first.Host, "localhost"),
		Scheme:     strings.Replace(first.Scheme, "unix", "http", 1),
		HttpClient: &http.Client{Transport: rt},
		Datacenter: cfg.Datacenter,
		Namespace:  cfg.Namespace,
		Partition:  cfg.Partition,
		Token:      cfg.Token,
	})
	if err != nil {
		return nil, fmt.Errorf("consul client: %w", err)
	}
	return client, nil
}

// parseEndpoints turns addresses into URLs of scheme http, https or unix.
func parseEndpoints(addresses []string, tls bool) ([]*url.URL, error) {
	if len(addresses) == 0 {
		addresses = []string{DefaultAddress}
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	endpoints := make([]*url.URL, 0, len(addresses))
	for _, a := range addresses {
		u, err := parseEndpoint(a, scheme)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, u)
	}
	return endpoints, nil
}

func parseEndpoint(address, scheme string) (*url.URL, error) {
	full := address
	if !strings.Contains(full, "://") {
		full = scheme + "://" + full
	}
	u, err := url.Parse(full)
	const want = "want host:port, http://host:port, https://host:port or unix:///path"
	switch {
	case err != nil:
		return nil, fmt.Errorf("consul address %q: %s", redact.Address(address), want)
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return u, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
		u.Path = strings.TrimSuffix(u.Path, "/")
		return u, nil
	}
	return nil, fmt.Errorf("consul address %q: %s", redact.Address(address), want)
}
