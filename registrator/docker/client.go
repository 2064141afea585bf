// Package docker tells what runs on this node and when to look again. It is the only package
// that knows Docker's client.
//
// It starts, stops and changes no container, but for commands of SERVICE_CHECK_SCRIPT, which it runs in
// theirs with /containers/{id}/exec and /exec/{id}/start and /json. It reads /_ping, /version, /info, /events, /containers/json and
// /containers/{id}/json; where an image may be named by its bare id, /images/{id}/json; and where
// a Swarm task runs, /networks; on a Swarm manager, /services.
package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"

	"fairway/internal/redact"
)

// DefaultHost is where an engine listens unless told otherwise.
const DefaultHost = client.DefaultDockerHost

const (
	// requestTimeout bounds every request but the event stream, so that a hanging engine is an
	// error and not a standstill.
	requestTimeout = 10 * time.Second
	// inspectTimeout bounds one inspect: a container's lock may be held for ever.
	inspectTimeout = 3 * time.Second
	// inspectPatience is how long a pass waits for one container at most, and for that once.
	inspectPatience = time.Second
	// slowPatience is the same for one that others have waited for before, or for another in this pass.
	slowPatience = 20 * time.Millisecond
	// inspectParallel is how many containers are inspected at a time.
	inspectParallel = 8
)

// Options say which engine to talk to and what to read of it.
type Options struct {
	Host     string // DOCKER_HOST; DefaultHost when empty
	CertPath string // DOCKER_CERT_PATH: folder of ca.pem, cert.pem and key.pem; TLS is used, and verified, when set

	Exited      bool          // list containers that have ended, too
	KeepInspect bool          // fill Container.Inspect
	Patient     bool          // wait for a slow container rather than look again: there is no next pass
	Late        func()        // called when the answer is there that a pass did not wait for; nil for nobody
	MaxAge      time.Duration // inspect again after this long even when nothing hinted at a change; zero for never
}

// Client reads one engine. Watch may run beside Containers or Glance.
type Client struct {
	unfinished unfinished // commands inside containers

	opt    Options
	engine atomic.Pointer[client.Client]
	memory *memory

	closed context.Context //nolint:containedctx // It ends what outlives the calls that began it.
	close  context.CancelFunc
	lanes  map[pace]lane // of what is read in the background

	// Only Containers and Glance use these, and neither is run beside the other or itself.
	known   map[string]*entry
	listed  stamp           // of the last listing
	glances time.Time       // the first glance since then; zero for none
	ingress map[string]bool // network id → whether it is Swarm's routing mesh
}

// New returns a client for an engine that may be away for now. An error means that the options
// can never work: a host that is no address, or certificates that cannot be read.
func New(opt Options) (*Client, error) {
	if opt.Host == "" {
		opt.Host = DefaultHost
	}
	c := &Client{
		opt:     opt,
		memory:  newMemory(),
		known:   map[string]*entry{},
		ingress: map[string]bool{},
		lanes:   newLanes(),
	}
	c.closed, c.close = context.WithCancel(context.Background())
	engine, err := c.dial()
	if err != nil {
		return nil, err
	}
	c.engine.Store(engine)
	return c, nil
}

// Close ends what is read in the background, and closes idle connections.
func (c *Client) Close() {
	c.close()
	if err := c.engine.Load().Close(); err != nil {
		return // closing idle connections has no failure that anybody could act on
	}
}

// dial makes a client that has not negotiated its API version yet. A new one is made after
// every cut, because the engine may come back as another version and Docker's client only ever
// negotiates downwards.
func (c *Client) dial() (*client.Client, error) {
	host, err := url.Parse(c.opt.Host)
	if err != nil || host.Scheme == "" || host.Opaque != "" || host.User != nil {
		return nil, fmt.Errorf("docker host %q is not an address such as unix:///var/run/docker.sock or tcp://host:2376", redact.Address(c.opt.Host))
	}
	transport := &http.Transport{
		MaxIdleConns:        2 * inspectParallel,
		MaxIdleConnsPerHost: 2 * inspectParallel,
		IdleConnTimeout:     5 * time.Minute,
	}
	if c.opt.CertPath != "" && host.Scheme != "unix" {
		transport.TLSClientConfig, err = tlsconfig.Client(tlsconfig.Options{
			CAFile:             filepath.Join(c.opt.CertPath, "ca.pem"),
			CertFile:           filepath.Join(c.opt.CertPath, "cert.pem"),
			KeyFile:            filepath.Join(c.opt.CertPath, "key.pem"),
			ExclusiveRootPools: true, // the engine's own authority vouches for it, no public one
		})
		if err != nil {
			return nil, fmt.Errorf("docker certificates in %s: %w", c.opt.CertPath, err)
		}
	}
	engine, err := client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}),
		client.WithHost(c.opt.Host),
		client.WithVersionFromEnv(),
		client.WithAPIVersionNegotiation(),
	)
	if err != nil {
		return nil, fmt.Errorf("docker client for %s: %w", c.opt.Host, err)
	}
	return engine, nil
}

// Node is what the engine says of the machine it runs on.
type Node struct {
	Name      string     // host name
	ID        string     // of the engine; a Swarm node keeps another id of its own
	SwarmNode string     // Swarm node id, empty outside a Swarm
	SwarmAddr netip.Addr // address the Swarm knows this node by; zero outside a Swarm
}

// Node asks the engine who it is.
func (c *Client) Node(ctx context.Context) (Node, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := c.engine.Load().Info(ctx)
	if err != nil {
		return Node{}, fmt.Errorf("ask docker for its node: %w", err)
	}
	if info.Name == "" {
		return Node{}, errors.New("ask docker for its node: it names none")
	}
	n := Node{Name: info.Name, ID: info.ID, SwarmNode: info.Swarm.NodeID}
	if addr, err := netip.ParseAddr(info.Swarm.NodeAddr); err == nil {
		n.SwarmAddr = addr.Unmap()
	}
	return n, nil
}
