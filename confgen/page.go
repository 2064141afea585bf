package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"fairway/confgen/page"
	"fairway/confgen/route"
)

// front page of the admin listener, for people: ?q= searches, ?proxy= says which proxy.
func (p *program) page(w http.ResponseWriter, req *http.Request) {
	fronts := p.fronts.all()
	at := slices.IndexFunc(fronts, func(f *front) bool { return f.opt.Name == req.URL.Query().Get("proxy") })
	if at < 0 && len(fronts) > 0 {
		at = 0
	}
	if at < 0 {
		http.Error(w, "no proxy is kept yet", http.StatusServiceUnavailable)
		return
	}
	ready, conditions := p.d.Ready()
	s := fronts[at].report.status(req.Context())
	v := page.View{Version: s.Version, Proxy: s.Proxy, Ready: ready, Facts: factsOf(s, conditions)}
	if len(fronts) > 1 {
		for _, f := range fronts {
			v.Proxies = append(v.Proxies, f.opt.Name)
		}
	}
	v.Search(fronts[at].report.tableNow(), strings.TrimSpace(req.URL.Query().Get("q")))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'")
	if err := page.Write(w, v); err != nil {
		p.d.Log.Debug("page not sent", "err", err)
	}
}

// shownBad are the facts that are there only when somebody should look.
var shownBad = []string{"configuration", "not applied", "reload waits", "templates", "not answered", "not readable", "not usable"}

func factsOf(s status, conditions string) []page.Fact {
	var facts []page.Fact
	s.facts(func(name, format string, a ...any) {
		f := page.Fact{Name: strings.TrimSpace(name), What: fmt.Sprintf(format, a...)}
		part := strings.HasPrefix(name, "  ")
		f.Bad = slices.Contains(shownBad, name) || part && f.What != "ok" || name == "guards" && f.What != nothingHeld
		facts = append(facts, f)
	}, conditions)
	return facts
}

// tableNow is the table that the last pass was made of.
func (r *report) tableNow() route.Table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table
}
