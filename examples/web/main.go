// Web is the little web server that the examples, the demo and the tests put
// behind the front end: a page that says which container answered.
//
// It shows what an application needs so that nobody notices when an instance
// goes away: on SIGTERM it keeps answering for a short while, because the front
// end needs a moment to learn of it, and then finishes what it has begun. With
// -abrupt it shows the opposite.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes: done or stopped, broken while running, wrong command line.
const (
	exitOK      = 0
	exitRuntime = 1
	exitUsage   = 2
	// exitTerminated is what a shell reports for a program that SIGTERM ended.
	exitTerminated = 128 + int(syscall.SIGTERM)
)

// options are the command line.
type options struct {
	listen string        // address to serve on
	node   string        // name of the machine, shown on the page
	name   string        // name of this instance, shown on the page
	drain  time.Duration // how long to keep answering after SIGTERM
	grace  time.Duration // how long running requests may take after that
	abrupt bool          // exit at once on SIGTERM
	check  bool          // ask a running server for its health instead of serving
}

func main() { os.Exit(run(os.Args[1:], os.Stderr)) }

// run is the program without os.Exit: it returns the exit code.
func run(args []string, stderr io.Writer) int {
	logger := log.New(stderr, "web: ", log.LstdFlags|log.Lmsgprefix)
	opt, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "web: %v\n", err)
		return exitUsage
	}
	// Registered before the listener is open: a process with pid 1 that has no
	// handler yet would ignore the signal.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)

	if opt.check {
		if err := healthcheck(opt.listen); err != nil {
			fmt.Fprintf(stderr, "web: %v\n", err)
			return exitRuntime
		}
		return exitOK
	}
	listener, err := net.Listen("tcp", opt.listen)
	if err != nil {
		logger.Printf("listen: %v", err)
		return exitRuntime
	}
	logger.Printf("serving on %s as %s", listener.Addr(), opt.name)
	return serve(listener, opt, signals, logger)
}

// parse reads the command line. Its error is one line for the user.
func parse(args []string) (options, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return options{}, fmt.Errorf("host name: %w", err)
	}
	var opt options
	flags := flag.NewFlagSet("web", flag.ContinueOnError)
	flags.StringVar(&opt.listen, "listen", ":8080", "`address` to serve on")
	flags.StringVar(&opt.node, "node", os.Getenv("NODE"), "`name` of the machine, shown on the page (env NODE)")
	flags.StringVar(&opt.name, "name", hostname, "`name` of this instance, shown on the page and in X-Served-By")
	flags.DurationVar(&opt.drain, "drain", 3*time.Second, "after SIGTERM, keep answering for this `time` while the front end turns away")
	flags.DurationVar(&opt.grace, "grace", 30*time.Second, "after that, the `time` that running requests have to finish")
	flags.BoolVar(&opt.abrupt, "abrupt", false, "die at once on SIGTERM, in the middle of whatever is running")
	flags.BoolVar(&opt.check, "healthcheck", false, "ask the server on -listen for its health and exit 0 or 1")

	flags.SetOutput(io.Discard) // An error is one line, not a page of flags.
	err = flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(os.Stdout)
		fmt.Fprintln(os.Stdout, "web serves a page that says which container answered.")
		flags.PrintDefaults()
		return opt, err
	case err != nil:
		return opt, err
	case flags.NArg() > 0:
		return opt, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case opt.drain < 0 || opt.grace < 0:
		return opt, errors.New("-drain and -grace must not be negative")
	}
	return opt, nil
}

// serve answers until a signal and returns the exit code. A second signal while
// it drains ends it at once.
func serve(listener net.Listener, opt options, signals <-chan os.Signal, logger *log.Logger) int {
	site := newSite(opt)
	server := &http.Server{
		Handler:           site,
		ReadHeaderTimeout: 10 * time.Second,
		// Longer than a proxy keeps an idle connection: the side that sends the
		// requests should be the one that closes, or a request meets the close.
		IdleTimeout: 2 * time.Minute,
		ErrorLog:    logger,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()

	select {
	case err := <-failed:
		logger.Printf("serve: %v", err)
		return exitRuntime
	case sig := <-signals:
		if opt.abrupt {
			logger.Printf("%s: dying at once", sig)
			return exitTerminated
		}
		logger.Printf("%s: draining for %s", sig, opt.drain)
	}
	return drain(server, site, opt, signals, logger)
}

// drain is what makes taking an instance away free of errors. First it goes on
// answering, unhealthy and asking each client to close, so that whoever has not
// heard yet is still served and no idle connection is left; then it closes the
// listener and waits for the requests under way.
func drain(server *http.Server, site *site, opt options, signals <-chan os.Signal, logger *log.Logger) int {
	site.draining.Store(true)
	lameduck := time.NewTimer(opt.drain)
	defer lameduck.Stop()
	select {
	case <-lameduck.C:
	case sig := <-signals:
		logger.Printf("%s again: dying at once", sig)
		return exitTerminated
	}

	ctx, cancel := context.WithTimeout(context.Background(), opt.grace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			logger.Printf("requests still running after %s: %v", opt.grace, err)
			return exitRuntime
		}
		logger.Printf("stopped after %d requests", site.served.Load())
		return exitOK
	case sig := <-signals:
		logger.Printf("%s again: dying at once", sig)
		return exitTerminated
	}
}

// healthcheck asks the server that listens on address for /healthz. It lets an
// image without a shell and without curl declare a HEALTHCHECK.
func healthcheck(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // Not "localhost": an image from scratch may have nothing to resolve it with.
	}
	client := &http.Client{Timeout: 2 * time.Second}
	response, err := client.Get("http://" + net.JoinHostPort(host, port) + "/healthz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/healthz answers %s", response.Status)
	}
	return nil
}
