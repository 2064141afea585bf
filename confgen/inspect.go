package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// askTimeout bounds a question to the running confgen.
const askTimeout = 10 * time.Second

// errNotReady ends confgen status where the running confgen is not ready.
var errNotReady = errors.New("not ready")

// inspectCommands are the commands that ask the running confgen.
func inspectCommands() []*cli.Command {
	asking := func(more ...cli.Flag) []cli.Flag {
		return append([]cli.Flag{
			&cli.StringFlag{Name: "http-addr", EnvVars: env("http-addr"), Value: ":9102", Usage: "`ADDRESS` of the running confgen's admin listener"},
			&cli.BoolFlag{Name: "json", Usage: "print the answer as it comes"},
			&cli.StringFlag{Name: "proxy", Usage: "`NAME` of the proxy that is meant, of several in one configuration file"},
		}, more...)
	}
	return []*cli.Command{{
		Name:            "status",
		Usage:           "ask the running confgen how it is; exit code 1 when it is not ready",
		Flags:           asking(),
		HideHelpCommand: true,
		Before:          behindTheWord,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return daemon.Usagef("status: argument %q: want none", c.Args().First())
			}
			return printStatus(c)
		},
	}, {
		Name:      "explain",
		Usage:     "ask the running confgen what becomes of a request for a URL, and why; exit code 1 when nothing answers it",
		ArgsUsage: "URL",
		Flags: asking(&cli.StringFlag{
			Name: "entrypoint", Usage: "`NAME` of the entrypoint it comes to; default: by the URL's scheme and port",
		}, &cli.StringFlag{
			Name: "method", Value: http.MethodGet, Usage: "its `METHOD`",
		}, &cli.StringSliceFlag{
			Name: "header", KeepSpace: true, Usage: "a `HEADER` of it, such as \"X-Canary: yes\"; may be repeated",
		}),
		HideHelpCommand: true,
		Before:          behindTheWord,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return daemon.Usagef("explain: want one URL, such as http://host/path, behind the options")
			}
			if _, err := parseQuestion(asked(c)); err != nil {
				return daemon.Usagef("explain: %w", err)
			}
			return printExplanation(c)
		},
	}}
}

