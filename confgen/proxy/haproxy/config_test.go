package haproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var address = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// structure is the text that Structure is a hash of.
func structure(c *Config) string {
	var b strings.Builder
	for _, s := range c.sections {
		each(c.reader, s, func(line string, s *Server) {
			if line = strings.TrimSpace(line); s == nil && line != "" && line[0] != '#' {
				b.WriteString(line + "\n")
			}
		})
	}
	return b.String()
}

// text is the whole file.
func text(c *Config) string { return strings.Join(c.Pieces(), "") }

// merge merges files that were read by one Reader.
func merge(base, want string) string {
	var r Reader
	return text(r.Read([]byte(base)).Merge(r.Read([]byte(want))))
}

func TestParse_servers(t *testing.T) {
	for name, tt := range map[string]struct {
		text    string
		servers []Server // of the backend "a"
		text2   string   // what remains, when it has to be told
	}{
		"plain":       {"backend a\n  server s 10.0.0.1:80\n", []Server{{Name: "s", Port: 80, Weight: 1}}, "backend a\n"},
		"all":         {"backend a\nserver s 10.0.0.1:80 check id 5 inter 1s weight 7 disabled # note\n", []Server{{Name: "s", Port: 80, Weight: 7, ID: 5, Disabled: true, Options: []string{"check", "inter", "1s"}}}, ""},
		"listen":      {"listen a\nserver s 10.0.0.1:80\n", []Server{{Name: "s", Port: 80, Weight: 1}}, ""},
		"an argument": {"backend a\nserver s 10.0.0.1:80 cookie disabled sni id\n", []Server{{Name: "s", Port: 80, Weight: 1, Options: []string{"cookie", "disabled", "sni", "id"}}}, ""},
		"inherited": {
			"defaults\ndefault-server inter 9s weight 3 init-addr none\nbackend a\ndefault-server check disabled\nserver s 10.0.0.1:80 inter 1s enabled\n",
			[]Server{{Name: "s", Port: 80, Weight: 3, Options: []string{"inter", "9s", "check", "inter", "1s"}}},
			"",
		},
		"named defaults": {
			"defaults x\ndefault-server check\ndefaults y\ndefault-server backup\nbackend a from x\nserver s 10.0.0.1:80\n",
			[]Server{{Name: "s", Port: 80, Weight: 1, Options: []string{"check"}}},
			"",
		},
		"name":              {"backend a\nserver s web.test:80\n", nil, "backend a\nserver s web.test:80\n"},
		"no port":           {"backend a\nserver s 10.0.0.1\n", nil, ""},
		"variable":          {"backend a\nserver s 10.0.0.1:80 weight \"$W\"\n", nil, ""},
		"weight too large":  {"backend a\nserver s 10.0.0.1:80 weight 300\n", nil, ""},
		"odd name":          {"backend a\nserver s/1 10.0.0.1:80\n", nil, ""},
		"conditional":       {"backend a\n.if 1\nserver s 10.0.0.1:80\n.endif\n", nil, ""},
		"twice":             {"backend a\nserver s 10.0.0.1:80\nserver s 10.0.0.2:80\n", []Server{{Name: "s", Port: 80, Weight: 1}}, "backend a\nserver s 10.0.0.2:80\n"},
		"peers are not":     {"backend a\npeers p\nserver s 10.0.0.1:80\n", nil, "backend a\npeers p\nserver s 10.0.0.1:80\n"},
		"comments are not":  {"# x\nbackend a\n\n  # y\n", nil, "backend a\n"},
		"template of names": {"backend a\nserver-template s 3 web.test:80\n", nil, "backend a\nserver-template s 3 web.test:80\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Parse([]byte(tt.text))
			b, known := c.Backend("a")
			for i := range tt.servers {
				tt.servers[i].Address = netip.MustParseAddr("10.0.0.1")
			}
			if diff := cmp.Diff(tt.servers, b.Servers, address); diff != "" || !known {
				t.Errorf("servers:\n%s", diff)
			}
			if got := structure(c); tt.text2 != "" && got != tt.text2 {
				t.Errorf("structure %q, expected %q", got, tt.text2)
			}
		})
	}
}

func TestParse_structureAndBinds(t *testing.T) {
	one := Parse([]byte("frontend f\n  bind :80,:81 ssl\nbackend a\n  balance roundrobin\n  server s 10.0.0.1:80\n"))
	two := Parse([]byte("# changed\nfrontend f\n\tbind :80,:81 ssl\n\nbackend a\n  server t [::1]:81 check\n  balance roundrobin\n"))
	if one.Structure != two.Structure {
		t.Errorf("%q and %q differ in nothing that needs a reload", one.Structure, two.Structure)
	}
	if diff := cmp.Diff([]string{":80", ":81"}, one.Binds); diff != "" {
		t.Error(diff)
	}
	three := Parse([]byte("frontend f\n  bind :80,:82 ssl\nbackend a\n  balance roundrobin\n"))
	if one.Structure == three.Structure {
		t.Error("another bind address is another structure")
	}
}

