package route

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

// Build turns a snapshot into the table that a proxy follows. It never fails: what a label asks
// for and cannot have is a Problem, and the rest of the service, and everybody else, is routed.
// The order of services and instances in the snapshot changes nothing. The table shares no
// memory with the snapshot except strings.
func Build(s Snapshot, set Settings) Table { return NewIncremental(set).Build(s) }

func (b *builder) build(s Snapshot) Table {
	services := b.read(s)
	b.selectPorts(services)
	for i := range services {
		services[i].backend = b.unique(safeName(services[i].name))
	}
	b.shareTLS()
	for i := range services {
		if !b.again(&services[i]) {
			b.make(&services[i])
		}
	}
	routes := b.settle(b.helpers(b.admit(b.pools(b.claims))))
	routes, streams := b.streams(routes)
	handshakes := b.handshakes(routes)
	sortProblems(b.problems)
	slices.SortFunc(b.backends, func(x, y Backend) int { return cmp.Compare(x.Name, y.Name) })
	numberBackends(b.backends)
	return Table{
		Entrypoints: slices.Clone(b.set.Entrypoints),
		Routes:      routes,
		Backends:    b.backends,
		Streams:     streams,
		Problems:    slices.Compact(b.problems),
		Foreign:     sortForeign(b.foreign),
		Store:       b.set.Certificates != nil,
		Handshakes:  handshakes,
		Certificate: b.parser.fallbackCertificate(),
	}
}

// builder works out one table.
type builder struct {
	memory   *Incremental
	set      Settings
	parser   *parser
	names    map[string]bool // backend names given out
	backends []Backend
	claims   []Route
	variants map[string][]variant // by group
	pooling  int                  // how many variants there are
	shared   map[string]bool      // backends of detours that services share
	problems []Problem
	foreign  []Foreign
	own      *made // of the service that is being made
}

func (b *builder) problem(p Problem) { b.problems = append(b.problems, p) }

// candidate is an instance that carries routing labels.
type candidate struct {
	in        *Instance
	service   string
	addr      netip.Addr
	labels    *parsed
	container string // from the owner mark; "" for services registered by hand
	port      int    // the container's port, or the instance's own where there is no mark
	udp       bool   // or anything else that carries no HTTP
	barred    []string
}

type service struct {
	name       string
	backend    string // the name of its first backend, and the beginning of all others'
	candidates []candidate
	part       *part
}

// read parses every instance that is not known yet once, in an order of its own, and reports what
// is wrong with single labels and addresses.
func (b *builder) read(s Snapshot) []service {
	order := make([]*Service, len(s.Services))
	for i := range s.Services {
		order[i] = &s.Services[i]
	}
	slices.SortStableFunc(order, func(x, y *Service) int { return cmp.Compare(x.Name, y.Name) })
	overrides := b.overrides(s)
	services := make([]service, 0, len(order))
	for len(order) > 0 {
		name, n := order[0].Name, 1
		for n < len(order) && order[n].Name == name {
			n++
		}
		p := b.part(order[:n], overrides[name])
		b.problems = append(b.problems, p.problems...)
		b.foreign = append(b.foreign, p.foreign...)
		if len(p.candidates) > 0 {
			services = append(services, service{name: name, candidates: p.candidates, part: p})
		}
		order = order[n:]
	}
	b.memory.forget()
	return services
}

// part reads the instances of one service, unless they are known.
func (b *builder) part(of []*Service, settings []setting) *part {
	name := of[0].Name
	p := b.memory.parts[name]
	if len(of) > 1 || !p.follows(of[0].Instances, settings) {
		p = b.readPart(of, settings)
		b.memory.keep(name, p)
	}
	p.run = b.memory.run
	return p
}

