package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// errNotYet is the state of a condition that nobody has set.
var errNotYet = errors.New("not yet")

// readiness is the sum of named conditions and serves /readyz.
type readiness struct {
	log hclog.Logger

	mu         sync.Mutex
	conditions []*Condition
	stopping   bool
}

// Condition is one thing that must hold for the program to be ready.
type Condition struct {
	name  string
	ready *readiness
	err   error
}

// Condition adds a condition that does not hold yet.
func (d *Daemon) Condition(name string) *Condition {
	c := &Condition{name: name, ready: &d.ready, err: errNotYet}
	d.ready.mu.Lock()
	defer d.ready.mu.Unlock()
	d.ready.conditions = append(d.ready.conditions, c)
	return c
}

// Set says that the condition holds (nil) or why it does not. A change from holding to not
// holding, or back, is logged once; repeating it says nothing.
func (c *Condition) Set(err error) {
	c.ready.mu.Lock()
	defer c.ready.mu.Unlock()
	before := c.err
	c.err = err
	switch {
	case err == nil && before != nil:
		c.ready.log.Info("ready", "condition", c.name)
	case err != nil && (before == nil || errors.Is(before, errNotYet)):
		c.ready.log.Warn("not ready, trying again until it is", "condition", c.name, "err", err)
	}
}

// Show is Set for callers that know better what to log of a change.
func (c *Condition) Show(err error) {
	c.ready.mu.Lock()
	defer c.ready.mu.Unlock()
	c.err = err
}

// Remove takes the condition away: what it was of is no part of the program any more.
func (c *Condition) Remove() {
	c.ready.mu.Lock()
	defer c.ready.mu.Unlock()
	c.ready.conditions = slices.DeleteFunc(c.ready.conditions, func(other *Condition) bool { return other == c })
}

func (r *readiness) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
}

// Ready reports whether every condition holds, with a line for each condition, as /readyz does.
func (d *Daemon) Ready() (bool, string) { return d.ready.state() }

// ServeHTTP answers 200 when every condition holds, else 503, with a line for each condition.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	ok, text := r.state()
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text)
}

func (r *readiness) state() (bool, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok := !r.stopping
	for _, c := range r.conditions {
		ok = ok && c.err == nil
	}
	var out strings.Builder
	if r.stopping {
		fmt.Fprintln(&out, "stopping")
	}
	for _, c := range r.conditions {
		state := "ok"
		if c.err != nil {
			state = c.err.Error()
		}
		fmt.Fprintf(&out, "%s: %s\n", c.name, state)
	}
	return ok, out.String()
}
