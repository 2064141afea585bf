package catalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// pass makes one pass with a plan. What is known of the catalog after it is what it holds.
func pass(t *testing.T, c *Client, p service.Plan) (Result, error) {
	t.Helper()
	o, err := c.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes := service.Diff(o.Rows, p)
	r, err := c.Apply(t.Context(), o, changes)
	after, certain := o.After(changes, r)
	if err != nil {
		return r, err
	}
	shared := slices.ContainsFunc(p.Registrations, func(row service.Registration) bool { return row.EnableTagOverride })
	if want := len(r.Refused) == 0 && !shared; certain != want {
		t.Errorf("certain of what the catalog holds: %t, after %d refusals, tags for others to set: %t", certain, len(r.Refused), shared)
	}
	if !certain {
		return r, nil
	}
	read, err := c.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !sameRows(after.Rows, read.Rows) || !after.Remembered || after.NodeChange != read.NodeChange || after.exists != read.exists {
		t.Errorf("the catalog holds %+v, and not %+v", read, after)
	}
	return r, nil
}

func sameRows(a, b []service.Registration) bool {
	byID := func(a, b service.Registration) int { return strings.Compare(a.ID, b.ID) }
	return slices.EqualFunc(slices.SortedFunc(slices.Values(a), byID), slices.SortedFunc(slices.Values(b), byID), service.Registration.Equal)
}

func done(t *testing.T, c *Client, p service.Plan) Result {
	t.Helper()
	r, err := pass(t, c, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fakeConsul) holds(names ...string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []string
	for _, s := range f.services {
		got = append(got, s.Service)
		if c := f.checks["service:"+s.ID]; c == nil || c.Status != api.HealthPassing || c.ServiceID != s.ID {
			f.t.Errorf("check of %s: %+v", s.ID, c)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		f.t.Errorf("the catalog holds %q, want %q", got, names)
	}
}

func TestApply_C94_aRoundTripLeavesNothingToDo(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	if r := done(t, c, plan("a", "b")); r.Written != 3 || f.take() != "7" {
		t.Errorf("%+v: node, two rows and a hint are not one transaction of seven operations", r)
	}
	f.holds("a", "b")
	if f.node.Meta["external-source"] != "fairway" || f.node.Meta["fairway-version"] != "v1" || len(f.node.Meta) != 3 {
		t.Errorf("node metadata %v", f.node.Meta)
	}
	for range 5 {
		if r := done(t, c, plan("a", "b")); r.Written != 0 || f.take() != "" {
			t.Fatalf("a pass without a change wrote: %+v", r)
		}
	}
	if r := done(t, c, plan("b")); r.Written != 1 || f.take() != "2" {
		t.Errorf("one deletion: %+v", r)
	}
	f.holds("b")
}

func TestApply_transactionsAreBounded(t *testing.T) {
	f := newFakeConsul(t)
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("s%03d", i))
	}
	done(t, f.clientOf(), plan(names...))
	f.holds(names...)
	if got := f.take(); got != "63 63 63 17" {
		t.Errorf("transactions of %s operations", got)
	}

	big := plan("x", "y", "z")
	for i := range big.Registrations {
		big.Registrations[i].Meta = maps.Clone(big.Registrations[i].Meta)
		big.Registrations[i].Meta["big"] = strings.Repeat("x", 100<<10)
	}
	f = newFakeConsul(t)
	done(t, f.clientOf(), big)
	f.holds("x", "y", "z")
	if got := f.take(); got != "7 3" {
		t.Errorf("transactions of %s operations for rows of 100 KiB each", got)
	}
}

func TestApply_C87_oneRowRefusedOnce(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	f.refuse["hostname:b:80"] = 1
	r := done(t, c, plan("a", "b", "c"))
	f.holds("a", "c")
	if len(r.Refused) != 1 || r.Refused[0].ID != "hostname:b:80" || r.Again <= 0 || r.Again > time.Second {
		t.Fatalf("%+v", r)
	}
	f.take()
	if done(t, c, plan("a", "b", "c")); f.take() != "" {
		t.Error("the refused row was tried again at once")
	}
	untilWritten(t, c, plan("a", "b", "c"))
	f.holds("a", "b", "c")
}

func TestApply_C88_theOnlyRowRefusedOnce(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan())
	f.refuse["hostname:a:80"] = 1
	if r := done(t, c, plan("a")); len(r.Refused) != 1 {
		t.Fatalf("%+v", r)
	}
	untilWritten(t, c, plan("a"))
	f.holds("a")
}

func TestApply_C89_aDeletionRefusedOnce(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan("a"))
	f.refuse["hostname:a:80"] = 1
	done(t, c, plan())
	f.holds("a")
	untilWritten(t, c, plan())
	f.holds()
}

