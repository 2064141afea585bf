package haproxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// live is a server as the worker has it now.
type live struct {
	name    string
	address netip.Addr
	port    int
	id      int
	weight  int
	maint   bool // gets no requests at all
	drain   bool // gets only requests of known clients
	age     int  // seconds since its state changed last
	check   int  // state bits of its health check
	agent   int  // state bits of its agent check

	leaving // what is to come of it, when it gets no requests
}

// leaving is how a server ends that gets no requests any more.
type leaving struct {
	listed bool          // in the file, so that it stays when it is idle
	limit  time.Duration // after which what it still has is closed; 0 for never
}

// Bits of srv_admin_state, srv_check_state and srv_agent_state (management guide, "show servers
// state").
const (
	adminMaint   = 0x01 | 0x02 | 0x20 // forced, inherited from a tracked server, by name resolution
	adminDrain   = 0x08 | 0x10
	checkSet     = 0x02
	checkEnabled = 0x04
)

// plan is what makes a worker's servers equal to the file's. The order loses no request: what
// takes requests comes first, what no longer takes them last.
type plan struct {
	serve   []string
	retire  []string
	garbage []live // retired before: to be deleted, or to be watched until they are idle
}

func (p plan) empty() bool { return len(p.serve) == 0 && len(p.retire) == 0 }

// diff compares the servers of one backend.
//
//	file \ worker | absent               | ready               | maintenance
//	ready         | add, ready           | address, weight     | address, weight, ready
//	disabled      | add                  | maint               | address, weight; garbage where Drain limits it
//	absent        | –                    | maint               | garbage: delete when idle
func diff(want Backend, have []live) plan {
	var p plan
	at := make(map[string]live, len(have))
	for _, l := range have {
		at[l.name] = l
	}
	wanted := make(map[string]bool, len(want.Servers))
	for _, s := range want.Servers {
		wanted[s.Name] = true
		l, known := at[s.Name]
		if !known {
			id := s.ID
			if id == 0 {
				id = freeID(want, have, s.Name)
			}
			p.serve = append(p.serve, add(want.Name, s, id)...)
			continue
		}
		if s.ID != 0 && s.ID != l.id {
			// An id cannot be changed, and consistent hashing needs the file's.
			p.serve = append(p.serve, "del server "+want.Name+"/"+s.Name)
			p.serve = append(p.serve, add(want.Name, s, s.ID)...)
			continue
		}
		p.change(want.Name+"/"+s.Name, s, l)
		if s.Disabled && l.maint && want.Drain > 0 {
			l.leaving = leaving{listed: true, limit: want.Drain}
			p.garbage = append(p.garbage, l)
		}
	}
	for _, l := range have {
		switch {
		case wanted[l.name], slices.Contains(want.Fixed, l.name):
		case l.maint:
			l.limit = want.Drain
			p.garbage = append(p.garbage, l)
		default:
			p.retire = append(p.retire, "set server "+want.Name+"/"+l.name+" state maint")
		}
	}
	return p
}

// add returns the commands for a new server. It comes up in maintenance and without checks.
func add(backend string, s Server, id int) []string {
	name := backend + "/" + s.Name
	words := []string{"add server", name, s.address(), "id", strconv.Itoa(id), "weight", strconv.Itoa(s.Weight)}
	commands := []string{strings.Join(append(words, escape(s.Options)...), " ")}
	if s.has("check") {
		commands = append(commands, "enable health "+name)
	}
	if s.has("agent-check") {
		commands = append(commands, "enable agent "+name)
	}
	if !s.Disabled {
		commands = append(commands, "set server "+name+" state ready")
	}
	return commands
}

func (p *plan) change(name string, s Server, l live) {
	if s.Address != l.address || s.Port != l.port {
		p.serve = append(p.serve, fmt.Sprintf("set server %s addr %s port %d", name, s.Address, s.Port))
	}
	if s.Weight != l.weight {
		p.serve = append(p.serve, fmt.Sprintf("set server %s weight %d", name, s.Weight))
	}
	if s.has("check") && l.check&checkSet != 0 && l.check&checkEnabled == 0 {
		p.serve = append(p.serve, "enable health "+name)
	}
	if s.has("agent-check") && l.agent&checkSet != 0 && l.agent&checkEnabled == 0 {
		p.serve = append(p.serve, "enable agent "+name)
	}
	switch {
	case s.Disabled && !l.maint:
		p.retire = append(p.retire, "set server "+name+" state maint")
	case !s.Disabled && (l.maint || l.drain):
		p.serve = append(p.serve, "set server "+name+" state ready")
	}
}

// freeID picks an id for a server whose line has none: without one it may get no requests.
func freeID(b Backend, have []live, name string) int {
	taken := map[int]bool{}
	for _, s := range b.Servers {
		taken[s.ID] = true
	}
	for _, l := range have {
		taken[l.id] = true
	}
	id := 1
	for _, c := range []byte(name) {
		id = (id*31 + int(c)) % (1 << 20)
	}
	for id == 0 || taken[id] {
		id = (id + 1) % (1 << 20)
	}
	return id
}

