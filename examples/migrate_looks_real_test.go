//go:build real

package examples_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// kept are the services of the estates, two instances of each, that want a client to come back to
// the instance that it had.
var kept = map[string][]struct{ name, host, cookie string }{
	"traefik":   {{"shop", "traefik.test", "shop"}},
	"interlock": {{"lb", "lb.lock.test", "session"}},
}

// admitStranger gives the machine's end of the cable to the host the stranger's address.
func (h *host) admitStranger() {
	h.t.Helper()
	cable := "fw" + strings.TrimPrefix(h.engine.Namespace, "fwt-")
	h.run(testbed.Program(h.t, "ip"), "addr", "add", stranger+"/32", "dev", cable)
}

// keeps wants a client without a cookie to meet both instances, and one with it the same for ever.
func (h *host) keeps(t *testing.T, name, cookie string) {
	t.Helper()
	testbed.Eventually(t, time.Minute, "both instances of "+name+" give a cookie", func() error {
		seen, err := h.meetsAt(name, nil, 10)
		if err == nil && len(seen) != 2 {
			err = fmt.Errorf("answers of %v", seen)
		}
		return err
	})
	given, err := h.cookie(name, cookie)
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := h.meetsAt(name, given, 20); err != nil || len(seen) != 1 {
		t.Errorf("%s with the cookie %s: answers of %v, %v; want one instance", name, given, seen, err)
	}
}

// meetsAt asks n times and returns the addresses that answered.
func (h *host) meetsAt(name string, cookie *http.Cookie, n int) (map[string]bool, error) {
	seen := map[string]bool{}
	for range n {
		response, _, err := h.ask(name, "/", cookie)
		if err != nil {
			return seen, err
		}
		seen[response.Header.Get("X-Served-Address")] = true
	}
	return seen, nil
}

// cookie is what a client gets that has none.
func (h *host) cookie(name, cookie string) (*http.Cookie, error) {
	response, _, err := h.ask(name, "/", nil)
	if err != nil {
		return nil, err
	}
	for _, c := range response.Cookies() {
		if c.Name == cookie {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%s gives no cookie %q but %v", name, cookie, response.Cookies())
}

// ask is get with a cookie, and with the body.
func (h *host) ask(name, path string, cookie *http.Cookie) (*http.Response, string, error) {
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.engine.Address+path, nil)
	if err != nil {
		return nil, "", err
	}
	request.Host = name
	if name == statsHost {
		request.SetBasicAuth("stats", "secret")
	}
	if cookie != nil {
		request.AddCookie(cookie)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: status %d", name, path, response.StatusCode)
	}
	return response, string(body), err
}

// checked wants HAProxy to ask each server of these hosts for its health, by a request, and to be
// content.
func (h *host) checked(t *testing.T, hosts ...string) {
	t.Helper()
	for _, name := range hosts {
		testbed.Eventually(t, time.Minute, "HAProxy's checks of "+name+" pass", func() error {
			addresses, err := h.meetsAt(name, nil, 10)
			if err != nil {
				return err
			}
			found, err := h.checkStatus(addresses)
			if err != nil {
				return err
			}
			if len(found) < len(addresses) || slices.ContainsFunc(found, func(status string) bool { return status != "L7OK" }) {
				return fmt.Errorf("checks of %v: %q, want L7OK", addresses, found)
			}
			return nil
		})
	}
}

// checkStatus is what HAProxy's page says of the checks of servers at these addresses.
func (h *host) checkStatus(addresses map[string]bool) (found []string, err error) {
	_, body, err := h.ask(statsHost, "/haproxy?stats;csv", nil)
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(body, "# "))).ReadAll()
	if err != nil {
		return nil, err
	}
	server, check := slices.Index(rows[0], "svname"), slices.Index(rows[0], "check_status")
	for _, row := range rows[1:] {
		for address := range addresses {
			if strings.Contains(row[server], "_"+address+":") {
				found = append(found, row[check])
			}
		}
	}
	return found, nil
}

// instance is what the catalog says of one.
type instance struct {
	Service struct {
		Tags []string
		Meta map[string]string
	}
	Checks []struct{ CheckID, Status, Output string }
}

// catalog looks a service up.
func (h *host) catalog(t *testing.T, service string) (list []instance) {
	t.Helper()
	said := h.run(testbed.Program(t, "ip"), "netns", "exec", h.engine.Namespace,
		testbed.Program(t, "curl"), "-sf", "http://127.0.0.1:8500/v1/health/service/"+service)
	if err := json.Unmarshal([]byte(said), &list); err != nil {
		t.Fatalf("%s: %v in %s", service, err, said)
	}
	return list
}

// gliderCatalog looks up what gliderlabs' variables ask for.
func (h *host) gliderCatalog(t *testing.T) {
	shop := h.catalog(t, "glider-shop")
	if len(shop) != 1 || !slices.Contains(shop[0].Service.Tags, "blue") || shop[0].Service.Meta["region"] != "us2" {
		t.Fatalf("glider-shop: %+v, want one with the tag blue and region=us2", shop)
	}
	if checks := shop[0].Checks; !slices.ContainsFunc(checks, func(c struct{ CheckID, Status, Output string }) bool {
		return c.Status == "passing" && strings.Contains(c.Output, "/healthz")
	}) {
		t.Errorf("glider-shop's checks: %+v, want one of /healthz that passes", checks)
	}
	if quiet := h.catalog(t, "glider-quiet"); len(quiet) != 1 {
		t.Errorf("glider-quiet: %+v, want one", quiet)
	}
	for _, service := range []string{"glider-ignored", "gliderlabs-fabio_ignored"} {
		if ignored := h.catalog(t, service); len(ignored) != 0 {
			t.Errorf("%s: %+v, want none", service, ignored)
		}
	}
}
