package haproxy

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parser reads the lines of one section.
type parser struct {
	*section
	reader        *Reader
	kind          string
	structure     strings.Builder
	defaultServer []string // options that hold for the servers of this section
}

// parse reads a section whose first line begins it; only the beginning of a file may be without
// such a line.
func (r *Reader) parse(within surroundings, text string, f func(line string, s *Server)) *section {
	p := parser{reader: r, section: &section{text: text, within: within, depth: within.depth}}
	if within.inherited != "" {
		p.defaultServer = strings.Split(within.inherited, "\x00")
	}
	first := true
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		server := p.line(line, first)
		first = false
		switch {
		case f == nil:
		case server:
			f(line, &p.servers[len(p.servers)-1])
		default:
			f(line, nil)
		}
	}
	if p.kind == "defaults" {
		p.defaults = p.defaultServer
	}
	p.servers = slices.Clone(p.servers) // exactly as many: there are 50,000, which stay
	if p.structure.Len() > 0 {
		p.digest = sha256.Sum256([]byte(p.structure.String()))
	}
	return p.section
}

// line takes one line in and reports whether it is a server that can be changed at run time.
func (p *parser) line(line string, first bool) bool {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		p.comment(line)
		return false
	}
	words := strings.Fields(line)
	switch {
	case first && begins([]byte(words[0])):
		p.begin(words)
	case words[0] == ".if":
		p.depth++
	case words[0] == ".endif":
		p.depth--
	case words[0] == "bind" && len(words) > 1:
		p.binds = append(p.binds, strings.Split(words[1], ",")...)
	case words[0] == "default-server" && (p.backend || p.kind == "defaults"):
		p.defaultServer = append(p.defaultServer, words[1:]...)
	case words[0] == "server" && p.server(line):
		return true
	case words[0] == "server" && len(words) > 1:
		p.fixed = append(p.fixed, words[1])
	}
	p.structure.WriteString(line)
	p.structure.WriteByte('\n')
	return false
}

// comment takes in what HAProxy has no word for: `# drain 30s`, in a backend, is how long a server
// may go on with what it has once it gets nothing new.
func (p *parser) comment(line string) {
	words := strings.Fields(line)
	if !p.backend || len(words) != 3 || words[0] != "#" || words[1] != "drain" {
		return
	}
	if d, err := time.ParseDuration(words[2]); err == nil && d > 0 {
		p.drain = d
	}
}

func (p *parser) begin(words []string) {
	p.kind = words[0]
	p.backend = p.kind == "backend" || p.kind == "listen"
	if len(words) > 1 {
		p.name = words[1]
	}
}

// server adds the server of a line to its backend, unless it has something that only HAProxy's
// own parser understands.
func (p *parser) server(line string) bool {
	if !p.backend || p.depth > 0 || strings.ContainsAny(line, `"'\$`) {
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
	if slices.ContainsFunc(p.servers, func(o Server) bool { return o.Name == s.Name || s.ID != 0 && o.ID == s.ID }) {
		return false
	}
	s.Options = p.reader.intern(s.Options)
	p.servers = append(p.servers, s)
	return true
}

// intern returns equal options, kept once.
func (r *Reader) intern(options []string) []string {
	if len(options) == 0 {
		return nil
	}
	key := strings.Join(options, " ")
	if known, found := r.options[key]; found && slices.Equal(known, options) {
		return known
	}
	if r.options == nil {
		r.options = map[string][]string{}
	}
	r.options[key] = slices.Clip(options)
	return r.options[key]
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
	words := own
	if len(inherited) > 0 {
		words = slices.Concat(inherited, own)
	}
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
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > ':') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return name != ""
}
