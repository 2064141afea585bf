package route

import "time"

// Table is everything a proxy must do, typed, validated and in a fixed order: the same
// snapshot and settings give the same table, whatever order Consul answered in.
type Table struct {
	Entrypoints []Entrypoint
	Routes      []Route   // in order of precedence: the first that matches wins
	Backends    []Backend // sorted by name
	Streams     []Stream  // what is passed on as it comes: by entrypoint and host, then by port
	Problems    []Problem // sorted
	Foreign     []Foreign // what other front ends serve, in order of precedence

	// With a certificate store: how TLS is begun for which host (sorted by pattern), and the
	// certificate for all others, "" to refuse them.
	Store       bool
	Handshakes  []Handshake
	Certificate string
}

// Entrypoint is an address that the operator lets the proxy listen on.
type Entrypoint struct {
	Name    string // "web", "websecure"
	Address string // "" for every address
	Port    int
	TLS     bool // the operator configured a certificate for it
	Proxied bool // connections of trusted proxies begin with the PROXY protocol
}

// HostKind says how a host pattern matches; lower values win.
type HostKind int

// The kinds of host patterns in order of precedence.
const (
	HostExact    HostKind = iota // cluster.test
	HostWildcard                 // *.cluster.test: one or more labels in front
	HostRegex                    // ~^v[0-9]+\.
	HostAny                      // no host given
)

// PathKind says how a path pattern matches.
type PathKind int

// The kinds of path patterns in order of precedence.
const (
	PathExact  PathKind = iota // =/exact
	PathRegex                  // ~^/v[0-9]+/; before prefixes, else a host's "/" would hide it
	PathPrefix                 // /api: /api and /api/…, never /apixyz
)

// Route sends requests for one host and path to one backend. Host and path are compared with
// what the request says in lower case, without port and trailing dot (host) and decoded once
// (path).
type Route struct {
	HostKind    HostKind
	Host        string // lower case; for a wildcard the part behind "*."; "" for HostAny
	PathKind    PathKind
	Path        string      // "/" for everything
	When        *Conditions // what a request must meet besides; nil for nothing
	Entrypoints []string    // names of the entrypoints that serve it, sorted
	Priority    int         // between routes whose hosts and paths weigh the same; higher wins
	Backend     string      // a Backend.Name
	Service     string      // who asked for it, for problems and explanations
	Name        string      // the <route> of fairway.<route>.<key>; "" for fairway.<key>

	created uint64 // age of the claim: the oldest instance that makes it
	key     string // the label that makes it, if that is not host, path or default
	demand  *demand
}

// Foreign is a route that is for other front ends alone: it has no backend here.
type Foreign struct {
	Route
	For    []string // the front ends that its label instance names, sorted
	Reason string   // who serves it and who does not, and the label that says so
}

// Backend is a set of servers that share settings.
type Backend struct {
	Name    string // [a-z0-9._-], safe in both proxies' configurations and in file names
	ID      int    // stable number, 1 … 2^31-1, derived from Name; 0 where two names give the same
	Service string // the Consul service
	Servers []Server
	Options *Options  // nil when its labels ask for nothing more
	Pool    []Variant // the services that share it; none when it is one service's own
}

// Variant is one service's part of a backend that services of one group share.
type Variant struct {
	Service string
	Route   string `json:",omitzero"` // the <route> of its labels
	Percent int    // of the requests, while it has a server that takes them; rounded
}

// Server is one instance as the proxy sees it.
type Server struct {
	Name    string // unique in its backend; made of node, address and port
	ID      int    // stable number for consistent hashing, 1 … 2^20-1, derived from Name
	Address string // an IP address, never a name
	Port    int
	Weight  int   // 0 … 256
	State   State // what the proxy may do with it
	Limits  Limits
}

// Limits are what the labels of one instance say of its server.
type Limits struct {
	SlowStart time.Duration // during which a server that comes up is brought to its full weight
	MaxConn   int32         // requests at once; 0 for any number
	Backup    bool          // gets requests only when no other server can take them
}

// Given reports whether a label says anything of the server.
func (l Limits) Given() bool { return l != Limits{} }

// State says whether a server gets new requests.
type State string

// The states of a server. A server in maintenance finishes what it has and gets nothing new.
const (
	Ready State = "ready"
	Maint State = "maint"
)

// Problem is something in the catalog that could not be used, and why.
type Problem struct {
	Service  string
	Instance string // instance ID; "" when the whole service is meant
	Key      string // the routing key at fault, as a label: "fairway.host"
	Reason   string // what is wrong and what to write instead
}
