//go:build real

package render_test

import "testing"

// alike are requests, by their bytes, that both proxies answer alike: by the name of a service, or
// by a status.
var alike = []struct{ name, request, want string }{
	// Host.
	{"no host", "GET /any HTTP/1.1\r\n\r\n", "400"},
	{"no host in 1.0", "GET /any HTTP/1.0\r\n\r\n", "any"},
	{"host in 1.0", "GET /api HTTP/1.0\r\nHost: a.com\r\n\r\n", "api"},
	{"empty host in 1.0", "GET /any HTTP/1.0\r\nHost:\r\n\r\n", "400"},
	{"blank host in 1.0", "GET /any HTTP/1.0\r\nHost: \r\n\r\n", "400"},
	{"empty host twice in 1.0", "GET /any HTTP/1.0\r\nHost:\r\nHost:\r\n\r\n", "400"},
	{"host and an empty one", "GET / HTTP/1.1\r\nHost: a.com\r\nHost:\r\n\r\n", "400"},
	{"an empty host and one", "GET / HTTP/1.1\r\nHost:\r\nHost: a.com\r\n\r\n", "400"},
	{"two hosts", "GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.a.com\r\n\r\n", "400"},
	{"host twice, once with a dot", "GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com.\r\n\r\n", "400"},
	{"host twice, once with a port", "GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com:80\r\n\r\n", "400"},
	{"host twice in one line", "GET / HTTP/1.1\r\nHost: a.com, a.com\r\n\r\n", "400"},
	{"space before the colon", "GET / HTTP/1.1\r\nHost : a.com\r\n\r\n", "400"},

	// A whole URL: the same host and port as in Host, of which that of the scheme may be left out.
	{"absolute", "GET http://a.com/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"absolute in capitals", "GET HTTP://A.com/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"absolute with the port of http", "GET http://a.com:80/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"host with the port of http", "GET http://a.com/api HTTP/1.1\r\nHost: a.com:80\r\nConnection: close\r\n\r\n", "api"},
	{"absolute with the port of https", "GET https://a.com:443/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"absolute without a port behind the colon", "GET http://a.com:/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"absolute with a port", "GET http://a.com:8080/api HTTP/1.1\r\nHost: a.com:8080\r\nConnection: close\r\n\r\n", "api"},
	{"absolute and host with a dot", "GET http://a.com./api HTTP/1.1\r\nHost: a.com.\r\nConnection: close\r\n\r\n", "api"},
	{"absolute with an address", "GET http://[::1]/any HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n", "any"},
	{"absolute in 1.0", "GET http://a.com/api HTTP/1.0\r\nHost: a.com\r\n\r\n", "api"},
	{"absolute with a dot", "GET http://a.com./api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute, and host with a dot", "GET http://a.com/api HTTP/1.1\r\nHost: a.com.\r\n\r\n", "400"},
	{"absolute with another port", "GET http://a.com:8080/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute, and host with another port", "GET http://a.com/api HTTP/1.1\r\nHost: a.com:8080\r\n\r\n", "400"},
	{"absolute with the port of the other scheme", "GET https://a.com:80/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute with another host", "GET http://a.com/api HTTP/1.1\r\nHost: b.a.com\r\n\r\n", "400"},
	{"absolute with a longer host", "GET http://xa.com/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute with a user", "GET http://u@a.com/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute with a user and a password", "GET http://u:p@a.com/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute and host with a user", "GET http://u@a.com/api HTTP/1.1\r\nHost: u@a.com\r\n\r\n", "400"},
	{"absolute with nobody", "GET http:///api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute without a path", "GET http://a.com HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute with a query alone", "GET http://a.com?x=/ HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute of another scheme", "GET ftp://a.com/api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"absolute without host", "GET http://a.com/api HTTP/1.1\r\n\r\n", "400"},
	{"absolute without host in 1.0", "GET http://a.com/any HTTP/1.0\r\n\r\n", "400"},
	{"absolute with an empty host in 1.0", "GET http://a.com/any HTTP/1.0\r\nHost:\r\n\r\n", "400"},

	// Methods.
	{"connect", "CONNECT a.com:80 HTTP/1.1\r\nHost: a.com:80\r\n\r\n", "400"},
	{"connect without host", "CONNECT a.com:443 HTTP/1.1\r\n\r\n", "400"},
	{"connect in small letters", "connect /api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"trace", "TRACE / HTTP/1.1\r\nHost: a.com\r\n\r\n", "405"},
	{"trace in small letters", "trace / HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"trace without host", "TRACE / HTTP/1.1\r\n\r\n", "400"},
	{"trace of the server", "TRACE * HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"options", "OPTIONS /api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"options of the server", "OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"purge", "PURGE /api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"with a hyphen", "M-SEARCH /api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"get in small letters", "get /api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"the opening of HTTP/2", "PRI /api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"no word", "G(T /api HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},

	// Versions, and what a line may look like.
	{"1.9", "GET /api HTTP/1.9\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"1.10", "GET /api HTTP/1.10\r\nHost: a.com\r\n\r\n", "400"},
	{"2.0 in words", "GET /api HTTP/2.0\r\nHost: a.com\r\n\r\n", "505"},
	{"small letters", "GET /api http/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"two spaces", "GET  /api  HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api"},
	{"a word too many", "GET /api x HTTP/1.1\r\nHost: a.com\r\n\r\n", "400"},
	{"length twice", "POST /api HTTP/1.1\r\nHost: a.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "400"},
}

// apart are the requests that a proxy has answered, or mended, before any rule of ours sees them,
// as docs/routing.md says: the other one cannot be made to follow, or must not.
var apart = []struct{ name, request, haproxy, nginx string }{
	// HAProxy makes one of equal ones; nginx refuses.
	{"host twice", "GET / HTTP/1.1\r\nHost: a.com\r\nHost: a.com\r\nConnection: close\r\n\r\n", "root", "400"},
	{"host twice, once in capitals", "GET /api HTTP/1.1\r\nHost: a.com\r\nHost: A.com\r\nConnection: close\r\n\r\n", "api", "400"},
	{"host twice in 1.0", "GET / HTTP/1.0\r\nHost: a.com\r\nHost: a.com\r\n\r\n", "root", "400"},
	// HAProxy takes a tab for a space; nginx refuses.
	{"tab behind the method", "GET\t/api HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n", "api", "400"},
	// Both refuse, with another status: nginx looks at the method before the target, and HAProxy after it.
	{"connect with a path", "CONNECT / HTTP/1.1\r\nHost: a.com\r\n\r\n", "400", "405"},
	{"trace with another host", "TRACE http://a.com/ HTTP/1.1\r\nHost: b.a.com\r\n\r\n", "400", "405"},
	{"0.9 in words", "GET /api HTTP/0.9\r\nHost: a.com\r\n\r\n", "505", "400"},
	// nginx refuses as HTTP/0.9 does, by a page without a status.
	{"0.9", "GET /any\r\n\r\n", "400", "0"},
}

// TestRefused sends requests that no browser sends, and wants the same answer of both proxies but
// where the table says otherwise.
func TestRefused(t *testing.T) {
	s := catalog(t, matchingCatalog)
	each(t, func(t *testing.T, proxy int, dir string) {
		address := start(t, proxy, dir, view(t, s, dir))
		asks := func(name, request, want string) {
			if got := send(t, address, request); got.who() != want {
				t.Errorf("%s: %s, want %s", name, got.who(), want)
			}
		}
		for _, c := range alike {
			asks(c.name, c.request, c.want)
		}
		for _, c := range apart {
			asks(c.name, c.request, []string{c.haproxy, c.nginx}[proxy])
			if c.haproxy == c.nginx {
				t.Errorf("%s: nothing is apart there", c.name)
			}
		}
	})
}
