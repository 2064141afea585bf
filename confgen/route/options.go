package route

import (
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
	Strip    []PathPattern `json:",omitempty"` // the first that matches a request's path is cut off it
	Rewrite  *Rewrite      `json:",omitempty"` // of the path, after Strip
	Timeouts Timeouts      `json:",omitzero"`
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
