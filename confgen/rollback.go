package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"fairway/confgen/proxy"
	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// generations is the answer to the question what there is to go back to.
type generations struct {
	Pinned      *proxy.Pin         `json:"pinned"` // what is held on to; null for nothing
	Generations []proxy.Generation `json:"generations"`
}

// rolled is the answer to an order that changed what is held on to.
type rolled struct {
	Generation string `json:"generation"` // gone back to, or released
	Error      string `json:"error,omitempty"`
}

// rollbackPages serves what rollback and release ask of a front.
func (p *program) rollbackPages(mux *http.ServeMux) {
	page := func(pattern string, do func(*front, http.ResponseWriter, *http.Request)) {
		mux.Handle(pattern, p.fronts.page(func(f *front) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { do(f, w, req) })
		}))
	}
	page("GET /generations", func(f *front, w http.ResponseWriter, _ *http.Request) {
		g, err := f.generations()
		if err != nil {
			refuse(w, http.StatusInternalServerError, err)
			return
		}
		obey(w, g)
	})
	page("POST /rollback", func(f *front, w http.ResponseWriter, req *http.Request) {
		g, err := f.target.Rollback(req.URL.Query().Get("to"))
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		f.log.Warn("an operator goes back to an earlier generation, which stays until confgen release", "generation", g.Structure)
		obey(w, rolled{g.Structure, f.settled(req)})
	})
	page("POST /release", func(f *front, w http.ResponseWriter, req *http.Request) {
		pin, err := f.target.Release()
		switch {
		case err != nil:
			refuse(w, http.StatusInternalServerError, err)
		case pin == nil:
			refuse(w, http.StatusNotFound, errors.New("no generation is held on to"))
		default:
			f.log.Warn("an operator releases the generation that was held on to", "generation", pin.Structure)
			obey(w, rolled{pin.Structure, f.settled(req)})
		}
	})
}

func (f *front) generations() (generations, error) {
	list, pin, err := f.target.Generations()
	return generations{pin, list}, err
}

// settled wakes the front and waits until an apply that began after that has come to its end; it
// returns why the proxy does not run what it should.
func (f *front) settled(req *http.Request) string {
	asked := time.Now()
	f.wake.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if at, why := f.report.outcome(); at.After(asked) {
			return why
		}
		select {
		case <-req.Context().Done():
			return "not confirmed yet"
		case <-tick.C:
		}
	}
}

// outcome is when the last apply that was not put off came to its end, and how.
func (r *report) outcome() (time.Time, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended, r.state.Error
}

func rollbackCommands() []*cli.Command {
	named := &cli.StringFlag{Name: "name", Usage: "`NAME` of the proxy that is meant, of several in one configuration file"}
	return []*cli.Command{{
		Name:            "rollback",
		Usage:           "go back to an earlier generation of the configuration, by number (1 is the one before what runs) or hash, and hold on to it until confgen release; where no confgen runs, the files are restored and loaded at once",
		ArgsUsage:       "[GENERATION]",
		Flags:           append(flags(), named, &cli.BoolFlag{Name: "list", Usage: "say what there is to go back to"}),
		HideHelpCommand: true,
		Before:          behindTheWord,
		Action:          rollback,
	}, {
		Name:            "release",
		Usage:           "end what confgen rollback began: the configuration follows the catalog again",
		Flags:           append(whereFlags(), named),
		HideHelpCommand: true,
		Before:          behindTheWord,
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return daemon.Usagef("release: argument %q: want none", c.Args().First())
			}
			return send(c, "/release?"+url.Values{"proxy": {c.String("name")}}.Encode(), "released, no longer held on to:")
		},
	}}
}

// send sends an order about generations and says what came of it.
func send(c *cli.Context, page, done string) error {
	var r rolled
	if err := order(c.Context, controlPath(c), http.MethodPost, page, &r); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.App.Writer, done, r.Generation); err != nil {
		return err
	}
	if r.Error != "" {
		return fmt.Errorf("the proxy does not run it: %s", r.Error)
	}
	return nil
}

func rollback(c *cli.Context) error {
	which := c.Args().First()
	switch {
	case c.NArg() > 1:
		return daemon.Usagef("rollback: argument %q: want one generation", c.Args().Get(1))
	case c.Bool("list") && which != "":
		return daemon.Usagef("rollback --list: argument %q: want none", which)
	case c.Bool("list"):
		return listGenerations(c)
	}
	query := url.Values{"to": {orElse(which, "1")}, "proxy": {c.String("name")}}
	err := send(c, "/rollback?"+query.Encode(), "back to, and held on to until confgen release:")
	if !errors.Is(err, errNobody) {
		return err
	}
	f, err := offline(c)
	if err != nil {
		return err
	}
	defer f.close()
	g, err := f.target.Rollback(orElse(which, "1"))
	if err != nil {
		return err
	}
	_, err = f.target.ApplyPinned(c.Context)
	if errors.Is(err, proxy.ErrNotRunning) {
		f.log.Warn("files are in place for a proxy that does not run", "err", err)
		err = nil
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.App.Writer, "back to, and held on to until confgen release:", g.Structure)
	return err
}

// offline returns the front that is meant, for a folder that no confgen looks after.
func offline(c *cli.Context) (*front, error) {
	config, err := load(c, nil)
	if err != nil {
		return nil, err
	}
	d, err := daemon.New(config.Program, "confgen")
	if err != nil {
		return nil, err
	}
	for _, opt := range config.Proxies {
		if opt.Name == c.String("name") || c.String("name") == "" && len(config.Proxies) == 1 {
			opt.Once = true // it waits for its turn, as nobody wakes it
			return newFront(opt, d, nil, nil, nil)
		}
	}
	return nil, daemon.Usagef("--name %q: want the name of one of the %d proxies", c.String("name"), len(config.Proxies))
}

func listGenerations(c *cli.Context) error {
	var g generations
	page := "/generations?" + url.Values{"proxy": {c.String("name")}}.Encode()
	err := order(c.Context, controlPath(c), http.MethodGet, page, &g)
	if errors.Is(err, errNobody) {
		f, offlineErr := offline(c)
		if offlineErr != nil {
			return offlineErr
		}
		defer f.close()
		g, err = f.generations()
	}
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	if g.Pinned != nil {
		fmt.Fprintf(w, "held on to\t%s\tsince %s\n", g.Pinned.Structure, g.Pinned.Since.Format(time.RFC3339))
	}
	for _, one := range g.Generations {
		fmt.Fprintf(w, "%d\t%s\tran until %s\n", one.Number, one.Structure, one.Until.Format(time.RFC3339))
	}
	if len(g.Generations) == 0 {
		fmt.Fprintln(w, "there is nothing to go back to yet")
	}
	return w.Flush()
}
