package catalog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"fairway/internal/consul"
	"fairway/internal/testbed"
	"fairway/registrator/service"
)

func TestRemember_whatAHintSays(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(name string, d time.Duration) written { return written{name, now.Add(-d)} }
	many := func(prefix string, n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("%s%d", prefix, i))
		}
		return names
	}
	var before []written
	for _, name := range many("old", 40) {
		before = append(before, ago(name, time.Second))
	}
	huge := strings.Repeat("x", hintBytes-3)
	for what, c := range map[string]struct {
		recent []written
		now    []string
		want   []string
	}{
		"nothing before":                   {nil, []string{"web", "api"}, []string{"web", "api"}},
		"newest first":                     {[]written{ago("b", time.Second), ago("a", 1999*time.Millisecond)}, []string{"c"}, []string{"c", "b", "a"}},
		"what is older is forgotten":       {[]written{ago("b", time.Second), ago("a", 2*time.Second)}, []string{"c"}, []string{"c", "b"}},
		"each once, where it is newest":    {[]written{ago("b", time.Second), ago("a", time.Second)}, []string{"a", "c", "a"}, []string{"a", "c", "b"}},
		"no more than 64, the oldest go":   {before, many("new", 60), append(many("new", 60), many("old", 4)...)},
		"names too long for all of them":   {[]written{ago("before", 0)}, []string{huge, "four", "one"}, []string{huge, "one"}},
		"a clock that was set back":        {[]written{ago("b", -time.Hour)}, []string{"c"}, []string{"c", "b"}},
		"nothing now, and all is long ago": {[]written{ago("b", time.Hour)}, nil, nil},
	} {
		var got []string
		for _, w := range remember(c.recent, c.now, now) {
			got = append(got, w.name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	if before[0].name != "old0" || len(before) != 40 {
		t.Errorf("what was given has changed: %v", before)
	}
}

// hinted returns the services that stand at our node's key.
func (f *fakeConsul) hinted() []string {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.keys[consul.HintKey("hostname")]
	if p == nil {
		return nil
	}
	h, err := consul.ReadHint(p.Value)
	if err != nil || h.Node != "hostname" {
		f.t.Errorf("%+v, %v", h, err)
	}
	return h.After(time.Time{})
}

func (f *fakeConsul) hints(what string, want ...string) {
	f.t.Helper()
	if got := f.hinted(); !slices.Equal(got, want) {
		f.t.Errorf("%s: the hint names %q, want %q", what, got, want)
	}
}

// TestApply_hint follows one node's hint through all that it writes.
func TestApply_hint(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	forget := func() { c.hints.recent = nil } // as two seconds do
	done(t, c, plan())
	if f.hints("the node alone"); f.take() != "2" {
		t.Error("the node alone is not two operations")
	}
	done(t, c, plan("a", "b"))
	f.hints("two rows", "a", "b")
	done(t, c, plan("a", "b", "c"))
	f.hints("and one more, at once", "a", "b", "c")
	forget()
	done(t, c, plan("a", "c"))
	f.hints("a row that goes", "b")
	forget()
	renamed := plan("a", "c")
	renamed.Registrations[0].Name = "z"
	done(t, c, renamed)
	f.hints("a row of another name", "a", "z")

	f.take()
	for range 5 {
		done(t, c, renamed)
	}
	if got := f.take(); got != "" {
		t.Errorf("C94: passes without a change wrote %q", got)
	}

	done(t, c, plan("a", "c"))
	value := func() (v string) {
		f.with(func() { v = string(f.keys[consul.HintKey("hostname")].Value) })
		return v
	}
	var before string
	for _, port := range []int{1, 2} {
		forget()
		before = value()
		again := plan("a", "c")
		again.Registrations[1].Port = port
		done(t, c, again)
		f.hints("the same service", "c")
	}
	if value() == before {
		t.Error("the same services twice are the same value, which Consul tells nobody of")
	}
}

// TestApply_hintOfARefusedRow leaves rows that Consul does not take out of the memory.
func TestApply_hintOfARefusedRow(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	f.refuse["hostname:b:80"] = 1 << 30
	done(t, c, plan("a", "b"))
	f.hints("without the refused row", "a")
}

// TestApply_hintOfTaggedAddresses lets the next transaction name what none could carry.
func TestApply_hintOfTaggedAddresses(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, bothFamilies(plan("a")))
	f.hints("a row that is no transaction")
	p := bothFamilies(plan("a"))
	p.Registrations = append(p.Registrations, row("b"))
	done(t, c, p)
	f.hints("the transaction after it", "a", "b")
}

// TestApply_noHintCostsNoRow takes the right to write hints away, and gives it back.
func TestApply_noHintCostsNoRow(t *testing.T) {
	f := newFakeConsul(t)
	log := &testbed.Log{}
	c := f.clientOf(func(o *Options) { o.Log = hclog.New(&hclog.LoggerOptions{Output: log}) })
	f.refuse[hintID], f.refuse["hostname:bad:80"] = 1<<30, 1
	if r := done(t, c, plan("a", "bad")); r.Written != 2 || r.Txns != 2 || len(r.Refused) != 1 || r.Refused[0].ID != "hostname:bad:80" {
		t.Errorf("refused together with a row: %+v", r)
	}
	f.holds("a")
	if got := f.take(); got != "7 4" {
		t.Errorf("transactions of %s operations", got)
	}
	untilWritten(t, c, plan("a", "bad"))
	done(t, c, plan("a", "b", "bad"))
	f.holds("a", "b", "bad")
	f.hints("refused")
	if got := f.take(); got != "2 2" {
		t.Errorf("transactions of %s operations, while hints are left out", got)
	}
	if log.Count("[WARN]") != 1 || log.Count(strconv.Quote(hintRule)) != 1 || log.Count("Permission denied") != 1 {
		t.Errorf("not told once, with the rule that is missing:\n%s", log)
	}

	c.hints.until = time.Now() // as ten minutes do
	if r := done(t, c, plan("b", "bad")); r.Written != 1 || r.Txns != 2 {
		t.Errorf("tried again and refused again: %+v", r)
	}
	if c.hints.until.Before(time.Now().Add(hintRetry - time.Minute)) {
		t.Errorf("the next try is in %s", time.Until(c.hints.until))
	}
	f.with(func() { f.refuse[hintID] = 0 })
	c.hints.until = time.Now()
	done(t, c, plan("bad"))
	if got := f.hinted(); !slices.Contains(got, "b") {
		t.Errorf("allowed: the hint names %q", got)
	}
	if log.Count("[WARN]") != 1 || log.Count("told again") != 1 {
		t.Errorf("the end is not told once:\n%s", log)
	}
}

// TestApply_anErrorMayBeTheHints writes the only row, although Consul fails over its hint.
func TestApply_anErrorMayBeTheHints(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan())
	f.fail[hintID] = 1
	if r, err := pass(t, c, plan("a")); err == nil {
		t.Errorf("%+v", r)
	}
	done(t, c, plan("a"))
	f.holds("a")
	f.hints("left out after an error")
	c.hints.until = time.Now() // as a second does
	done(t, c, plan("a", "b"))
	f.hints("written again", "a", "b")
}

// TestHint_room leaves the hint out where a transaction is as large as Consul lets it be.
func TestHint_room(t *testing.T) {
	c := New(nil, Options{Node: service.Node{Name: "hostname"}})
	now := time.Now()
	u := c.put(row("a"))
	if len(c.hint([]unit{u}, now)) != 1 {
		t.Error("an ordinary row has no hint")
	}
	many, heavy := u, u
	for len(many.ops) < maxOps {
		many.ops = append(many.ops, u.ops[1])
	}
	heavy.bytes = maxBytes + 1
	for what, u := range map[string]unit{"64 operations": many, "too many bytes": heavy, "no service": {id: "x", ops: u.ops}} {
		if h := c.hint([]unit{u}, now); h != nil {
			t.Errorf("%s: %+v", what, h)
		}
	}
}