func (b *builder) readPart(of []*Service, settings []setting) *part {
	name := of[0].Name
	var instances []*Instance
	for _, s := range of {
		instances = slices.Grow(instances, len(s.Instances))
		for i := range s.Instances {
			instances = append(instances, &s.Instances[i])
		}
	}
	slices.SortFunc(instances, compareInstances)
	p := &part{instances: of[0].Instances, settings: settings, lasting: len(of) == 1}
	before, abroad := len(b.problems), len(b.foreign)
	p.candidates = b.readInstances(name, instances, settings)
	for i := range p.candidates {
		c := &p.candidates[i]
		if c.container == "" {
			b.selectOne(c)
		}
		p.asks = p.asks || c.container != "" && (c.udp || c.named())
		p.lasting = p.lasting && !slices.ContainsFunc(c.labels.wishes, (*wish).helped)
	}
	p.problems = slices.Clone(b.problems[before:])
	b.problems = b.problems[:before]
	p.foreign = slices.Clone(b.foreign[abroad:])
	b.foreign = b.foreign[:abroad]
	return p
}

// helped reports whether a wish names other services, whose backends its options then name too.
func (w *wish) helped() bool {
	return w.options != nil && (w.options.ForwardAuth != nil || w.options.Mirror != nil)
}

func compareInstances(x, y *Instance) int {
	return cmp.Or(cmp.Compare(x.ID, y.ID), cmp.Compare(x.Node, y.Node), cmp.Compare(x.Created, y.Created),
		cmp.Compare(x.Address, y.Address), cmp.Compare(x.Port, y.Port))
}

func (b *builder) readInstances(name string, instances []*Instance, settings []setting) []candidate {
	b.parser.service = name
	var variants []*parsed
	said := make(said)
	var list []candidate
	var silent []*Instance
	for _, in := range instances {
		own := forInstance(settings, in.ID)
		i := slices.IndexFunc(variants, func(v *parsed) bool {
			return b.parser.sameLabels(v.of, in) && slices.Equal(v.settings, own)
		})
		if i < 0 {
			i = len(variants)
			variants = append(variants, b.parser.parse(in, own))
			b.foreign = append(b.foreign, b.parser.foreign(name, variants[i])...)
		}
		labels := variants[i]
		if len(labels.problems) > 0 {
			for _, p := range labels.problems {
				b.perInstance(said, name, in.ID, p)
			}
		}
		if len(labels.wishes) == 0 {
			if labels.silent {
				silent = append(silent, in)
			}
			continue
		}
		addr, fault := address(in)
		if fault != "" {
			b.problem(Problem{Service: name, Instance: in.ID, Key: "address", Reason: fault + "; the instance gets no requests"})
		}
		c := candidate{in: in, service: name, addr: addr, labels: labels, port: in.Port}
		c.container, c.port, c.udp = owner(in)
		if list == nil {
			list = make([]candidate, 0, len(instances))
		}
		list = append(list, c)
	}
	if len(list) > 0 {
		for _, in := range silent {
			if meansAnotherPort(in, list) {
				continue
			}
			b.perInstance(said, name, in.ID, Problem{
				Key:    b.parser.name + ".host",
				Reason: "carries no routing label, but other instances of the service do; it gets no requests",
			})
		}
	}
	return list
}

// meansAnotherPort reports whether an instance without routing labels is so on purpose: it is no
// TCP port, or another port of its container is the one that carries them.
func meansAnotherPort(in *Instance, list []candidate) bool {
	container, _, udp := owner(in)
	return udp || container != "" && slices.ContainsFunc(list, func(c candidate) bool { return c.container == container })
}

// perInstance reports a problem for the first instance that has it and counts the others.
// said remembers problems that several instances have, to say each once.
type said map[Problem]int

func (b *builder) perInstance(said said, service, instance string, p Problem) {
	at, again := said[p]
	if !again {
		said[p] = len(b.problems)
		b.problem(Problem{Service: service, Instance: instance, Key: p.Key, Reason: p.Reason})
		return
	}
	b.problems[at].Instance = andMore(b.problems[at].Instance)
}

func sortProblems(list []Problem) {
	slices.SortFunc(list, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Service, y.Service), cmp.Compare(x.Instance, y.Instance), cmp.Compare(x.Key, y.Key), cmp.Compare(x.Reason, y.Reason))
	})
}

// quote shows a value in a problem: on one line, and cut where it would fill the page.
func quote(s string) string {
	const most = 120
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:most]) + "…"
}