// escape makes words fit for a command line, where a backslash quotes.
func escape(words []string) []string {
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = strings.NewReplacer(`\`, `\\`, ` `, `\ `, `;`, `\;`, `<`, `\<`).Replace(word)
	}
	return out
}

// servers asks for the servers of one backend, or of all with "".
func (c *Conn) servers(ctx context.Context, backend string) (map[string][]live, error) {
	answer, err := c.Ask(ctx, strings.TrimSpace("show servers state "+backend))
	if err != nil {
		return nil, err
	}
	return parseServers(answer)
}

func parseServers(answer string) (map[string][]live, error) {
	version, rest, found := strings.Cut(answer, "\n")
	if !found || strings.TrimSpace(version) != "1" {
		return nil, fmt.Errorf("read haproxy's servers: version line %q, expected 1", version)
	}
	titles, rest, _ := strings.Cut(rest, "\n")
	column := map[string]int{}
	for i, name := range strings.Fields(strings.TrimPrefix(titles, "#")) {
		column[name] = i
	}
	for _, name := range []string{"be_name", "srv_name", "srv_id", "srv_addr", "srv_port", "srv_uweight", "srv_admin_state"} {
		if _, known := column[name]; !known {
			return nil, fmt.Errorf("read haproxy's servers: no column %s in %q", name, titles)
		}
	}
	numbers := numbersOf(column)
	servers := map[string][]live{}
	var fields []string
	for line := range strings.Lines(rest) {
		fields = slices.AppendSeq(fields[:0], strings.FieldsSeq(line))
		if len(fields) == 0 {
			continue
		}
		if len(fields) < len(column) {
			return nil, fmt.Errorf("read haproxy's servers: line %q is short", line)
		}
		l, err := parseLive(fields, column, numbers)
		if err != nil {
			return nil, fmt.Errorf("read haproxy's servers: line %q: %w", line, err)
		}
		backend := fields[column["be_name"]]
		servers[backend] = append(servers[backend], l)
	}
	return servers, nil
}

// numberColumn is a column with a number in it.
type numberColumn struct {
	index int
	of    func(l *live, admin *int) *int
}

// numbersOf finds the columns with numbers that this HAProxy has.
func numbersOf(column map[string]int) []numberColumn {
	var list []numberColumn
	for name, of := range map[string]func(l *live, admin *int) *int{
		"srv_id":                     func(l *live, _ *int) *int { return &l.id },
		"srv_port":                   func(l *live, _ *int) *int { return &l.port },
		"srv_uweight":                func(l *live, _ *int) *int { return &l.weight },
		"srv_admin_state":            func(_ *live, admin *int) *int { return admin },
		"srv_time_since_last_change": func(l *live, _ *int) *int { return &l.age },
		"srv_check_state":            func(l *live, _ *int) *int { return &l.check },
		"srv_agent_state":            func(l *live, _ *int) *int { return &l.agent },
	} {
		if i, known := column[name]; known {
			list = append(list, numberColumn{i, of})
		}
	}
	return list
}

func parseLive(fields []string, column map[string]int, numbers []numberColumn) (live, error) {
	l := live{name: fields[column["srv_name"]]}
	l.address, _ = netip.ParseAddr(fields[column["srv_addr"]]) // "-" for a unix socket
	admin := 0
	for _, c := range numbers {
		n, err := strconv.Atoi(fields[c.index])
		if err != nil {
			return live{}, fmt.Errorf("column %d: %w", c.index+1, err)
		}
		*c.of(&l, &admin) = n
	}
	l.maint, l.drain = admin&adminMaint != 0, admin&adminDrain != 0
	return l, nil
}

// SameOptions reports whether every server that both files have is written with the same
// options and id: no runtime command can change those.
func SameOptions(a, b *Config) bool {
	same := true
	changed(a, b, func(before, now *section) {
		if before == nil {
			return
		}
		for _, s := range now.servers {
			i := slices.IndexFunc(before.servers, func(o Server) bool { return o.Name == s.Name })
			same = same && (i < 0 || before.servers[i].alike(s))
		}
	})
	return same
}

// Touched returns what of want has to be looked at after a worker was last seen equal to have.
func Touched(have, want *Config) []Backend {
	var touched []Backend
	changed(have, want, func(before, now *section) {
		if before == nil || before.drain != now.drain || !slices.EqualFunc(before.servers, now.servers, Server.equal) {
			touched = append(touched, Backend{Name: now.name, Servers: now.servers, Fixed: now.fixed, Drain: now.drain})
		}
	})
	return touched
}

// changed calls f for the backends of b that are not plainly the same section as in a, with that
// of the same name in a, if there is one. What stands in front of the first difference and behind
// the last one is passed over.
func changed(a, b *Config, f func(before, now *section)) {
	have, want := a.sections, b.sections
	for len(have) > 0 && len(want) > 0 && have[0] == want[0] {
		have, want = have[1:], want[1:]
	}
	for len(have) > 0 && len(want) > 0 && have[len(have)-1] == want[len(want)-1] {
		have, want = have[:len(have)-1], want[:len(want)-1]
	}
	before := make(map[string]*section, len(have))
	for _, s := range have {
		if s.backend {
			before[s.name] = s
		}
	}
	for _, s := range want {
		if s.backend && before[s.name] != s {
			f(before[s.name], s)
		}
	}
}

// alike reports whether two server lines differ only in what commands can change.
func (s Server) alike(o Server) bool {
	return s.ID == o.ID && slices.Equal(s.Options, o.Options)
}

func (s Server) equal(o Server) bool {
	return s.alike(o) && s.Name == o.Name && s.Address == o.Address && s.Port == o.Port &&
		s.Weight == o.Weight && s.Disabled == o.Disabled
}
