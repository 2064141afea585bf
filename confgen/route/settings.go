package route

// Settings are what the operator, not a label, decides. The zero value means: labels start with
// "fairway", and there is one entrypoint, web on port 80.
type Settings struct {
	Prefix      string       // first word of routing labels; "" for DefaultPrefix
	Entrypoints []Entrypoint // none for web on port 80
	Proxy       Proxy        // what the table is for: labels that it cannot follow are problems

	// Instance is the name of this front end. Routes whose label instance names others are not
	// its own; "" is a front end that has no name and serves only routes that name none.
	Instance string

	// Certificates are those of the operator's store; nil where there is none.
	Certificates *Certificates

	TCPPorts  []PortRange // that the label tcp may name
	NoStreams string      // why the proxy cannot pass streams on; "" when it can

	// SystemAuthorities reports whether the authorities that everybody trusts are known, to verify
	// servers by.
	SystemAuthorities bool

	UserLists []string // names that the label auth may give
	PageSets  []string // names that the label errors may give
	Snippets  []string // services whose labels may hold raw lines of configuration; "*" for all

	// NoLastResort leaves a backend whose every instance is failing without a ready server.
	// By default such a backend keeps sending to those still registered rather than to nobody.
	NoLastResort bool

	// Panic is the percentage of a backend's instances, without those in maintenance, that must
	// be passing for their checks to be believed. Below it all of them get requests, and the
	// proxy's own checks decide. 0 for the last resort alone: only when none is passing.
	Panic int
}

// DefaultPrefix is the first word of routing labels unless the operator chose another.
const DefaultPrefix = "fairway"

// Owner is the service meta key by which registrator marks its rows; its value is
// "<12 hexadecimal digits of the container id>:<container port>/<protocol>".
const Owner = "fairway-container"

func (s Settings) withDefaults() Settings {
	if s.Prefix == "" {
		s.Prefix = DefaultPrefix
	}
	if len(s.Entrypoints) == 0 {
		s.Entrypoints = []Entrypoint{{Name: "web", Port: 80}}
	}
	return s
}

// defaultEntrypoints are those of a route that names none: web and websecure where they exist,
// every entrypoint where neither does.
func (s Settings) defaultEntrypoints() []string {
	var known, all []string
	for _, e := range s.Entrypoints {
		all = append(all, e.Name)
		if e.Name == "web" || e.Name == "websecure" {
			known = append(known, e.Name)
		}
	}
	if len(known) == 0 {
		return sortedUnique(all)
	}
	return sortedUnique(known)
}
