// Package daemon holds what every long-running program has: a logger, metrics, health and
// readiness, the listener that serves them, signals, exit codes and the order of shutting down.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
)

// shutdownGrace is how long the admin listener may take to finish its requests.
const shutdownGrace = 2 * time.Second

// Variable is how the environment variable of a flag is called: Variable("confgen", "proxy-dir") is
// CONFGEN_PROXY_DIR, Variable("docker-host") is DOCKER_HOST.
func Variable(words ...string) string {
	return strings.ToUpper(strings.ReplaceAll(strings.Join(words, "_"), "-", "_"))
}

// Flags returns the flags every daemon has; New reads them.
func Flags(program, httpAddr string) []cli.Flag {
	const category = "Operating:"
	env := func(name string) []string { return []string{Variable(program, name)} }
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", EnvVars: env("log-level"), Value: "info", Usage: "`LEVEL` of the log: trace, debug, info, warn, error or off", Category: category},
		&cli.BoolFlag{Name: "log-json", EnvVars: env("log-json"), Usage: "log lines of JSON", Category: category},
		&cli.StringFlag{Name: "http-addr", EnvVars: env("http-addr"), Value: httpAddr, Usage: "`ADDRESS` of /metrics, /healthz and /readyz; \"off\" for none", Category: category},
	}
}

// Daemon is the part of a program that its operators look at.
type Daemon struct {
	Log     hclog.Logger
	Metrics *prometheus.Registry

	mux   *http.ServeMux
	addr  string // "" serves nothing
	ready readiness
	bound chan net.Addr
}

// Values are the values of flags; a cli.Context has them.
type Values interface {
	String(name string) string
	Bool(name string) bool
}

// New returns the daemon called name, configured by the flags of Flags. The log goes to standard
// error.
func New(c Values, name string) (*Daemon, error) {
	level := hclog.LevelFromString(c.String("log-level"))
	if level == hclog.NoLevel {
		return nil, Usagef("--log-level %q: want trace, debug, info, warn, error or off", c.String("log-level"))
	}
	addr := c.String("http-addr")
	if addr == "off" {
		addr = ""
	} else if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, Usagef("--http-addr %q: want host:port, :port or off", addr)
	}
	return newDaemon(hclog.New(&hclog.LoggerOptions{
		Name: name, Level: level, JSONFormat: c.Bool("log-json"), Output: os.Stderr,
	}), addr), nil
}

// ForTest returns a daemon that logs to log and serves on addr; "" serves nothing.
func ForTest(log hclog.Logger, addr string) *Daemon { return newDaemon(log, addr) }

func newDaemon(log hclog.Logger, addr string) *Daemon {
	d := &Daemon{
		Log: log, Metrics: prometheus.NewRegistry(),
		mux: http.NewServeMux(), addr: addr, bound: make(chan net.Addr, 1),
	}
	d.ready.log = log
	d.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.mux.Handle("GET /metrics", promhttp.HandlerFor(d.Metrics, promhttp.HandlerOpts{Registry: d.Metrics}))
	d.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	d.mux.Handle("GET /readyz", &d.ready)
	return d
}

// Handle adds a page to the admin listener. Call it before Serve.
func (d *Daemon) Handle(pattern string, h http.Handler) { d.mux.Handle(pattern, h) }

// Addr waits for the admin listener and returns its address.
func (d *Daemon) Addr(ctx context.Context) (net.Addr, error) {
	select {
	case a := <-d.bound:
		d.bound <- a
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve runs run with the admin listener around it and returns when both have ended. At
// shutdown, which is the end of ctx, readiness turns false first, then run ends, then the
// listener: what scrapes and probes it sees the program to its last moment.
func (d *Daemon) Serve(ctx context.Context, run func(context.Context) error) error {
	if d.addr == "" {
		defer context.AfterFunc(ctx, d.ready.stop)()
		return run(ctx)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.addr)
	if err != nil {
		return fmt.Errorf("admin listener: %w", err)
	}
	d.bound <- listener.Addr()
	server := &http.Server{Handler: d.mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	defer context.AfterFunc(ctx, d.ready.stop)()

	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("admin listener: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		err := run(groupCtx)
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if shutdownErr := server.Shutdown(stop); shutdownErr != nil {
			return errors.Join(err, server.Close())
		}
		return err
	})
	return group.Wait()
}

// Outlive returns a context that ends a grace time after its parent, so that what has been begun
// when the program is asked to end can be finished.
func Outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}
