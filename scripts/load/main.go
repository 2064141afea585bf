// Load asks a front end for one page from many clients at once and counts what
// went wrong. It never asks twice for one answer; see package internal/load.
//
//	load -url http://127.0.0.1:8080/ -host cluster.test -keepalive 4 -new 4 -duration 10s
//
// An interrupt ends it early; requests under way are finished and counted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"fairway/internal/load"
)

// Exit codes: measured, too many failures or not measured, wrong command line.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the command line.
type options struct {
	load        load.Options
	json        bool
	maxFailures int64 // exit with 1 above it; negative: never
}

// parse reads the command line. Its error is one line for the user.
func parse(args []string, stdout io.Writer) (options, error) {
	var opt options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	target := flags.String("url", "", "`URL` to ask for, http only; its host and port are connected to")
	flags.StringVar(&opt.load.Host, "host", "", "Host `header`, instead of the URL's host")
	flags.IntVar(&opt.load.KeepAlive, "keepalive", 4, "`number` of clients that keep their connection")
	flags.IntVar(&opt.load.NewConn, "new", 4, "`number` of clients that open a connection for each request")
	flags.Int64Var(&opt.load.Requests, "requests", 0, "end after this `number` of requests")
	flags.DurationVar(&opt.load.Duration, "duration", 0, "end after this `time`; without it and -requests, at an interrupt")
	flags.Float64Var(&opt.load.Rate, "rate", 0, "start this `number` of requests a second, all clients together; 0: as many as they can")
	flags.DurationVar(&opt.load.Timeout, "timeout", 0, "`time` that one request may take (default 10s)")
	flags.StringVar(&opt.load.ServedBy, "served-by", "", "answer `header` that names who answered (default X-Served-By)")
	flags.BoolVar(&opt.json, "json", false, "print one JSON document")
	flags.Int64Var(&opt.maxFailures, "max-failures", -1, "exit with 1 when more than this `number` of requests failed; negative: never")

	flags.SetOutput(io.Discard) // An error is one line, not a page of flags.
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		fmt.Fprintln(stdout, "load asks for one page from many clients, never twice for one answer, and counts what went wrong.")
		flags.PrintDefaults()
		return opt, err
	case err != nil:
		return opt, err
	case flags.NArg() > 0:
		return opt, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return opt, opt.aim(*target)
}

// aim takes address, host and path from the URL.
func (o *options) aim(target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("-url: %w", err)
	}
	if u.Scheme != "http" || u.Hostname() == "" {
		return fmt.Errorf("-url %q: must look like http://HOST[:PORT]/PATH", target)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	o.load.Address = net.JoinHostPort(u.Hostname(), port)
	o.load.Path = u.RequestURI()
	if o.load.Host == "" {
		o.load.Host = u.Host
	}
	return nil
}

// run is the program without os.Exit: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	opt, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitUsage
	}

	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupts)
	run, err := load.Start(context.Background(), opt.load)
	if err != nil {
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitUsage
	}
	report := wait(run, interrupts)
	if err := write(stdout, report, opt.json); err != nil {
		fmt.Fprintf(stderr, "load: %v\n", err)
		return exitFailed
	}
	if opt.maxFailures >= 0 && report.Failed > opt.maxFailures {
		return exitFailed
	}
	return exitOK
}

// wait returns the report at the end of the run or at an interrupt.
func wait(run *load.Run, interrupts <-chan os.Signal) load.Report {
	done := make(chan load.Report, 1)
	go func() { done <- run.Wait() }()
	select {
	case report := <-done:
		return report
	case <-interrupts:
		return run.Stop()
	}
}

func write(w io.Writer, report load.Report, asJSON bool) error {
	if !asJSON {
		return report.WriteText(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(report); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