// ask asks the running confgen for a page.
func ask(c *cli.Context, page string) (int, []byte, error) {
	host, port, err := net.SplitHostPort(c.String("http-addr"))
	if err != nil {
		return 0, nil, daemon.Usagef("--http-addr %q: want host:port or :port of the running confgen", c.String("http-addr"))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(c.Context, askTimeout)
	defer cancel()
	address := "http://" + net.JoinHostPort(host, port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+page, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("ask confgen at %s: %w", address, err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy of the environment
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the running confgen: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("ask the running confgen: %w", err)
	}
	return resp.StatusCode, body, nil
}

// askFor asks for a document of JSON and prints it as it is where the flag says so.
func askFor(c *cli.Context, page string, document any) (printed bool, err error) {
	code, body, err := ask(c, page)
	if err != nil {
		return false, err
	}
	if code != http.StatusOK {
		return false, fmt.Errorf("confgen answers %d: %s", code, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, document); err != nil {
		return false, fmt.Errorf("answer of confgen: %w", err)
	}
	if !c.Bool("json") {
		return false, nil
	}
	_, err = c.App.Writer.Write(body)
	return true, err
}

// printStatus prints what the running confgen knows, of one proxy or of each.
func printStatus(c *cli.Context) error {
	code, conditions, err := ask(c, "/readyz")
	if err != nil {
		return err
	}
	names := []string{c.String("proxy")}
	if names[0] == "" {
		if names, err = proxies(c); err != nil {
			return err
		}
	}
	for i, name := range names {
		var s status
		printed, err := askFor(c, "/status?"+url.Values{"proxy": {name}}.Encode(), &s)
		if err == nil && !printed {
			if i > 0 {
				fmt.Fprintln(c.App.Writer)
			}
			err = s.print(c.App.Writer, code == http.StatusOK, string(conditions))
		}
		if err != nil {
			return err
		}
	}
	if code != http.StatusOK {
		err = errNotReady
	}
	return err
}

// proxies are the names of the proxies that the running confgen keeps.
func proxies(c *cli.Context) ([]string, error) {
	code, body, err := ask(c, "/proxies")
	if err != nil {
		return nil, err
	}
	var names []string
	if err := json.Unmarshal(body, &names); err != nil || code != http.StatusOK {
		return nil, fmt.Errorf("confgen answers %d: %s", code, strings.TrimSpace(string(body)))
	}
	return names, nil
}

// ago writes how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

func (s status) print(out io.Writer, ready bool, conditions string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", a...) }
	state := "ready"
	if !ready {
		state = "NOT READY"
	}
	line("confgen", "%s, %s", s.Version, state)
	s.facts(line, conditions)
	line("problems", "%d", len(s.Problems))
	for _, p := range s.Problems {
		line("", "%s", p)
	}
	return w.Flush()
}

// facts tells how the program is, a line at a time.
func (s status) facts(line func(name, format string, a ...any), conditions string) {
	for part := range strings.Lines(conditions) {
		name, what, _ := strings.Cut(strings.TrimSpace(part), ": ")
		line("  "+name, "%s", what)
	}
	if s.Proxy != "" {
		line("proxy", "%s", s.Proxy)
	}
	if s.Config != "" {
		line("configuration", "the old one is in use: %s", s.Config)
	}
	s.printData(line)
	line("routes", "%d to %d backends", s.Routes, s.Backends)
	var counts []string
	for _, state := range slices.Sorted(maps.Keys(s.Servers)) {
		counts = append(counts, fmt.Sprintf("%d %s", s.Servers[state], state))
	}
	line("servers", "%s", strings.Join(counts, ", "))
	if s.Apply.Pinned != "" {
		line("HELD ON TO", "generation %s, by confgen rollback: only servers follow the catalog until confgen release", s.Apply.Pinned)
	}
	line("generation", "%s", cmp.Or(s.Apply.Structure, "none yet"))
	if a := s.Apply.Last; a != nil {
		line("last apply", "%s: %s, because: %s; %d files, %d commands, %d reloads in %s", ago(a.Time), a.Action, a.Reason, len(a.Written), a.Commands, a.Reloads, a.Elapsed)
	}
	line("last look", "%s", ago(s.Apply.Checked))
	for _, trouble := range []struct{ name, what string }{
		{"not applied", s.Apply.Error}, {"reload waits", s.Apply.Deferred}, {"templates", s.Template},
	} {
		if trouble.what != "" {
			line(trouble.name, "%s", strings.ReplaceAll(trouble.what, "\n", "; "))
		}
	}
	s.printCertificates(line)
}

// printCertificates prints what is in the store, and what should be and cannot.
func (s status) printCertificates(line func(name, format string, a ...any)) {
	if len(s.Certificates)+len(s.Faults) == 0 {
		return
	}
	line("certificates", "%d", len(s.Certificates))
	for _, c := range s.Certificates {
		what := "expires in " + time.Until(c.NotAfter).Round(time.Hour).String()
		if c.Expired {
			what = "EXPIRED " + ago(c.NotAfter)
		}
		line("", "%s: %s for %s", c.Name, what, strings.Join(c.Hosts, " "))
	}
	for _, f := range s.Faults {
		kept := ""
		if f.Kept {
			kept = "; what was there before is served"
		}
		line("not usable", "%s: %s%s", f.File, f.Reason, kept)
	}
}

// nothingHeld is said of the guards when they let everything through.
const nothingHeld = "nothing is held back"

// printData prints how old the data is, and what keeps it from being newer.
func (s status) printData(line func(name, format string, a ...any)) {
	switch {
	case s.Snapshot == nil:
		line("data", "none yet")
	case s.Snapshot.Restored:
		line("data", "%s old, as saved before the start; version %d", s.Snapshot.Age, s.Snapshot.Version)
	default:
		line("data", "confirmed %s ago, last change %s; version %d, live %d", s.Snapshot.Age, ago(s.Snapshot.Time), s.Snapshot.Version, s.Apply.Applied)
	}
	line("catalog", "%d services, %d routed with %d instances", s.Catalog.Services, s.Catalog.Routed, s.Catalog.Instances)
	if n := s.Catalog.Overrides; n > 0 {
		line("overrides", "%d set live, see: confgen overrides", n)
	}
	if s.Catalog.Mode != "" {
		line("followed", "%s: %s", s.Catalog.Mode, s.Catalog.Reason)
	}
	switch {
	case s.Catalog.Held != "":
		line("guards", "%s: the last good state stays in use", s.Catalog.Held)
	case len(s.Catalog.Losses) == 0:
		line("guards", nothingHeld)
	}
	for _, h := range s.Catalog.Losses {
		line("guards", "%s %s", h.Service, heldText(h))
	}
	if len(s.Catalog.Missing) > 0 {
		line("not answered", "%s", strings.Join(s.Catalog.Missing, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Catalog.Failing)) {
		line("not readable", "%s: %s", name, s.Catalog.Failing[name])
	}
}

// String is one line for a person.
func (p problem) String() string {
	where := p.Service
	if p.Instance != "" {
		where += " (" + p.Instance + ")"
	}
	return fmt.Sprintf("%s %s: %s", where, p.Key, p.Reason)
}

// asked is the question of a command line, as parseQuestion reads it.
func asked(c *cli.Context) url.Values {
	return url.Values{
		"url": {c.Args().First()}, "entrypoint": {c.String("entrypoint")},
		"method": {c.String("method")}, "header": c.StringSlice("header"), "proxy": {c.String("proxy")},
	}
}

// printExplanation prints what becomes of a request.
func printExplanation(c *cli.Context) error {
	var e explanation
	printed, err := askFor(c, "/explain?"+asked(c).Encode(), &e)
	if err == nil && !printed {
		err = e.print(c.App.Writer)
	}
	if err == nil && !e.Answered {
		err = exit(daemon.ExitFailure, nil)
	}
	return err
}

func (e explanation) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", a...) }
	fmt.Fprintf(w, "%s\n", e.URL)
	line("outcome", "%s", e.Outcome)
	if e.Stale != "" {
		line("but", "the proxy may still do otherwise: %s", e.Stale)
	}
	if e.Held != "" {
		line("held", "the service %s", e.Held)
	}
	if l := e.Listener; l != nil {
		line("listener", "%s on %s", l.Name, l.Address)
	}
	if e.Route != nil {
		line("route", "%s", e.Route)
	}
	if b := e.Backend; b != nil {
		line("backend", "%s", b.Name)
		for _, v := range b.Pool {
			line("", "%s gets %d %%", strings.TrimSpace(v.Service+" "+v.Route), v.Percent)
		}
		for _, s := range b.Servers {
			line("", "%s, %s, weight %d, %s", s.Name, s.Address, s.Weight, s.State)
		}
		if b.Options != nil {
			text, err := json.Marshal(b.Options)
			if err != nil {
				return err
			}
			line("options", "%s", text)
		}
	}
	title := "nearest"
	if e.Route != nil {
		title = "not taken"
	}
	for _, o := range e.Others {
		line(title, "%s: %s", o.Route, strings.Join(o.Why, "; "))
	}
	if e.More > 0 {
		line("", "and %d more", e.More)
	}
	for _, p := range e.Problems {
		line("problem", "%s", p)
	}
	return w.Flush()
}

// String is one line for a person.
func (r routeInfo) String() string {
	who := "service " + r.Service
	if r.Name != "" {
		who = "route " + r.Name + " of " + who
	}
	if r.Priority != 0 {
		who += fmt.Sprintf(", priority %d", r.Priority)
	}
	return fmt.Sprintf("%s (%s, on %s)", r.Pattern, who, strings.Join(r.Entrypoints, ", "))
}