func TestMerge(t *testing.T) {
	base := "global\n  description old\nbackend a\n  balance first\n  server s1 10.0.0.1:80\n  server s2 10.0.0.2:80\n  server n web.test:80\nbackend b\n  server t1 10.0.0.1:81\nbackend c\n"
	want := "global\n  description new\nbackend a\n  balance random\n  server s2 10.0.0.2:80 weight 5\n  server s3 10.0.0.3:80\nbackend c\n  server u1 10.0.0.1:82\nbackend d\n  server v 10.0.0.1:83\n"
	merged := "global\n  description old\nbackend a\n  balance first\n  server s2 10.0.0.2:80 weight 5\n  server s3 10.0.0.3:80\n  server n web.test:80\nbackend b\n  server t1 10.0.0.1:81\nbackend c\n  server u1 10.0.0.1:82\n"
	if diff := cmp.Diff(merged, merge(base, want)); diff != "" {
		t.Error(diff)
	}
	base2 := "backend a\n  server s1 10.0.0.1:80 check\n  server s2 10.0.0.2:80 check\n"
	want2 := "backend a\n  server s1 10.0.0.1:80 weight 9 check inter 1s\n  server s3 10.0.0.3:80 check inter 1s\n"
	merged2 := "backend a\n  server s1 10.0.0.1:80 check\n  server s3 10.0.0.3:80 check inter 1s\n"
	if diff := cmp.Diff(merged2, merge(base2, want2)); diff != "" {
		t.Error(diff)
	}
	if got := merge(base, base); got != base {
		t.Errorf("a file merged with itself changes:\n%s", got)
	}
}

func TestDiff_table(t *testing.T) {
	server := func(line string) Backend {
		b, _ := Parse([]byte("backend a\n" + line)).Backend("a")
		b.Name = "a"
		return b
	}
	have := func(change ...func(*live)) []live {
		l := live{name: "s", address: netip.MustParseAddr("10.0.0.1"), port: 80, id: 1, weight: 1, check: checkSet | checkEnabled, age: 5}
		for _, f := range change {
			f(&l)
		}
		return []live{l}
	}
	maint := func(l *live) { l.maint = true }
	const line = "server s 10.0.0.1:80 id 1"
	for name, tt := range map[string]struct {
		want          Backend
		have          []live
		serve, retire string
		garbage       int
	}{
		"equal":                 {server(line), have(), "", "", 0},
		"absent":                {server(line + " check"), nil, "add server a/s 10.0.0.1:80 id 1 weight 1 check;enable health a/s;set server a/s state ready", "", 0},
		"absent, disabled":      {server(line + " disabled"), nil, "add server a/s 10.0.0.1:80 id 1 weight 1", "", 0},
		"maintenance ends":      {server(line), have(maint), "set server a/s state ready", "", 0},
		"drained by hand":       {server(line), have(func(l *live) { l.drain = true }), "set server a/s state ready", "", 0},
		"maintenance begins":    {server(line + " disabled"), have(), "", "set server a/s state maint", 0},
		"maintenance stays":     {server(line + " disabled"), have(maint), "", "", 0},
		"weight":                {server(line + " weight 9"), have(), "set server a/s weight 9", "", 0},
		"address":               {server("server s 10.0.0.2:81 id 1"), have(), "set server a/s addr 10.0.0.2 port 81", "", 0},
		"address and back":      {server("server s 10.0.0.2:81 id 1"), have(maint), "set server a/s addr 10.0.0.2 port 81;set server a/s state ready", "", 0},
		"check off by hand":     {server(line + " check"), have(func(l *live) { l.check = checkSet }), "enable health a/s", "", 0},
		"gone from the file":    {server(""), have(), "", "set server a/s state maint", 0},
		"gone and retired":      {server(""), have(maint), "", "", 1},
		"another id":            {server("server s 10.0.0.1:80 id 2"), have(maint), "del server a/s;add server a/s 10.0.0.1:80 id 2 weight 1;set server a/s state ready", "", 0},
		"IPv6 is bracketed":     {server("server s [fd00::1]:80 id 1"), nil, "add server a/s [fd00::1]:80 id 1 weight 1;set server a/s state ready", "", 0},
		"an id where none":      {server("server s 10.0.0.1:80"), nil, "add server a/s 10.0.0.1:80 id 146 weight 1;set server a/s state ready", "", 0},
		"no id, whatever it is": {server("server s 10.0.0.1:80"), have(), "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := diff(tt.want, tt.have)
			if got := strings.Join(p.serve, ";"); got != tt.serve {
				t.Errorf("serve %q, expected %q", got, tt.serve)
			}
			if got := strings.Join(p.retire, ";"); got != tt.retire {
				t.Errorf("retire %q, expected %q", got, tt.retire)
			}
			if len(p.garbage) != tt.garbage {
				t.Errorf("garbage %v, expected %d", p.garbage, tt.garbage)
			}
		})
	}
}

