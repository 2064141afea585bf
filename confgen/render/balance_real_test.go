//go:build real

package render_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/route/routetest"
)

// four is how many servers a backend of these tests has.
const four = 4

// lingering is a server that says its name; a request for /hold it announces and keeps until it
// is let go.
func lingering(t *testing.T, name string, begun chan<- string, let <-chan struct{}) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			begun <- name
			select {
			case <-let:
			case <-r.Context().Done():
			}
		}
		fmt.Fprintln(w, name)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// release lets one request of a server go, and waits until its client has the answer.
func release(t *testing.T, let chan<- struct{}, ended <-chan struct{}) {
	t.Helper()
	late := time.After(5 * time.Second)
	select {
	case let <- struct{}{}:
	case <-late:
		t.Fatal("the server has fewer requests than were its share")
	}
	select {
	case <-ended:
	case <-late:
		t.Fatal("a request does not end")
	}
}

// inTurn reports whether each of the servers is among any of their number in a row.
func inTurn(who []string) bool {
	for i := range len(who) - four + 1 {
		if len(distinct(who[i:i+four])) != four {
			return false
		}
	}
	return true
}

func distinct(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// TestBalance_turns asks one request after the other: roundrobin goes in turn, random does not,
// and both ask all servers.
func TestBalance_turns(t *testing.T) {
	var text strings.Builder
	for i := range four {
		fmt.Fprintf(&text, "turn n%d %s passing 1 fairway-host=turn.com fairway-balance=roundrobin\n", i, service(t, fmt.Sprint(i)))
		fmt.Fprintf(&text, "chance n%d %s passing 1 fairway-host=chance.com fairway-balance=random\n", i, service(t, fmt.Sprint(i)))
	}
	s := routetest.Snapshot(t, text.String())
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		for host, want := range map[string]bool{"turn.com": true, "chance.com": false} {
			who := make([]string, 60)
			for i := range who {
				who[i] = get(t, address, host, "/").who()
			}
			if len(distinct(who)) != four || inTurn(who) != want {
				t.Errorf("%s: in turn %v, want %v: %v", host, !want, want, who)
			}
		}
	})
}

// TestBalance_leastconn gives three of four servers three requests each that do not end. leastconn
// sends everything else to the fourth, roundrobin pays no heed.
func TestBalance_leastconn(t *testing.T) {
	begun := make(chan string, 3*four)
	each(t, func(t *testing.T, proxy int, dir string) {
		let := make([]chan struct{}, four)
		var text strings.Builder
		for i := range four {
			let[i] = make(chan struct{})
			address := lingering(t, fmt.Sprint(i), begun, let[i])
			fmt.Fprintf(&text, "least n%d %s passing 1 fairway-host=least.com fairway-balance=leastconn\n", i, address)
			fmt.Fprintf(&text, "turn n%d %s passing 1 fairway-host=turn.com fairway-balance=roundrobin\n", i, address)
		}
		address := start(t, proxy, dir, viewFor(t, proxy, routetest.Snapshot(t, text.String()), dir))
		for host, servers := range map[string]int{"least.com": 1, "turn.com": four} {
			ended := make(chan struct{}, 3*four)
			for range 3 * four {
				go func() {
					get(t, address, host, "/hold")
					ended <- struct{}{}
				}()
				select {
				case <-begun:
				case <-time.After(5 * time.Second):
					t.Fatalf("%s: no server has the request", host)
				}
			}
			for range 3 {
				release(t, let[0], ended)
			}
			var who []string
			for range 12 {
				who = append(who, get(t, address, host, "/").who())
			}
			if len(distinct(who)) != servers || servers == 1 && who[0] != "0" {
				t.Errorf("%s: while 1, 2 and 3 are busy, %v answer, want %d servers", host, who, servers)
			}
			for i := range 3 * (four - 1) {
				release(t, let[1+i/3], ended)
			}
		}
	})
}

// TestBalance_keeps has clients, URIs and users of many kinds: what a hash goes by keeps its
// server whatever else changes, and others have others. Requests without the header are spread.
func TestBalance_keeps(t *testing.T) {
	var text strings.Builder
	for _, b := range []string{"source", "uri", "header:X-User"} {
		host, _, _ := strings.Cut(b, ":")
		for i := range four {
			fmt.Fprintf(&text, "%s n%d %s passing 1 fairway-host=%s.com fairway-balance=%s\n", host, i, service(t, fmt.Sprint(i)), host, b)
		}
	}
	s := routetest.Snapshot(t, text.String())
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		ask := func(balance string, source, uri, query, user int) string {
			name := fmt.Sprintf("X-User: u%d\r\n", user)
			if user < 0 {
				name = ""
			}
			return sendFrom(t, fmt.Sprintf("127.0.0.%d", 1+source), address,
				fmt.Sprintf("GET /%d?%d HTTP/1.1\r\nHost: %s.com\r\n%sConnection: close\r\n\r\n", uri, query, balance, name)).who()
		}
		const keys, times = 16, 4
		for balance, by := range map[string]func(key, other int) string{
			"source": func(key, other int) string { return ask("source", key, other, other, other) },
			"uri":    func(key, other int) string { return ask("uri", other, key, other, other) },
			"header": func(key, other int) string { return ask("header", other, other, other, key) },
		} {
			var all []string
			for key := range keys {
				var who []string
				for other := range times {
					who = append(who, by(key, key+other))
				}
				if len(distinct(who)) != 1 {
					t.Errorf("%s: key %d went to %v", balance, key, who)
				}
				all = append(all, who...)
			}
			if n := len(distinct(all)); n < 3 {
				t.Errorf("%s: %d keys went to %d servers", balance, keys, n)
			}
		}
		var spread []string
		for range 60 {
			spread = append(spread, ask("header", 1, 1, 1, -1))
		}
		if len(distinct(spread)) != four {
			t.Errorf("without the header: %v", spread)
		}
	})
}
