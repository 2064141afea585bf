package main

import (
	"strings"
	"testing"

	"fairway/registrator/service"
	"fairway/registrator/service/dialect"
)

func TestOptions_dialects(t *testing.T) {
	for args, want := range map[string]string{
		"":                         strings.Join(dialect.Names(), ","),
		"--dialects traefik,fabio": "traefik,fabio",
		"--dialects none":          "",
		"--dialects=nginx-proxy":   "nginx-proxy",
	} {
		opt, _, code := parse(t, strings.Fields(args)...)
		if got := strings.Join(opt.Service.Dialects, ","); code != 0 || got != want {
			t.Errorf("%q reads %q and ends with %d, want %q", args, got, code, want)
		}
	}
	for _, list := range []string{"caddy", "traefik,caddy", ","} {
		if _, _, code := parse(t, "--dialects", list); code != 2 {
			t.Errorf("--dialects %q ends with %d, want 2", list, code)
		}
	}
}

// TestExplain_translation: the translation is told key by key, and with --dialects none there is none.
func TestExplain_translation(t *testing.T) {
	c := service.Container{
		ID: strings.Repeat("a", 64), Name: "shop", Image: "shop", State: service.Running,
		Env:    []string{"VIRTUAL_HOST=shop.test", "VIRTUAL_PORT=8080", "VIRTUAL_PROTO=https"},
		Labels: map[string]string{"fairway.proto": "h2c"},
		Ports:  []service.Port{{Number: 8080, Protocol: "tcp"}},
	}
	explained := func(dialects []string) string {
		opt := service.Defaults()
		opt.Dialects = dialects
		var out strings.Builder
		if err := printDecisions(&out, service.Desired([]service.Container{c}, opt), "shop"); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	got := explained(dialect.Names())
	for _, want := range []string{
		"VIRTUAL_HOST is read as fairway.host=shop.test (nginx-proxy)",
		"VIRTUAL_PORT is read as fairway.port=8080 (nginx-proxy)",
		"VIRTUAL_PROTO is read as fairway.backend.verify=none (nginx-proxy)",
		"VIRTUAL_PROTO is not read, because fairway.proto says the same key",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("explain does not say %q:\n%s", want, got)
		}
	}
	if got := explained(nil); strings.Contains(got, "VIRTUAL") {
		t.Errorf("without dialects explain says:\n%s", got)
	}
}
