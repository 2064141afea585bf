package route

import "slices"

// Incremental builds one table after the other, each as Build would, and works out anew only what
// follows from services that are not what they were. Its tables share memory with each other, so
// nobody may change one. It is not for use by several goroutines at once.
//
// Snapshots are never changed once they are published: the same memory has the same content.
type Incremental struct {
	set     Settings
	parser  *parser
	parts   map[string]*part // by service
	holders map[string]int   // how many candidates each container has
	crowded int              // containers with several
	run     uint64           // of Build
	reused  int              // services that were not worked out again, since the start

	backends, claims int // room for as many as there were, and some
}

// NewIncremental returns an Incremental that remembers nothing yet.
func NewIncremental(set Settings) *Incremental {
	set = set.withDefaults()
	return &Incremental{set: set, parser: newParser(set)}
}

// part is what is known of one service by itself.
type part struct {
	instances  []Instance // as the snapshot holds them
	settings   []setting
	candidates []candidate // nil for a service that is not routed
	problems   []Problem   // of reading it
	foreign    []Foreign   // what other front ends serve of it
	asks       bool        // some route names a port, or some instance is no TCP port
	made       *made       // nil before it has been made
	lasting    bool        // may be used again: nothing in it follows from others
	run        uint64      // of the last use
}

// follows reports whether a part is what would be read again.
func (p *part) follows(instances []Instance, settings []setting) bool {
	return p != nil && p.lasting && len(p.instances) == len(instances) && (len(instances) == 0 || &p.instances[0] == &instances[0]) &&
		slices.Equal(p.settings, settings)
}

// made is what one service adds to a table.
type made struct {
	candidates []candidate // with the routes that they are barred from
	backend    string
	names      []string // of backends that it was given besides
	renamed    bool     // one of its names belongs to somebody else
	backends   []Backend
	shared     []Backend // that it wants to be there, with others
	claims     []Route
	problems   []Problem
}

// Build returns the table of a snapshot.
func (m *Incremental) Build(s Snapshot) Table {
	m.run++
	if len(m.parts) == 0 {
		m.parts, m.holders = make(map[string]*part, len(s.Services)), make(map[string]int, s.size())
	}
	b := &builder{
		memory: m, set: m.set, parser: m.parser, names: make(map[string]bool, len(s.Services)),
		backends: make([]Backend, 0, m.backends), claims: make([]Route, 0, m.claims),
	}
	t := b.build(s)
	m.backends, m.claims = len(b.backends)+len(b.backends)/64, len(b.claims)+len(b.claims)/64
	return t
}

// keep remembers p as the part of a service, in the place of another.
func (m *Incremental) keep(name string, p *part) {
	m.count(m.parts[name], -1)
	m.count(p, 1)
	m.parts[name] = p
}

// forget drops the parts that this run did not use.
func (m *Incremental) forget() {
	for name, p := range m.parts {
		if p.run != m.run {
			m.count(p, -1)
			delete(m.parts, name)
		}
	}
}

// count adds the containers of a part, or takes them away.
func (m *Incremental) count(p *part, by int) {
	if p == nil {
		return
	}
	for i := range p.candidates {
		container := p.candidates[i].container
		if container == "" {
			continue
		}
		before := m.holders[container]
		now := before + by
		switch {
		case before == 1 && now == 2:
			m.crowded++
		case before == 2 && now == 1:
			m.crowded--
		}
		if now == 0 {
			delete(m.holders, container)
		} else {
			m.holders[container] = now
		}
	}
}

// again adds what was made of a service the last time, and reports whether that is still so.
func (b *builder) again(s *service) bool {
	m := s.part.made
	if m == nil || m.renamed || m.backend != s.backend || !sameBarred(m.candidates, s.candidates) ||
		slices.ContainsFunc(m.names, func(name string) bool { return b.names[name] }) {
		return false
	}
	b.memory.reused++
	for _, name := range m.names {
		b.names[name] = true
	}
	for _, to := range m.shared {
		b.share(to.Name, to.Options)
	}
	b.backends = append(b.backends, m.backends...)
	b.claims = append(b.claims, m.claims...)
	b.problems = append(b.problems, m.problems...)
	return true
}

func sameBarred(x, y []candidate) bool {
	return len(x) > 0 && len(x) == len(y) && (&x[0] == &y[0] || slices.EqualFunc(x, y, func(x, y candidate) bool { return slices.Equal(x.barred, y.barred) }))
}

// make adds what follows from a service, and remembers that where it is the service's own doing.
func (b *builder) make(s *service) {
	b.own = &made{candidates: s.candidates, backend: s.backend}
	backends, claims, problems, pooled := len(b.backends), len(b.claims), len(b.problems), b.pooling
	b.service(s)
	m := b.own
	b.own = nil
	if !s.part.lasting || b.pooling != pooled {
		return
	}
	m.claims, m.problems = slices.Clone(b.claims[claims:]), slices.Clone(b.problems[problems:])
	for _, backend := range b.backends[backends:] {
		if !b.shared[backend.Name] {
			m.backends = append(m.backends, backend)
		}
	}
	s.part.made = m
}
