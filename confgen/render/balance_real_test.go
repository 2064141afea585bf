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

// release lets n requests of a server go, one after the other, and waits until their clients have the
// answer.
func release(t *testing.T, n int, let chan<- struct{}, ended <-chan struct{}) {
	t.Helper()
	for range n {
		let <- struct{}{}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatal("a request does not end")
		}
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
// and both ask all servers. What leastconn does then is its own affair.
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

// TestBalance_leastconn keeps three of four servers busy with three requests each. leastconn sends
// everything else to the fourth; roundrobin and random do not.
func TestBalance_leastconn(t *testing.T) {
	begun := make(chan string, 3*four)
	each(t, func(t *testing.T, proxy int, dir string) {
		let := make(map[string]chan struct{}, four)
		var text strings.Builder
		for i := range four {
			name := fmt.Sprint(i)
			let[name] = make(chan struct{})
			address := lingering(t, name, begun, let[name])
			fmt.Fprintf(&text, "least n%d %s passing 1 fairway-host=least.com fairway-balance=leastconn\n", i, address)
			fmt.Fprintf(&text, "turn n%d %s passing 1 fairway-host=turn.com fairway-balance=roundrobin\n", i, address)
			fmt.Fprintf(&text, "chance n%d %s passing 1 fairway-host=chance.com fairway-balance=random\n", i, address)
		}
		address := start(t, proxy, dir, viewFor(t, proxy, routetest.Snapshot(t, text.String()), dir))
		for _, c := range []struct {
			host        string
			least, most int // servers that answer
		}{{"least.com", 1, 1}, {"turn.com", four, four}, {"chance.com", 2, four}} {
			held, ended := make(map[string]int), make(chan struct{}, 3*four)
			for range 3 * four {
				go func() {
					get(t, address, c.host, "/hold")
					ended <- struct{}{}
				}()
				select {
				case name := <-begun:
					held[name]++
				case <-time.After(5 * time.Second):
					t.Fatalf("%s: no server has the request", c.host)
				}
			}
			release(t, held["0"], let["0"], ended)
			var who []string
			for range 24 {
				who = append(who, get(t, address, c.host, "/").who())
			}
			if n := len(distinct(who)); n < c.least || n > c.most || n == 1 && who[0] != "0" {
				t.Errorf("%s: while all but 0 are busy (%v), %v answer, want %d to %d servers", c.host, held, who, c.least, c.most)
			}
			delete(held, "0")
			for name, n := range held {
				release(t, n, let[name], ended)
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