func TestSameOptions(t *testing.T) {
	base := "backend a\nserver s 10.0.0.1:80 id 1 check\n"
	for text, same := range map[string]bool{
		base: true,
		"backend a\nserver s 10.0.0.2:80 id 1 weight 7 check disabled\n":        true,
		"backend a\nserver t 10.0.0.2:80 id 2 backup\n":                         true,
		"backend a\nserver s 10.0.0.1:80 id 1 check inter 9s\n":                 false,
		"backend a\nserver s 10.0.0.1:80 id 2 check\n":                          false,
		"backend b\nserver s 10.0.0.1:80 id 2\n":                                true,
		"defaults\ndefault-server backup\n" + base:                              false,
		"backend a\ndefault-server check\nserver s 10.0.0.1:80 id 1 weight 3\n": true,
	} {
		if got := SameOptions(Parse([]byte(base)), Parse([]byte(text))); got != same {
			t.Errorf("%q: %t, expected %t", text, got, same)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("global\nbackend a\n server s 10.0.0.1:80 id 1\n"), []byte("backend a\n"))
	f.Fuzz(func(t *testing.T, base, want []byte) {
		c := Parse(base)
		if got := text(c); got != string(base) {
			t.Errorf("read %q, of %q", got, base)
		}
		merged := merge(string(base), string(want))
		// Servers never change the structure.
		if got := Parse([]byte(merged)).Structure; got != c.Structure && !strings.ContainsAny(string(base)+string(want), "\r\x00") {
			t.Errorf("merge changed the structure from %q to %q", structure(c), structure(Parse([]byte(merged))))
		}
		// What was read before changes nothing.
		var r Reader
		r.Read(base)
		r.Read([]byte(merged))
		again, fresh := r.Read(want), Parse(want)
		if diff := cmp.Diff(fresh.Backends, again.Backends, address); diff != "" || again.Structure != fresh.Structure {
			t.Errorf("read again, it differs:\n%s", diff)
		}
	})
}

// A Reader keeps what two versions have in common once, and does not grow with what is gone.
func TestReader_sharesAndForgets(t *testing.T) {
	var r Reader
	version := func(n int) *Config {
		var b strings.Builder
		b.WriteString("global\n")
		for i := range 300 {
			fmt.Fprintf(&b, "backend b%d\n  server s 10.0.0.1:%d check\n", i, 1+i*100)
		}
		fmt.Fprintf(&b, "backend changing\n  server s 10.0.0.1:80 weight %d\n", n%257)
		fmt.Fprintf(&b, "# version %d\n", n)
		return r.Read([]byte(b.String()))
	}
	last := version(0)
	for n := 1; n < 2000; n++ {
		now := version(n)
		touched := Touched(last, now)
		if n%257 != 0 && (len(touched) != 1 || touched[0].Name != "changing") {
			t.Fatalf("version %d: touched %v, expected one backend", n, touched)
		}
		if now.sections[5] != last.sections[5] {
			t.Fatalf("version %d shares nothing with the one before", n)
		}
		last = now
	}
	if r.count > 2*(302+spare) {
		t.Errorf("%d sections are remembered for a file of 302", r.count)
	}
}

// A default that changes in front of a backend changes what its equal text means.
func TestReader_surroundings(t *testing.T) {
	var r Reader
	const backend = "backend a\n  server s 10.0.0.1:80\n"
	plain := r.Read([]byte(backend))
	for text, options := range map[string]string{
		"defaults\n  default-server check\n" + backend:                                              "check",
		"defaults x\n  default-server check\ndefaults y from x\n default-server backup\n" + backend: "check backup",
		"defaults x\n  default-server check\ndefaults y\n" + backend:                                "",
	} {
		c := r.Read([]byte(text))
		if got := strings.Join(c.Backends[0].Servers[0].Options, " "); got != options {
			t.Errorf("%q: options %q, expected %q", text, got, options)
		}
		if same := SameOptions(plain, c); same != (options == "") {
			t.Errorf("%q: same options %t", text, same)
		}
	}
	if c := r.Read([]byte(".if 1\n" + backend + ".endif\n")); len(c.Backends[0].Servers) != 0 {
		t.Errorf("a server under a condition is structure: %v", c.Backends)
	}
}
