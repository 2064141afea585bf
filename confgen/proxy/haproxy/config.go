package haproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Config is a configuration file as far as it matters for changes at run time.
type Config struct {
	// Structure is the text without the server lines that can be changed at run time, without
	// comments, blank lines and indentation. Two files with equal structure differ only in what
	// needs no reload.
	Structure string
	Backends  []Backend // in the order of the file; those with the same name are one
	Binds     []string  // addresses of `bind` lines, in the order of the file
}

// Backend is a `backend` or `listen` section and its servers.
type Backend struct {
	Name    string
	Servers []Server
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

// Backend returns the backend of a name.
func (c Config) Backend(name string) (Backend, bool) {
	i := slices.IndexFunc(c.Backends, func(b Backend) bool { return b.Name == name })
	if i < 0 {
		return Backend{}, false
	}
	return c.Backends[i], true
}

// sections are the words that begin a section (configuration manual, chapter 2 and the newer
// ones); any other word belongs to the section it stands in.
var sections = map[string]bool{
	"global": true, "defaults": true, "frontend": true, "backend": true, "listen": true,
	"peers": true, "resolvers": true, "mailers": true, "userlist": true, "cache": true,
	"program": true, "http-errors": true, "ring": true, "log-forward": true, "fcgi-app": true,
	"crt-store": true, "traces": true, "acme": true, "log-profile": true,
}

// Parse reads a configuration file. It never fails: what it does not understand is structure,
// and whether HAProxy understands it is for HAProxy to say.
func Parse(text []byte) Config {
	p := parser{defaults: map[string][]string{}, backends: map[string]int{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		p.line(lines.Text())
	}
	p.config.Structure = p.structure.String()
	return p.config
}

// Merge returns base with the server lines of those backends that want has too replaced by
// want's: the servers of the new world in the structure of the old. A server that want has with
// other options keeps its line, since only a reload could change those.
func Merge(base, want []byte) []byte {
	old := Parse(base)
	servers := map[string][]string{}
	known := map[string]bool{}
	keep := keptLines(base, old, Parse(want))
	eachServerLine(want, func(backend, line string, s *Server) {
		known[backend] = true
		if s == nil {
			return
		}
		if kept, found := keep[backend+"/"+s.Name]; found {
			line = kept
		}
		servers[backend] = append(servers[backend], line)
	})
	var out strings.Builder
	done := map[string]bool{}
	flush := func(backend string) {
		if !known[backend] || done[backend] {
			return
		}
		done[backend] = true
		for _, line := range servers[backend] {
			out.WriteString(line + "\n")
		}
	}
	last := ""
	eachServerLine(base, func(backend, line string, s *Server) {
		if backend != last {
			flush(last)
			last = backend
		}
		if s != nil && known[backend] {
			flush(backend)
			return
		}
		out.WriteString(line + "\n")
	})
	flush(last)
	return []byte(out.String())
}

// keptLines returns the lines of base, by backend/server, that want has with other options.
func keptLines(base []byte, old, want Config) map[string]string {
	kept := map[string]string{}
	if SameOptions(old, want) {
		return kept
	}
	eachServerLine(base, func(backend, line string, s *Server) {
		if s == nil {
			return
		}
		b, _ := want.Backend(backend)
		if !SameOptions(Config{Backends: []Backend{{Name: backend, Servers: []Server{*s}}}}, Config{Backends: []Backend{b}}) {
			kept[backend+"/"+s.Name] = line
		}
	})
	return kept
}

// eachServerLine calls f for every line with the backend it stands in, "" outside of backends,
// and with the server, if it is one that can be changed at run time.
func eachServerLine(text []byte, f func(backend, line string, s *Server)) {
	p := parser{defaults: map[string][]string{}, backends: map[string]int{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		if !p.line(lines.Text()) {
			f(p.backend, lines.Text(), nil)
			continue
		}
		servers := p.config.Backends[p.backends[p.backend]].Servers
		f(p.backend, lines.Text(), &servers[len(servers)-1])
	}
}

type parser struct {
	config    Config
	structure strings.Builder

	section       string
	backend       string              // the backend that the line stands in, or ""
	conditional   int                 // depth of .if blocks: their servers are structure
	defaults      map[string][]string // options of default-server by name of the defaults section
	inDefaults    string              // the section that default-server lines add to
	latest        []string            // options of the latest defaults section
	defaultServer []string            // options that hold for the servers of this section
	backends      map[string]int      // index in config.Backends
}

// line takes one line in and reports whether it is a server that can be changed at run time.
func (p *parser) line(line string) bool {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return false
	}
	words := strings.Fields(line)
	switch {
	case sections[words[0]]:
		p.begin(words)
	case words[0] == ".if":
		p.conditional++
	case words[0] == ".endif":
		p.conditional--
	case words[0] == "bind" && len(words) > 1:
		p.config.Binds = append(p.config.Binds, strings.Split(words[1], ",")...)
	case words[0] == "default-server":
		p.addDefaults(words[1:])
	case words[0] == "server" && p.server(line):
		return true
	}
	p.structure.WriteString(line)
	p.structure.WriteByte('\n')
	return false
}

func (p *parser) begin(words []string) {
	p.section, p.backend, p.inDefaults = words[0], "", ""
	name := ""
	if len(words) > 1 {
		name = words[1]
	}
	inherited := p.latest
	if i := slices.Index(words, "from"); i > 0 && i+1 < len(words) {
		inherited = p.defaults[words[i+1]]
	}
	switch p.section {
	case "defaults":
		p.latest = nil
		if slices.Contains(words, "from") {
			p.latest = slices.Clone(inherited)
		}
		p.inDefaults = name
		p.defaults[name] = p.latest
	case "backend", "listen":
		p.backend = name
		p.defaultServer = slices.Clone(inherited)
		if _, known := p.backends[name]; !known {
			p.backends[name] = len(p.config.Backends)
			p.config.Backends = append(p.config.Backends, Backend{Name: name})
		}
	}
}

func (p *parser) addDefaults(options []string) {
	switch p.section {
	case "defaults":
		p.latest = append(p.latest, options...)
		p.defaults[p.inDefaults] = p.latest
	case "backend", "listen":
		p.defaultServer = append(p.defaultServer, options...)
	}
}

// server adds the server of a line to its backend, unless it has something that only HAProxy's
// own parser understands.
func (p *parser) server(line string) bool {
	if p.backend == "" || p.conditional > 0 || strings.ContainsAny(line, `"'\$`) {
		return false
	}
	line, _, _ = strings.Cut(line, "#")
	words := strings.Fields(line)
	if len(words) < 3 || !validName(words[1]) {
		return false
	}
	s, err := parseServer(words[1], words[2], p.defaultServer, words[3:])
	if err != nil {
		return false
	}
	b := &p.config.Backends[p.backends[p.backend]]
	if slices.ContainsFunc(b.Servers, func(o Server) bool { return o.Name == s.Name || s.ID != 0 && o.ID == s.ID }) {
		return false
	}
	b.Servers = append(b.Servers, s)
	return true
}

// takesWord lists options whose argument is any word, so that it is not taken for an option.
var takesWord = map[string]bool{
	"cookie": true, "sni": true, "check-sni": true, "redir": true, "track": true,
	"agent-send": true, "crt": true, "ca-file": true, "crl-file": true, "namespace": true,
	"proto": true, "check-proto": true, "alpn": true, "check-alpn": true, "source": true,
}

func parseServer(name, address string, inherited, own []string) (Server, error) {
	addr, err := netip.ParseAddrPort(address)
	if err != nil || addr.Port() == 0 {
		return Server{}, fmt.Errorf("server %s: address %s is not IP:PORT", name, address)
	}
	s := Server{Name: name, Address: addr.Addr(), Port: int(addr.Port()), Weight: 1}
	words := slices.Concat(inherited, own)
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch word := words[i]; {
		case word == "disabled":
			s.Disabled = true
		case word == "enabled":
			s.Disabled = false
		case word == "id":
			s.ID, err = number(next, 1, 1<<31-1)
			i++
		case word == "weight":
			s.Weight, err = number(next, 0, 256)
			i++
		case word == "init-addr" || word == "resolvers" || word == "resolve-prefer":
			i++ // They say how to look a name up; here is an address.
		case takesWord[word]:
			s.Options = append(s.Options, word, next)
			i++
		default:
			s.Options = append(s.Options, word)
		}
		if err != nil {
			return Server{}, fmt.Errorf("server %s: %w", name, err)
		}
	}
	return s, nil
}

func number(word string, least, most int) (int, error) {
	n, err := strconv.Atoi(word)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is not a number from %d to %d", word, least, most)
	}
	return n, nil
}

// validName is HAProxy's invalid_char turned round.
func validName(name string) bool {
	return name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-") == ""
}

// has reports whether the server's line has an option.
func (s Server) has(option string) bool {
	return slices.Contains(s.Options, option)
}

// address is how a server's address stands in a command.
func (s Server) address() string {
	return netip.AddrPortFrom(s.Address, uint16(s.Port)).String()
}
