//go:build real

package render_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fairway/internal/testbed"
)

// failing is a server that reads each request, answers with these bytes and hangs up; with none
// and silent set it keeps the connection and says nothing.
func failing(t *testing.T, says string, silent bool) string {
	t.Helper()
	return tcpServer(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, says)
		if silent {
			_, _ = io.Copy(io.Discard, c) // until the proxy hangs up
		}
	})
}

// failureOf is the address of a server that fails in the way that a word of retry-on names.
func failureOf(t *testing.T, word string) string {
	t.Helper()
	switch word {
	case "connect":
		return fmt.Sprintf("127.0.0.1:%d", testbed.Port(t))
	case "empty":
		return failing(t, "", false)
	case "invalid":
		return failing(t, "HTTP/1.1 200 OK\r\nbad\x00name: x\r\n\r\n", false)
	case "timeout":
		return failing(t, "", true)
	}
	status, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	return failing(t, fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, http.StatusText(status)), false)
}

// retryCases are the words of retry-on, and what a client sees of such a failure that is not
// tried again. "" is for a word that the proxy has not.
var retryCases = []struct{ word, haproxy, nginx string }{
	{"connect", "503", "503"},
	{"empty", "502", "503"},
	{"invalid", "502", "503"},
	{"timeout", "504", "504"},
	{"401", "401", ""},
	{"403", "403", "403"},
	{"404", "404", "404"},
	{"408", "408", ""},
	{"425", "425", ""},
	{"429", "", "429"},
	{"500", "500", "500"},
	{"501", "501", ""},
	{"502", "502", "502"},
	{"503", "503", "503"},
	{"504", "504", "504"},
}

// retryTwins are words that nginx has one for.
var retryTwins = map[string]string{"connect": "empty", "empty": "connect"}

// TestRetryOn_everyWord has two servers that are asked in turn, one of which fails. With the word
// for its failure alone, clients only hear of the other; with all words but that, every second one
// sees the failure. To nginx connect and empty are one.
func TestRetryOn_everyWord(t *testing.T) {
	each(t, func(t *testing.T, proxy int, dir string) {
		seen, words := make(map[string]string), []string(nil)
		for _, c := range retryCases {
			if seen[c.word] = map[string]string{"haproxy": c.haproxy, "nginx": c.nginx}[proxies[proxy].name]; seen[c.word] != "" {
				words = append(words, c.word)
			}
		}
		var text strings.Builder
		for _, word := range words {
			others := slices.DeleteFunc(slices.Clone(words), func(w string) bool {
				return w == word || proxies[proxy].name == "nginx" && retryTwins[word] == w
			})
			for route, list := range map[string]string{"with": word, "without": strings.Join(others, ",")} {
				labels := fmt.Sprintf("passing 1 fairway-host=%s.%s.com fairway-check=off fairway-timeout-server=300ms fairway-retry-on=%s\n", word, route, list)
				fmt.Fprintf(&text, "%s-%s n1 %s %s", route, word, failureOf(t, word), labels)
				fmt.Fprintf(&text, "%s-%s n2 %s %s", route, word, service(t, "good"), labels)
			}
		}
		address := start(t, proxy, dir, viewFor(t, proxy, catalog(t, text.String()), dir))
		for _, word := range words {
			for range 4 {
				if got := get(t, address, word+".with.com", "/").who(); got != "good" {
					t.Errorf("retry-on=%s: %s", word, got)
				}
			}
			got := []string{get(t, address, word+".without.com", "/").who(), get(t, address, word+".without.com", "/").who()}
			slices.Sort(got)
			if want := []string{seen[word], "good"}; !slices.Equal(got, want) {
				t.Errorf("all words but %s: %v, want %v in some order", word, got, want)
			}
		}
	})
}

// TestRetryOn_off lets a failure through that is tried again where nothing is said.
func TestRetryOn_off(t *testing.T) {
	labels := " passing 1 fairway-check=off fairway-host="
	text := "off n1 DEAD" + labels + "off.com fairway-retry-on=off\noff n2 ADDRESS" + labels + "off.com fairway-retry-on=off\n" +
		"web n1 DEAD" + labels + "web.com\nweb n2 ADDRESS" + labels + "web.com\n"
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, catalog(t, text), dir))
		for host, want := range map[string]string{"off.com": "[503 off]", "web.com": "[web web]"} {
			got := []string{get(t, address, host, "/").who(), get(t, address, host, "/").who()}
			slices.Sort(got)
			if fmt.Sprint(got) != want {
				t.Errorf("%s: %v, want %s", host, got, want)
			}
		}
	})
}

// TestRetryOn_noHTTP has a server that speaks another protocol. nginx takes what does not begin with
// HTTP/ for an answer of HTTP/0.9, and passes it on.
func TestRetryOn_noHTTP(t *testing.T) {
	labels := " passing 1 fairway-host=a.com fairway-check=off fairway-retry-on=invalid"
	s := catalog(t, "web n1 "+failing(t, "SSH-2.0-OpenSSH_9.2\r\n", false)+labels+"\nweb n2 "+service(t, "good")+labels)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, viewFor(t, proxy, s, dir))
		got := []string{get(t, address, "a.com", "/").who(), get(t, address, "a.com", "/").who()}
		slices.Sort(got)
		if want := map[string]string{"haproxy": "[good good]", "nginx": "[0 good]"}[proxies[proxy].name]; fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
	})
}
