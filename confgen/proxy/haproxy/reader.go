package haproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Reader reads one version of a configuration file after the other. It knows a section again by
// its text, so that a version costs what differs from the ones before, and versions share the
// memory of what they have in common. With 5,000 backends and one changed, that is all but one.
type Reader struct {
	known   map[surroundings]map[string]*section
	count   int                 // of known sections
	options map[string][]string // options of servers, which are the same nearly everywhere
}

// section is a section of a file, from the line that begins it to the next one, as it reads in its
// surroundings. It is never changed.
type section struct {
	text     string
	within   surroundings
	name     string
	backend  bool // a `backend` or `listen` section
	servers  []Server
	fixed    []string // servers that cannot be changed at run time
	binds    []string
	drain    time.Duration     // see Backend
	defaults []string          // what default-server lines of a `defaults` section come to
	depth    int               // of .if blocks that are open at its end
	digest   [sha256.Size]byte // of its structure, zero if it has none
}

// surroundings is what stands in front of a section and changes how it reads.
type surroundings struct {
	inherited string // options of default-server lines, joined
	depth     int    // of .if blocks
}

// spare is how many sections may be remembered beyond those of the version that was read last.
const spare = 256

// Read reads a configuration file. It never fails: what it does not understand is structure, and
// whether HAProxy understands it is for HAProxy to say. The text is not kept.
func (r *Reader) Read(text []byte) *Config {
	var found []*section
	var latest []string
	named := map[string][]string{}
	depth := 0
	for len(text) > 0 {
		kind, from, end := cut(text)
		inherited := latest
		if from != "" {
			inherited = named[from]
		}
		if kind == "defaults" && from == "" {
			inherited = nil
		}
		s := r.section(surroundings{strings.Join(inherited, "\x00"), depth}, text[:end])
		found = append(found, s)
		if depth = s.depth; kind == "defaults" {
			latest, named[s.name] = s.defaults, s.defaults
		}
		text = text[end:]
	}
	c := r.assemble(found)
	if r.count > len(found)+len(found)/4+spare {
		r.forget(found)
	}
	return c
}

// forget drops all sections but some. Versions that are still in use keep theirs.
func (r *Reader) forget(but []*section) {
	r.known, r.options, r.count = nil, nil, 0
	for _, s := range but {
		r.remember(s)
	}
}

func (r *Reader) remember(s *section) {
	if r.known == nil {
		r.known = map[surroundings]map[string]*section{}
	}
	if r.known[s.within] == nil {
		r.known[s.within] = map[string]*section{}
	}
	if _, known := r.known[s.within][s.text]; !known {
		r.count++
	}
	r.known[s.within][s.text] = s
}

// section returns the section with a text.
func (r *Reader) section(within surroundings, text []byte) *section {
	if s, known := r.known[within][string(text)]; known {
		return s
	}
	s := r.parse(within, string(text), nil)
	r.remember(s)
	return s
}

// cut returns where the first section of a text ends, and what its first line says.
func cut(text []byte) (kind, from string, end int) {
	for begin := 0; begin < len(text); {
		next := len(text)
		if i := bytes.IndexByte(text[begin:], '\n'); i >= 0 {
			next = begin + i + 1
		}
		if word := firstWord(text[begin:next]); begins(word) {
			if begin > 0 {
				return kind, from, begin
			}
			kind, from = string(word), inheritsFrom(text[:next])
		}
		begin = next
	}
	return kind, from, len(text)
}

func firstWord(line []byte) []byte {
	i := 0
	for i < len(line) && isSpace(line[i]) {
		i++
	}
	end := i
	for end < len(line) && (line[end] >= 'a' && line[end] <= 'z' || line[end] == '-') {
		end++
	}
	if end < len(line) && !isSpace(line[end]) {
		return nil // No word of a section goes on like that.
	}
	return line[i:end]
}

func isSpace(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// inheritsFrom returns the name behind "from" on the first line of a section.
func inheritsFrom(line []byte) string {
	if !bytes.Contains(line, []byte("from")) {
		return ""
	}
	words := strings.Fields(string(line))
	if i := slices.Index(words, "from"); i > 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// begins reports whether a word begins a section (configuration manual, chapter 2 and the newer
// ones); any other word belongs to the section it stands in.
func begins(word []byte) bool {
	switch string(word) {
	case "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "mailers",
		"userlist", "cache", "program", "http-errors", "ring", "log-forward", "fcgi-app",
		"crt-store", "traces", "acme", "log-profile":
		return true
	}
	return false
}

// assemble makes a version of sections.
func (r *Reader) assemble(list []*section) *Config {
	c := &Config{reader: r, sections: list, Backends: make([]Backend, 0, len(list))}
	h := sha256.New()
	for _, s := range list {
		if s.digest != ([sha256.Size]byte{}) {
			h.Write(s.digest[:])
		}
		c.Binds = append(c.Binds, s.binds...)
		if s.backend {
			c.Backends = append(c.Backends, Backend{Name: s.name, Servers: s.servers, Fixed: s.fixed, Drain: s.drain})
		}
	}
	c.Structure = hex.EncodeToString(h.Sum(nil))
	return c
}
