package haproxy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is a configuration file as far as it matters for changes at run time.
type Config struct {
	// Structure is a hash of the text without the server lines that can be changed at run time,
	// without comments, blank lines and indentation. Two files with equal structure differ only
	// in what needs no reload.
	Structure string
	Backends  []Backend // in the order of the file
	Binds     []string  // addresses of `bind` lines, in the order of the file

	reader   *Reader
	sections []*section
}

// Backend is a `backend` or `listen` section and its servers.
type Backend struct {
	Name    string
	Servers []Server
	Fixed   []string      // names of other servers, which only a reload changes
	Drain   time.Duration // for which a server may go on with what it has once it gets nothing new; 0 for ever
}

// Server is a server line that can be changed at run time.
type Server struct {
	Name     string
	Address  netip.Addr
	Port     int
	ID       int // 0 when the line has none
	Weight   int // 0 … 256
	Disabled bool
	Options  []string // the rest of the line behind what default-server lines say
}

// Parse reads a single configuration file.
func Parse(text []byte) *Config { return new(Reader).Read(text) }

// Backend returns the backend of a name.
func (c *Config) Backend(name string) (Backend, bool) {
	i := slices.IndexFunc(c.Backends, func(b Backend) bool { return b.Name == name })
	if i < 0 {
		return Backend{}, false
	}
	return c.Backends[i], true
}

// Pieces is the text of the file in pieces that end with whole lines. Versions that were read by
// one Reader share them.
func (c *Config) Pieces() []string {
	pieces := make([]string, len(c.sections))
	for i, s := range c.sections {
		pieces[i] = s.text
	}
	return pieces
}

// Replace returns the version in which one word is another one.
func (c *Config) Replace(word, by string) *Config {
	list := slices.Clone(c.sections)
	for i, s := range list {
		if strings.Contains(s.text, word) {
			list[i] = c.reader.section(s.within, []byte(strings.ReplaceAll(s.text, word, by)))
		}
	}
	return c.reader.assemble(list)
}

// Merge returns c with the server lines of those backends that want has too replaced by want's:
// the servers of the new world in the structure of the old. A server that want has with other
// options keeps its line, since only a reload could change those.
func (c *Config) Merge(want *Config) *Config {
	theirs := make(map[string]*section, len(want.sections))
	for _, s := range want.sections {
		if s.backend {
			theirs[s.name] = s
		}
	}
	list := slices.Clone(c.sections)
	for i, s := range list {
		if w := theirs[s.name]; s.backend && w != nil && w != s {
			list[i] = c.reader.section(s.within, []byte(c.reader.merge(s, w)))
		}
	}
	return c.reader.assemble(list)
}

// merge returns the text of base with want's server lines at the place of its own.
func (r *Reader) merge(base, want *section) string {
	kept := map[string]string{} // lines of base that want has with other options
	each(r, base, func(line string, s *Server) {
		if s != nil && slices.ContainsFunc(want.servers, func(o Server) bool { return o.Name == s.Name && !s.alike(o) }) {
			kept[s.Name] = line
		}
	})
	var servers, out strings.Builder
	each(r, want, func(line string, s *Server) {
		if s == nil {
			return
		}
		if other, found := kept[s.Name]; found {
			line = other
		}
		servers.WriteString(line + "\n")
	})
	placed := false
	place := func() {
		if !placed {
			out.WriteString(servers.String())
			placed = true
		}
	}
	each(r, base, func(line string, s *Server) {
		if s != nil {
			place()
			return
		}
		out.WriteString(line + "\n")
	})
	place()
	return out.String()
}

// each calls f for every line of a section, with the server, if it is one that can be changed at
// run time.
func each(r *Reader, s *section, f func(line string, s *Server)) {
	r.parse(s.within, s.text, f)
}

// has reports whether the server's line has an option.
func (s Server) has(option string) bool {
	return slices.Contains(s.Options, option)
}

// address is how a server's address stands in a command.
func (s Server) address() string {
	return netip.AddrPortFrom(s.Address, uint16(s.Port)).String()
}