// untilWritten makes passes until nothing is refused.
func untilWritten(t *testing.T, c *Client, p service.Plan) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if r := done(t, c, p); len(r.Refused) == 0 {
			return
		}
	}
	t.Fatal("still refused after 5 s")
}

func TestApply_C106_theCulpritAloneBacksOff(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	f.refuse["hostname:bad:80"] = 1 << 30
	done(t, c, plan("a", "bad"))
	f.take()
	r := done(t, c, plan("a", "b", "bad"))
	f.holds("a", "b")
	if got := f.take(); got != "3" || len(r.Refused) != 1 {
		t.Errorf("transactions of %s operations, %+v", got, r)
	}

	changed := plan("a", "b", "bad")
	changed.Registrations[2].Port++
	done(t, c, changed)
	if got := f.take(); got != "3" {
		t.Errorf("a refused row that has changed was not tried at once: %q", got)
	}
	if r := done(t, c, plan("a", "b")); len(r.Refused) != 0 || r.Again != 0 {
		t.Errorf("a row nobody asks for any more is remembered: %+v", r)
	}
}

func TestApply_C106_backsOffLongerAndLonger(t *testing.T) {
	c := newFakeConsul(t).clientOf()
	u := c.put(row("a"))
	var last time.Duration
	for range 20 {
		c.refused.add(u.id, u.row, errors.New("no"))
		last = time.Until(c.refused[u.id].until)
	}
	if last < refusedRetryMax/3 || last > 2*refusedRetryMax {
		t.Errorf("after 20 refusals the next try is in %s", last)
	}
}

// TestApply_whatWasRememberedMayBeToBlame refuses a row once that is right for what is remembered, since
// the catalog was emptied. The look that follows must not find that the row has to wait.
func TestApply_whatWasRememberedMayBeToBlame(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	o, err := c.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	changes := service.Diff(o.Rows, plan("a"))
	r, err := c.Apply(t.Context(), o, changes)
	after, certain := o.After(changes, r)
	if err != nil || !certain {
		t.Fatalf("%+v, %v, %t", r, err, certain)
	}
	for range 3 { // each would put the next try off for longer
		f.with(func() { f.refuse["hostname:b:80"] = 1 })
		changes = service.Diff(after.Rows, plan("a", "b"))
		if r, err = c.Apply(t.Context(), after, changes); err != nil || len(r.Refused) != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, certain := after.After(changes, r); certain {
			t.Error("it is certain what the catalog holds after a refusal")
		}
	}
	if r := done(t, c, plan("a", "b")); r.Written != 1 || len(r.Refused) != 0 {
		t.Errorf("%+v", r)
	}
	f.holds("a", "b")
}

func TestApply_oneRowMakesConsulFail(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan())
	f.fail["hostname:bad:80"] = 1 << 30
	if r := done(t, c, plan("a", "b", "bad", "c")); len(r.Refused) != 1 || r.Refused[0].ID != "hostname:bad:80" {
		t.Errorf("%+v", r)
	}
	f.holds("a", "b", "c")
}

func TestApply_consulItselfFails(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	o, err := c.Observed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.with(func() { f.down = true })
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("s%02d", i))
	}
	o.NodeChange = ""
	f.take()
	if r, err := c.Apply(t.Context(), o, service.Diff(nil, plan(names...))); err == nil || r.Txns > 4 {
		t.Errorf("%v after %d transactions", err, r.Txns)
	}
}

func TestApply_aRefusedNodeIsAnError(t *testing.T) {
	f := newFakeConsul(t)
	f.refuse[""] = 1
	if r, err := pass(t, f.clientOf(), plan("a")); err == nil || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("%+v, %v", r, err)
	}
	f.holds()
}

func TestObserved_C97_aHangEndsWithTheDeadline(t *testing.T) {
	f := newFakeConsul(t)
	release := make(chan struct{})
	f.with(func() { f.hanging = release })
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	started := time.Now()
	if _, err := f.clientOf().Observed(ctx); err == nil || time.Since(started) > time.Second {
		t.Errorf("%v after %s", err, time.Since(started))
	}
}

func TestObserved_aFailedReadIsNoEmptyCatalog(t *testing.T) {
	f := newFakeConsul(t)
	f.down = true
	if o, err := f.clientOf().Observed(t.Context()); err == nil {
		t.Errorf("observed %+v", o)
	}
}

func TestObserved_C105_anAgentOwnsTheName(t *testing.T) {
	f := newFakeConsul(t)
	f.checks["serfHealth"] = &api.HealthCheck{CheckID: "serfHealth", Status: api.HealthPassing}
	_, err := f.clientOf().Observed(t.Context())
	if !NotOurs(err) || !strings.Contains(err.Error(), "--node-name") {
		t.Errorf("error %v", err)
	}
}

