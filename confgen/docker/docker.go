// Package docker signals a proxy that runs in a container of its own. It is the only part of
// confgen that knows Docker's client, and is used only where the operator asks for it: whoever
// may talk to Docker is root on the node, so a shared socket is the better way for HAProxy.
package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/tlsconfig"
)

// DefaultHost is where an engine listens unless told otherwise.
const DefaultHost = client.DefaultDockerHost

// requestTimeout bounds every request, so that a hanging engine is an error.
const requestTimeout = 10 * time.Second

// ErrNotRunning means that there is no running container to signal.
var ErrNotRunning = errors.New("no such container runs")

// serviceLabels are what a container carries that runs for a service.
var serviceLabels = []string{"com.docker.swarm.service.name", "com.docker.compose.service"}

// Options say which engine to talk to.
type Options struct {
	Host     string // DOCKER_HOST; DefaultHost when empty
	CertPath string // folder of ca.pem, cert.pem and key.pem; TLS is used, and verified, when set
}

// Signaler sends signals to containers of one name.
type Signaler struct {
	name   string
	engine *client.Client
}

// NewSignaler returns a Signaler for the container called name: a container's name or id, or the
// name of the Swarm or Compose service that it runs for on this node. The engine may be away for
// now.
func NewSignaler(opt Options, name string) (*Signaler, error) {
	if opt.Host == "" {
		opt.Host = DefaultHost
	}
	host, err := url.Parse(opt.Host)
	if err != nil || host.Scheme == "" {
		return nil, fmt.Errorf("docker host %q is not an address such as unix:///var/run/docker.sock or tcp://host:2376", opt.Host)
	}
	transport := &http.Transport{IdleConnTimeout: time.Minute}
	if opt.CertPath != "" && host.Scheme != "unix" {
		transport.TLSClientConfig, err = tlsconfig.Client(tlsconfig.Options{
			CAFile:             filepath.Join(opt.CertPath, "ca.pem"),
			CertFile:           filepath.Join(opt.CertPath, "cert.pem"),
			KeyFile:            filepath.Join(opt.CertPath, "key.pem"),
			ExclusiveRootPools: true, // the engine's own authority vouches for it, no public one
		})
		if err != nil {
			return nil, fmt.Errorf("docker certificates in %s: %w", opt.CertPath, err)
		}
	}
	engine, err := client.NewClientWithOpts(
		client.WithHTTPClient(&http.Client{Transport: transport, CheckRedirect: client.CheckRedirect}),
		client.WithHost(opt.Host),
		client.WithVersionFromEnv(),
		client.WithAPIVersionNegotiation(),
	)
	if err != nil {
		return nil, fmt.Errorf("docker client for %s: %w", opt.Host, err)
	}
	return &Signaler{name: name, engine: engine}, nil
}

// Signal sends sig to process 1 of the container, or of every container of the service on this
// node.
func (s *Signaler) Signal(ctx context.Context, sig syscall.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ids, err := s.find(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		if err := s.engine.ContainerKill(ctx, id, strconv.Itoa(int(sig))); err != nil {
			errs = append(errs, fmt.Errorf("signal container %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// find returns the ids of the running containers that the name means.
func (s *Signaler) find(ctx context.Context) ([]string, error) {
	one, err := s.engine.ContainerInspect(ctx, s.name)
	switch {
	case err == nil && one.State != nil && one.State.Running:
		return []string{one.ID}, nil
	case err == nil:
		return nil, fmt.Errorf("signal container %s: %w", s.name, ErrNotRunning)
	case !errdefs.IsNotFound(err):
		return nil, fmt.Errorf("look for container %s: %w", s.name, err)
	}
	for _, label := range serviceLabels {
		list, err := s.engine.ContainerList(ctx, container.ListOptions{
			Filters: filters.NewArgs(filters.Arg("label", label+"="+s.name), filters.Arg("status", "running")),
		})
		if err != nil {
			return nil, fmt.Errorf("look for containers of service %s: %w", s.name, err)
		}
		var ids []string
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		if len(ids) > 0 {
			return ids, nil
		}
	}
	return nil, fmt.Errorf("signal container %s: %w", s.name, ErrNotRunning)
}

// Close closes idle connections.
func (s *Signaler) Close() error { return s.engine.Close() }
