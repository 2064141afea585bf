package route

import (
	"net/netip"
	"reflect"
	"time"
)

// Proxy is the program that a table is built for. What it cannot do is a problem rather than
// silence.
type Proxy string

// The proxies that are known. AnyProxy refuses nothing: it is for looking at a table.
const (
	AnyProxy Proxy = ""
	HAProxy  Proxy = "haproxy"
	Nginx    Proxy = "nginx"
)

// Options are what the labels of a route ask of its backend beside the servers. They belong to
// the backend, which a request finds by map, so that they cost nothing to requests for others.
// Routes of one service with different options have backends of their own.
type Options struct {
	Redirect Redirect       `json:",omitzero"`  // answers every request; nothing else counts then
	Strip    []PathPattern  `json:",omitempty"` // the first that matches a request's path is cut off it
	Rewrite  *Rewrite       `json:",omitempty"` // of the path, after Strip
	Timeouts Timeouts       `json:",omitzero"`
	Allow    []netip.Prefix `json:",omitempty"` // clients that may ask; none for all
	Deny     []netip.Prefix `json:",omitempty"` // clients that may not, whatever Allow says
	Balance  Balance        `json:",omitzero"`
	Retries  *int           `json:",omitempty"` // on other servers; nil for the default
	Drain    time.Duration  `json:",omitzero"`  // for which a server may finish once it gets nothing new; 0 for any time
	Compress bool           `json:",omitzero"`  // answers that are text
	Check    Check          `json:",omitzero"`

	Stream        bool       `json:",omitzero"` // passed on as it comes
	Proto         Proto      `json:",omitzero"`
	TLS           BackendTLS `json:",omitzero"` // to the servers, where Proto is encrypted
	Root          string     `json:",omitzero"` // folder of the files, for FastCGI
	ProxyProtocol string     `json:",omitzero"` // "v1" or "v2" tells servers who the client is
	ClientCA      string     `json:",omitzero"` // only clients with a certificate that it signed

	RequestHeaders  []HeaderChange `json:",omitempty"` // after Strip and Rewrite, in this order
	ResponseHeaders []HeaderChange `json:",omitempty"`
	Auth            string         `json:",omitzero"`  // name of the user list that lets people in
	Rate            *Rate          `json:",omitempty"` // more is answered with 429
	InFlight        int            `json:",omitzero"`  // requests at once; more is answered with 503
	Queue           int            `json:",omitzero"`  // requests that wait for a server; more is answered with 503
	BodyMax         int64          `json:",omitzero"`  // bytes; more is answered with 413
	RetryOn         []string       `json:",omitempty"` // what is tried again; none for the default, "off" for nothing
	CORS            *CORS          `json:",omitempty"`
	ForwardAuth     *ForwardAuth   `json:",omitempty"`
	Mirror          *Mirror        `json:",omitempty"`
	Errors          string         `json:",omitzero"`  // name of the set of pages that the front end answers with
	Snippet         []string       `json:",omitempty"` // raw lines of the proxy's configuration

	HSTS string `json:",omitzero"` // Strict-Transport-Security of answers over TLS
}

// Redirect sends clients elsewhere, with one of To, Host and TLSPort; Code 0 sends nobody.
type Redirect struct {
	Code    int    `json:",omitzero"` // 301, 302, 307 or 308
	To      string `json:",omitzero"` // an URL or an absolute path
	Host    string `json:",omitzero"` // the same scheme, port, path and query at another host
	TLSPort int    `json:",omitzero"` // the same host, path and query over TLS at this port
}

// PathPattern is one item of a list of paths.
type PathPattern struct {
	Kind PathKind
	Path string
}

// Rewrite replaces a path. For a prefix To takes its place; for a regular expression To becomes
// the whole path, and $1 to $9 in it are what the groups matched. It is compared with the path
// as the client wrote it, not decoded.
type Rewrite struct {
	From PathPattern
	To   string
}

// Timeouts of a backend; 0 leaves the operator's.
type Timeouts struct {
	Connect time.Duration `json:",omitzero"`
	Server  time.Duration `json:",omitzero"`
	Tunnel  time.Duration `json:",omitzero"`
	Queue   time.Duration `json:",omitzero"`
}

// Check is how the proxy itself finds out whether a server answers; 0 leaves the default.
type Check struct {
	Off      bool          `json:",omitzero"`
	Method   string        `json:",omitzero"` // GET or HEAD; "" only connects
	Path     string        `json:",omitzero"`
	Host     string        `json:",omitzero"`
	Status   int           `json:",omitzero"` // 0 for any from 200 to 399
	Interval time.Duration `json:",omitzero"`
	Timeout  time.Duration `json:",omitzero"`
	Rise     int           `json:",omitzero"` // answers in a row until a server is up
	Fall     int           `json:",omitzero"` // failures in a row until it is down
}

// Seconds is the interval in whole seconds, which is how nginx counts it.
func (c Check) Seconds() int { return int((c.Interval + time.Second - 1) / time.Second) }

// Given reports whether a label says anything of checks.
func (c Check) Given() bool { return c != Check{} }

// Algorithm is a way to choose a server for a request.
type Algorithm string

// The algorithms; the zero value takes servers in turn. Those that hash do so consistently: a
// server that comes or goes moves only its share of the keys.
const (
	LeastConn Algorithm = "leastconn"
	Random    Algorithm = "random"
	Source    Algorithm = "source" // hashes the client's address
	URI       Algorithm = "uri"    // hashes the path without the query
	Header    Algorithm = "header" // hashes a header; requests without it are spread
	Cookie    Algorithm = "cookie" // hashes a cookie, which clients without it are given
)

// Balance says how a backend chooses a server.
type Balance struct {
	Algorithm Algorithm `json:",omitzero"`
	Header    string    `json:",omitzero"` // lower case
	Cookie    string    `json:",omitzero"` // of a-z, 0-9 and "_"
}

// HeaderAction says what happens to a header.
type HeaderAction string

// What a label may do with a header. Setting replaces all of that name.
const (
	SetHeader    HeaderAction = "set"
	AddHeader    HeaderAction = "add"
	RemoveHeader HeaderAction = "remove"
)

// HeaderChange is one change of a header. Name is of letters, digits, "-" and "_"; Value is
// printable ASCII and "" only for RemoveHeader.
type HeaderChange struct {
	Action HeaderAction
	Name   string
	Value  string `json:",omitzero"`
}

// Equal reports whether two backends are asked for the same. nil asks for nothing.
func (o *Options) Equal(other *Options) bool {
	return o == other || o != nil && other != nil && reflect.DeepEqual(o, other)
}

// orNil gives options that ask for nothing one form.
func (o Options) orNil() *Options {
	if reflect.ValueOf(o).IsZero() {
		return nil
	}
	return &o
}