// TestObserved_aNodeInUseIsNotTakenOver proves that a node somebody else wrote is left alone as long
// as he uses it, and that it is ours once he does not, or says so.
func TestObserved_aNodeInUseIsNotTakenOver(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	f.node = &api.Node{Node: "hostname", Address: "1.2.3.4"}
	refused := func(what string) {
		t.Helper()
		_, err := c.Observed(t.Context())
		if !errors.Is(err, ErrForeign) || !NotOurs(err) || !strings.Contains(err.Error(), "--node-name") || !strings.Contains(err.Error(), "1.2.3.4") {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.services["x"] = &api.AgentService{ID: "x", Service: "x"}
	refused("with a service")
	f.with(func() {
		delete(f.services, "x")
		f.checks["ping"] = &api.HealthCheck{CheckID: "ping", Status: api.HealthPassing}
	})
	refused("with a check")
	f.with(func() { f.node.Meta = map[string]string{metaSource: source} })
	if o, err := c.Observed(t.Context()); err != nil || !o.foreignChecks {
		t.Errorf("given to us: %+v, %v", o, err)
	}
	f.with(func() { f.node.Meta = nil; delete(f.checks, "ping") })
	if _, err := c.Observed(t.Context()); err != nil {
		t.Errorf("not used: %v", err)
	}
	if f.take() != "" {
		t.Error("written")
	}
}

func TestObserved_anotherEngineOfOurName(t *testing.T) {
	f := newFakeConsul(t)
	done(t, f.clientOf(), plan("a"))
	ours := f.clientOf(func(o *Options) { o.Meta = map[string]string{metaDocker: "engine-2"} })

	f.keys["fairway/nodes/hostname"] = &api.KVPair{Key: "fairway/nodes/hostname", Session: "alive"}
	if _, err := ours.Observed(t.Context()); !errors.Is(err, ErrTaken) {
		t.Errorf("while the other lives: %v", err)
	}
	f.with(func() { f.keys["fairway/nodes/hostname"].Session = "" })
	o, err := ours.Observed(t.Context())
	if err != nil || o.NodeChange == "" {
		t.Errorf("after its end: %q, %v", o.NodeChange, err)
	}
}

func TestObserved_whatOthersPutOnTheNodeStays(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan())
	f.with(func() { f.node.Meta["rack"] = "7"; f.node.Meta["fairway-version"] = "v0" })
	done(t, c, plan())
	if f.node.Meta["rack"] != "7" || f.node.Meta["fairway-version"] != "v1" {
		t.Errorf("metadata %v", f.node.Meta)
	}
	f.take()
	f.with(func() { f.checks[AliveID].Status = api.HealthCritical })
	if done(t, c, plan()); f.take() != "2" || f.checks[AliveID].Status != api.HealthPassing {
		t.Errorf("the node is not alive again: %+v", f.checks[AliveID])
	}
}

// checked is a row with two active checks.
func checked(status service.Status, output string) service.Plan {
	p := plan("a")
	way := service.Check{
		Kind: service.HTTP, Target: "http://192.168.1.102:10000/h", Method: "HEAD", Header: "Host: a.test\nX-A: 1\nX-A: 2",
		Interval: 15 * time.Second, Timeout: time.Second, DeregisterAfter: 10 * time.Minute, Status: status, Output: output,
		Local: service.Local{Container: "c", SuccessBeforePassing: 2, FailuresBeforeWarning: 1, FailuresBeforeCritical: 1},
	}
	tcp := way
	tcp.Kind, tcp.Target, tcp.Method, tcp.Header, tcp.DeregisterAfter = service.TCP, "192.168.1.102:10000", "", "", 0
	grpc := tcp
	grpc.Kind, grpc.Target, grpc.UseTLS, grpc.SkipVerify = service.GRPC, "192.168.1.102:10000/shop.v1.Cart", true, true
	if status == service.Critical {
		way.CriticalSince = time.Date(2026, 11, 22, 12, 0, 0, 5e6, time.UTC)
	}
	p.Registrations[0].Checks = []service.Check{way, tcp, grpc}
	return p
}

// TestApply_C72_severalChecks writes checks with their row, reads them back as they were, and takes
// away what is not asked for any more.
func TestApply_C72_severalChecks(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	severalChecks(t, c, checked, func() {
		if got := f.take(); got != "8" {
			t.Errorf("written in transactions of %s operations", got)
		}
	})
}

// severalChecks is the same against the fake and a real Consul.
func severalChecks(t *testing.T, c *Client, checked func(service.Status, string) service.Plan, once func()) {
	t.Helper()
	done(t, c, checked(service.Critical, service.Unchecked))
	once()
	if o, err := c.Observed(t.Context()); err != nil || !slices.Equal(stripped(o.Rows[0].Checks), stripped(checked(service.Critical, service.Unchecked).Registrations[0].Checks)) {
		t.Errorf("read back as %+v, %v", o.Rows, err)
	}
	writes := func(p service.Plan) int { t.Helper(); return done(t, c, p).Written }
	for range 3 {
		if n := writes(checked(service.Critical, service.Unchecked)); n != 0 {
			t.Fatalf("C94: %d writes without a change", n)
		}
	}
	if writes(checked(service.Passing, "200 OK")) != 1 || writes(checked(service.Passing, "200 OK")) != 0 {
		t.Error("a verdict is not one write")
	}
	if n := writes(checked(service.Passing, "204 No Content")); n != 0 {
		t.Errorf("%d writes for other words", n)
	}
	less := checked(service.Passing, "200 OK")
	less.Registrations[0].Checks = less.Registrations[0].Checks[1:]
	if writes(less) != 1 || writes(less) != 0 {
		t.Error("a check that is not asked for any more is not one write")
	}
	o, err := c.Observed(t.Context())
	if err != nil || len(o.Rows) != 1 || len(o.Rows[0].Checks) != 2 || o.Rows[0].Checks[0].Kind != service.TCP {
		t.Errorf("left %+v, %v", o.Rows, err)
	}
}

// stripped are checks without what the catalog does not keep.
func stripped(checks []service.Check) []service.Check {
	checks = slices.Clone(checks)
	for i := range checks {
		checks[i].Local, checks[i].Header = service.Local{}, service.ShownHeader(checks[i].Header)
	}
	return checks
}

// bothFamilies is a plan whose rows are reached over IPv4 and IPv6.
func bothFamilies(p service.Plan) service.Plan {
	for i := range p.Registrations {
		p.Registrations[i].Addresses = map[string]service.Tagged{
			"lan_ipv4": {IP: netip.MustParseAddr("192.168.1.102"), Port: 10000},
			"lan_ipv6": {IP: netip.MustParseAddr("2001:db8::1"), Port: 10000},
		}
	}
	return p
}

// TestApply_C94_taggedAddresses writes rows that Consul's transactions would write without their
// tagged addresses.
func TestApply_C94_taggedAddresses(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	f.refuse["hostname:b:80"] = 1
	if r := done(t, c, bothFamilies(plan("a", "b", "c"))); len(r.Refused) != 1 {
		t.Errorf("%+v", r)
	}
	f.holds("a", "c")
	untilWritten(t, c, bothFamilies(plan("a", "b", "c")))
	f.holds("a", "b", "c")
	if r := done(t, c, bothFamilies(plan("a", "b", "c"))); r.Written != 0 {
		t.Errorf("a pass without a change wrote: %+v", r)
	}
	done(t, c, bothFamilies(checked(service.Passing, "200 OK")))
	less := bothFamilies(checked(service.Passing, "200 OK"))
	less.Registrations[0].Checks = nil
	if done(t, c, less).Written != 1 || done(t, c, less).Written != 0 {
		t.Error("checks that are not asked for any more are not one write")
	}
}

// TestApply_enterprise sees to it that no operation lands in another namespace or partition than
// the reads look at.
func TestApply_enterprise(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf(func(o *Options) { o.Namespace, o.Partition = "ns", "part" })
	done(t, c, plan("a", "b"))
	done(t, c, plan("b"))
	for _, op := range slices.Concat(f.txns...) {
		switch {
		case op.Node != nil && op.Node.Node.Partition != "part",
			op.Service != nil && (op.Service.Service.Namespace != "ns" || op.Service.Service.Partition != "part"),
			op.Check != nil && op.Check.Check.Partition != "part",
			op.Check != nil && op.Check.Check.ServiceID != "" && op.Check.Check.Namespace != "ns":
			t.Errorf("operation %+v %+v %+v", op.Node, op.Service, op.Check)
		}
	}
}

func TestLeave_takesTheNodeOnlyWhenItIsOurs(t *testing.T) {
	f := newFakeConsul(t)
	c := f.clientOf()
	done(t, c, plan("a", "b"))
	f.services["theirs"] = &api.AgentService{ID: "theirs", Service: "theirs"}
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.services) != 1 || f.node == nil {
		t.Errorf("left %v, node %v", f.services, f.node)
	}
	f.with(func() { delete(f.services, "theirs") })
	done(t, c, plan("a"))
	if err := c.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.services) != 0 || f.node != nil {
		t.Errorf("left %v, node %v", f.services, f.node)
	}
}
