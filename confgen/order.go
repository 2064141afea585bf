package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"fairway/confgen/watch"
	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// orderTimeout bounds an order to the running confgen.
const orderTimeout = 60 * time.Second

// errNobody means that no confgen takes orders here.
var errNobody = errors.New("no confgen runs here")

// whereFlags say which running confgen is meant.
func whereFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "dir", EnvVars: env("dir"), Value: "/fairway", Usage: "configuration `FOLDER` of the running confgen"},
		&cli.StringFlag{Name: "state-dir", EnvVars: env("state-dir"), Usage: "its state `FOLDER`; default: .confgen in --dir"},
	}
}

// orderCommands are the commands that tell the running confgen what to do.
func orderCommands() []*cli.Command {
	return []*cli.Command{{
		Name:      "approve",
		Usage:     "tell the running confgen that instances it holds on to are really gone; without a service: say what it holds on to",
		ArgsUsage: "[SERVICE …]",
		Flags: append(whereFlags(),
			&cli.BoolFlag{Name: "all", Usage: "approve everything that is held, an emptied catalog included"},
			&cli.BoolFlag{Name: "json", Usage: "print the answer as it comes"}),
		HideHelpCommand: true,
		Before:          behindTheWord,
		Action:          approveHeld,
	}}
}

// controlPath is the socket of the confgen that is meant.
func controlPath(c *cli.Context) string {
	return filepath.Join(orElse(c.String("state-dir"), filepath.Join(c.String("dir"), ".confgen")), controlSocket)
}

// order sends an order, or a question, to the confgen that listens on a socket, and reads its
// answer into document.
func order(ctx context.Context, socket, method, page string, document any) error {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://confgen"+page, nil)
	if err != nil {
		return fmt.Errorf("ask confgen: %w", err)
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens on %s (--dir and --state-dir name the folders of the one that is meant)", errNobody, socket)
	case err != nil:
		return fmt.Errorf("ask the running confgen: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // Only read.
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask the running confgen: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, document); err != nil {
		return fmt.Errorf("answer of confgen: %w", err)
	}
	return nil
}

func approveHeld(c *cli.Context) error {
	all, names := c.Bool("all"), c.Args().Slice()
	if all && len(names) > 0 {
		return daemon.Usagef("approve: want services or --all")
	}
	if !all && len(names) == 0 {
		return printHeld(c)
	}
	query := url.Values{"service": names}
	if all {
		query.Set("all", "true")
	}
	var done approved
	if err := order(c.Context, controlPath(c), http.MethodPost, "/approve?"+query.Encode(), &done); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(done)
	}
	_, err := fmt.Fprintln(c.App.Writer, "approved:", strings.Join(done.Approved, ", "))
	return err
}

// printHeld says what there is to approve.
func printHeld(c *cli.Context) error {
	var s held
	if err := order(c.Context, controlPath(c), http.MethodGet, "/held", &s); err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(s)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	if s.Catalog == "" && len(s.Services) == 0 {
		fmt.Fprintln(w, watch.ErrNotHeld)
	}
	if s.Catalog != "" {
		fmt.Fprintf(w, "%s\t%s\n", watch.WholeCatalog, s.Catalog)
	}
	for _, h := range s.Services {
		fmt.Fprintf(w, "%s\t%s\n", h.Service, heldText(h))
	}
	return w.Flush()
}

// heldText says in one line what is missing and for how long it is kept.
func heldText(h watch.Held) string {
	const most = 3
	lost := strings.Join(h.Lost[:min(len(h.Lost), most)], ", ")
	if more := len(h.Lost) - most; more > 0 {
		lost += fmt.Sprintf(" and %d more", more)
	}
	end := "until confgen approve " + h.Service
	if !h.Until.IsZero() {
		end = fmt.Sprintf("for %s more, or until confgen approve %s", max(0, time.Until(h.Until)).Round(time.Second), h.Service)
	}
	return fmt.Sprintf("lost %d instances at once, %d left; they stay in use %s: %s", len(h.Lost), h.Left, end, lost)
}
