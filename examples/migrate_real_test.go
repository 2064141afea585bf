//go:build real

package examples_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// answer is what a request to an estate must meet.
type answer struct {
	method, url string // "" is GET
	by          string // X-Served-By; "" for an answer of the front end itself
	code        int    // 0 is 200
	path        string // as the service saw it
	header      string // "Name: value" of the answer
	from        string // the client's address; "" is one of the host's own
}

// stranger is a client from no private network (RFC 5737).
const stranger = "203.0.113.7"

// The estates of examples/migrate, and what their own front ends' documentation promises them.
var estates = map[string][]answer{
	"nginx-proxy": {
		{url: "shop.test/", by: "shop"},
		{url: "www.shop.test/x", by: "shop", path: "/x"},
		{url: "shop.test/api/v1", by: "api", path: "/v1"},
		{url: "a.pages.test/", by: "pages"},
		{url: "a.b.pages.test/", by: "pages"},
		{url: "pages.test/", code: 404},
		{url: "v12.shop.test/", by: "version"},
		{url: "vx.shop.test/", code: 404},
		{url: "one.test/", by: "many"},
		{url: "two.test/app/x", by: "many", path: "/x"},
		{url: "two.test/", code: 404},
		{url: "internal.test/", by: "internal"},
		{url: "internal.test/", code: 403, from: stranger},
		{url: "shop.test/", by: "shop", from: stranger},
	},
	"interlock": {
		{url: "www.lock.test/", by: "shop"},
		{url: "lock.test/", by: "shop"},
		{url: "docs.lock.test/lockdocs/x", by: "docs", path: "/x"},
		{url: "old.lock.test/", by: "old"},
		{url: "lb.lock.test/", by: "lb"},
		{url: "lb2.lock.test/", by: "lb"},
		{url: "gone.lock.test/", code: 302, header: "Location: http://lb.lock.test/"},
		{url: "other.lock.test/", code: 404},
	},
	"gliderlabs-fabio": {
		{url: "glider.test/", by: "shop"},
		{url: "glider.test/api/x", by: "api", path: "/x"},
		{url: "moved.glider.test/y", code: 301, header: "Location: http://glider.test/"},
	},
	"traefik": {
		{url: "traefik.test/", by: "shop"},
		{url: "www.traefik.test/", by: "shop"},
		{url: "traefik.test/api/x", by: "api", path: "/x", header: "X-Api: 2"},
		{url: "traefik.test/exact", by: "exact", path: "/exact"},
		{url: "traefik.test/exact/x", by: "shop", path: "/exact/x"},
		{method: "POST", url: "traefik.test/api/x", by: "write", path: "/api/x"},
		{url: "disabled.traefik.test/", code: 404},
	},
}

// TestMigrate deploys estates of other front ends, unchanged, beside Fairway, with either proxy.
func TestMigrate(t *testing.T) {
	host := newHost(t)
	host.admitStranger()
	for _, front := range []string{"compose.yml", "compose-nginx.yml"} {
		t.Run(front, func(t *testing.T) { migrate(t, host, front) })
	}
}

func migrate(t *testing.T, host *host, front string) {
	h := host.example(t, "example", front)
	h.compose("up", "-d", "--scale", "web=0")
	for name := range estates {
		estate := host.example(t, name, filepath.Join("migrate", name+".yml"))
		args := []string{"up", "-d"}
		for _, service := range kept[name] {
			args = append(args, "--scale", service.name+"=2")
		}
		estate.compose(args...)
	}
	for name, answers := range estates {
		t.Run(name, func(t *testing.T) {
			h.meetsAll(t, answers)
			for _, service := range kept[name] {
				h.keeps(t, service.host, service.cookie)
			}
		})
	}
	t.Run("shared", func(t *testing.T) {
		h.divides(t, "canary.test", map[string]int{"new": 10, "old": 90})
		h.divides(t, "both.test", map[string]int{"left": 50, "right": 50})
	})
	t.Run("catalog", h.gliderCatalog)
	if front == "compose.yml" { // nginx has no checks of its own.
		t.Run("checks", func(t *testing.T) { h.checked(t, "traefik.test", "lock.test") })
	}
	t.Run("explain", h.explains)
	for name := range estates {
		host.example(t, name, filepath.Join("migrate", name+".yml")).compose("down", "--timeout", "1")
	}
	h.gone()
}

// meetsAll wants all answers, one after another.
func (h *host) meetsAll(t *testing.T, answers []answer) {
	t.Helper()
	for _, want := range answers {
		if want.code == http.StatusNotFound {
			continue // until the others are there this would be true of everything
		}
		testbed.Eventually(t, time.Minute, want.method+" "+want.url, func() error { return h.meets(want) })
	}
	for _, want := range answers {
		if err := h.meets(want); err != nil {
			t.Errorf("%s %s: %v", want.method, want.url, err)
		}
	}
}

func (h *host) explains(t *testing.T) {
	said := h.run(testbed.Program(t, "docker"), "exec", "example_registrator_1", "/registrator", "explain", "--all")
	for _, want := range []string{
		"VIRTUAL_HOST is read as fairway.host=shop.test,www.shop.test (nginx-proxy)",
		"(interlock)", "(fabio)", "(traefik)",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if strings.Contains(said, "problem:") {
		t.Errorf("problems in estates that are plain:\n%s", said)
	}
}

// divides asks until the answers are divided as fabio divides them, in percent.
func (h *host) divides(t *testing.T, name string, want map[string]int) {
	t.Helper()
	testbed.Eventually(t, time.Minute, name+" is shared", func() error {
		seen := map[string]int{}
		for range 100 {
			response, err := h.get(name, "/")
			if err != nil || response.StatusCode != http.StatusOK {
				return fmt.Errorf("%v %w", response, err)
			}
			seen[response.Header.Get("X-Served-By")]++
		}
		for by, percent := range want {
			if seen[by] < percent-3 || seen[by] > percent+3 {
				return fmt.Errorf("answers %v, want %v", seen, want)
			}
		}
		return nil
	})
}

// meets asks once, on a connection of its own.
func (h *host) meets(want answer) error {
	name, path, _ := strings.Cut(want.url, "/")
	method := want.method
	if method == "" {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+h.engine.Address+"/"+path, nil)
	if err != nil {
		return err
	}
	request.Host = name
	dialer := &net.Dialer{}
	if want.from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(want.from)}
	}
	client := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}, Timeout: 5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	code := want.code
	if code == 0 {
		code = http.StatusOK
	}
	if got := response.Header.Get("X-Served-By"); response.StatusCode != code || got != want.by {
		return fmt.Errorf("%d by %q, want %d by %q", response.StatusCode, got, code, want.by)
	}
	_, saw, _ := strings.Cut(string(body), "<dt>Requested</dt>")
	saw, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(saw), "<dd>"), "<")
	if want.path != "" && saw != method+" "+name+want.path {
		return fmt.Errorf("the service saw %q, want the path %s", saw, want.path)
	}
	header, value, _ := strings.Cut(want.header, ": ")
	if got := response.Header.Get(header); want.header != "" && got != value {
		return fmt.Errorf("%s: %q, want %q", header, got, value)
	}
	return nil
}
