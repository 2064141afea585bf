package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"fairway/internal/daemon"
	"fairway/internal/reconcile"
	"fairway/internal/testbed"
	"fairway/registrator/catalog"
	"fairway/registrator/docker"
	"fairway/registrator/health"
	"fairway/registrator/service"
	"fairway/registrator/swarm"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The clients of the tests themselves keep connections until they have been idle for a while.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// worlds are both worlds of a syncer, in memory.
type worlds struct {
	listing  docker.Listing
	listErr  error
	sight    docker.Sight // of a glance, which tells the same as a listing
	observed catalog.Observed
	readErr  error
	applied  []service.Changes
	result   catalog.Result
	applyErr error

	mu       sync.Mutex
	asked    string // for what: L a listing, G a glance, O the catalog
	outdated bool   // what is remembered of the catalog is refused
}

func (w *worlds) ask(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked += what
}

func (w *worlds) Containers(context.Context) (docker.Listing, error) {
	w.ask("L")
	return w.listing, w.listErr
}

func (w *worlds) Glance(context.Context) (docker.Listing, docker.Sight) {
	w.ask("G")
	return w.listing, w.sight
}

func (w *worlds) Observed(context.Context) (catalog.Observed, error) {
	w.ask("O")
	return w.observed, w.readErr
}

func (w *worlds) Apply(_ context.Context, o catalog.Observed, c service.Changes) (catalog.Result, error) {
	w.applied = append(w.applied, c)
	if o.Remembered && w.outdated {
		return catalog.Result{Refused: []catalog.Refused{{ID: "x", Err: errors.New("missing node registration")}}}, nil
	}
	return w.result, w.applyErr
}

func newTestSyncer(w *worlds, wake reconcile.Wake) (*syncer, *testbed.Log) {
	log := &testbed.Log{}
	d := daemon.ForTest(hclog.New(&hclog.LoggerOptions{Output: log}), "")
	again := time.AfterFunc(time.Hour, wake.Now)
	again.Stop()
	return &syncer{
		ending:  new(atomic.Int64),
		options: service.Defaults(), docker: w, swarm: swarm.NewDirectory(), catalog: w, checks: health.New(health.Options{}), report: newReport(d.Log, d.Metrics), again: again,
		dockerPart: newPart(d, "docker"), consulPart: newPart(d, "consul"), synced: newPart(d, "first-sync"),
	}, log
}

// owned is a row of ours that no container asks for.
var owned = service.Registration{ID: "n:gone:80", Name: "gone", Meta: map[string]string{service.Owner: "0123456789ab:80/tcp"}}

func TestPass_aFailedReadWritesNothing(t *testing.T) {
	for name, w := range map[string]*worlds{
		"docker": {listErr: errors.New("docker is away"), observed: catalog.Observed{Rows: []service.Registration{owned}}},
		"consul": {readErr: errors.New("consul is away")},
	} {
		s, log := newTestSyncer(w, reconcile.NewWake())
		for range 3 {
			if err := s.pass(t.Context()); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if len(w.applied) != 0 {
			t.Errorf("%s: applied %v", name, w.applied)
		}
		if n := log.Count(name + " is away"); n != 1 {
			t.Errorf("%s: the outage was logged %d times:\n%s", name, n, log)
		}
	}
}

func TestPass_C91_whatCannotBeReadKeepsItsRows(t *testing.T) {
	w := &worlds{observed: catalog.Observed{Rows: []service.Registration{owned}}}
	s, _ := newTestSyncer(w, reconcile.NewWake())
	w.listing.Containers = []service.Container{{ID: "0123456789ab" + strings.Repeat("0", 52), Name: "gone", State: service.Unknown}}
	w.listing.Failed = map[string]error{"gone": errors.New("inspect: no")}
	if err := s.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.listing = docker.Listing{}
	if err := s.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(w.applied) != 2 || len(w.applied[0].Delete) != 0 || len(w.applied[1].Delete) != 1 {
		t.Errorf("applied %+v", w.applied)
	}
}

func TestPass_troubleIsToldOnceAndItsEnd(t *testing.T) {
	w := &worlds{result: catalog.Result{Refused: []catalog.Refused{{ID: "x", Err: errors.New("denied")}}}}
	w.listing.Failed = map[string]error{"web": errors.New("inspect: no")}
	s, log := newTestSyncer(w, reconcile.NewWake())
	for range 3 {
		if err := s.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, once := range []string{"consul refuses a row", "container cannot be read"} {
		if n := log.Count(once); n != 1 {
			t.Errorf("%q %d times:\n%s", once, n, log)
		}
	}
	w.result, w.listing = catalog.Result{}, docker.Listing{}
	for range 2 {
		if err := s.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := log.Count("all containers are registered"); n != 1 {
		t.Errorf("the end was told %d times:\n%s", n, log)
	}
}

// web is a container of a number, whose port is published.
func web(n int) service.Container {
	return service.Container{
		ID: strings.Repeat(strconv.Itoa(n), 64), Name: "web-" + strconv.Itoa(n), Image: "web", State: service.Running, NetworkMode: "bridge",
		Ports: []service.Port{{Number: 80, Protocol: "tcp", Bindings: []service.Binding{{IP: netip.IPv4Unspecified(), Port: uint16(8000 + n)}}}},
	}
}

// TestPass_glance acts by a glance and by what it remembers where it may, and looks where it may not.
func TestPass_glance(t *testing.T) { synctest.Test(t, testPassGlance) }

func testPassGlance(t *testing.T) {
	w := &worlds{observed: catalog.Observed{Lasting: true}}
	wake := reconcile.NewWake()
	s, log := newTestSyncer(w, wake)
	s.options.Node.IPv4 = netip.MustParseAddr("192.0.2.1")
	step := func(what, asked string, written ...string) {
		t.Helper()
		w.asked, w.applied = "", nil
		if err := s.pass(t.Context()); (err != nil) != (w.applyErr != nil || w.readErr != nil) {
			t.Errorf("%s: %v", what, err)
		}
		var got []string
		if len(w.applied) > 0 {
			changes := w.applied[len(w.applied)-1]
			for _, row := range changes.Put {
				got = append(got, "+"+row.ID)
			}
			for _, id := range changes.Delete {
				got = append(got, "-"+id)
			}
		}
		asks := strings.NewReplacer("OL", "look", "LO", "look").Replace(w.asked) // both at once
		if asks != asked || !slices.Equal(got, written) {
			t.Errorf("%s: asked %q and wrote %q, want %q and %q", what, asks, got, asked, written)
		}
	}
	w.listing.Containers = []service.Container{web(1)}
	step("the first pass", "look", "+:web-1:80")
	w.observed.Rows = nil // what was just written is not read again
	w.sight = docker.Clear
	w.listing.Containers = []service.Container{web(1), web(2)}
	step("a container starts", "G", "+:web-2:80")
	w.listing.Containers = []service.Container{web(2)}
	step("another ends", "G", "-:web-1:80")
	step("nothing has changed", "G")
	w.sight = docker.Still
	step("the catalog has changed, by that", "G")
	time.Sleep(docker.GlanceThen - 1)
	step("and something else a little later", "G")
	time.Sleep(time.Nanosecond)
	step("and is looked at", "Glook", "+:web-2:80") // for it has lost it
	step("no event, long after a glance", "Glook", "+:web-2:80")
	w.sight = docker.Clear
	step("an event again", "G")
	w.sight = docker.Unclear
	step("an event need not be all", "Glook", "+:web-2:80")
	w.sight = docker.Still
	step("the catalog changes right after that look, too", "Glook", "+:web-2:80")
	w.sight, w.outdated = docker.Clear, true
	w.listing.Containers = []service.Container{web(2), web(3)}
	step("the catalog is not what it was", "Glook", "+:web-2:80", "+:web-3:80")
	if n := log.Count("refuses"); n != 0 {
		t.Errorf("the end of what was remembered was told as a refusal:\n%s", log)
	}
	if n := log.Count("id=:web-3:80"); n != 2 { // by the glance, and since it is not there by the look
		t.Errorf("what was written beside was told %d times:\n%s", n, log)
	}
	w.outdated, w.sight = false, docker.Still
	step("the catalog changes right after that look", "Glook", "+:web-2:80", "+:web-3:80")
	w.sight = docker.Clear
	step("an event after that", "G")
	w.applyErr = errors.New("consul is away")
	w.listing.Containers = nil
	step("Consul is away", "G", "-:web-2:80", "-:web-3:80")
	step("what is there is not known since then", "look")
	w.applyErr = nil
	w.observed.Lasting = false
	step("of an agent", "look")
	step("and ever after", "look")
	w.observed.Lasting = true
	step("of the catalog again", "look")
	step("and then", "G")
	w.sight, w.readErr = docker.Unclear, errors.New("consul is away")
	step("a look that fails", "Glook")
	w.sight, w.readErr = docker.Clear, nil
	step("is the end of what was remembered", "look")
	w.listing.Again = time.Millisecond // an inspect is to be tried again, sooner than the look is due
	step("until it was read again", "G")
	w.sight = docker.Still
	<-wake
	step("what is to be tried again waits for the look", "G")
	<-wake
	step("which comes", "Glook")
	w.sight = docker.Clear
	s.adopter = &adopter{log: hclog.NewNullLogger(), told: map[string]service.Adoption{}}
	step("rows are adopted by what is seen", "G")
	step("and not by what is remembered", "look")
}

// TestLoop_C102_theLastPassLooks asks the program to end while a look is owed, and something has
// changed of which no event tells.
func TestLoop_C102_theLastPassLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { testLastPass(t, func() {}) })
	synctest.Test(t, func(t *testing.T) { testLastPass(t, synctest.Wait) })
}

func testLastPass(t *testing.T, beforeTheEnd func()) {
	w := &worlds{observed: catalog.Observed{Lasting: true}}
	p := &program{wake: reconcile.NewWake(), d: daemon.ForTest(hclog.NewNullLogger(), "")}
	s, _ := newTestSyncer(w, p.wake)
	s.options.Node.IPv4 = netip.MustParseAddr("192.0.2.1")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.loop(ctx, s, make(chan struct{})) }()
	synctest.Wait()
	w.sight = docker.Clear
	w.listing.Containers = []service.Container{web(1)}
	p.wake.Now()
	synctest.Wait()
	if len(w.applied) != 2 || len(w.applied[1].Put) != 1 {
		t.Fatalf("applied %+v", w.applied)
	}
	w.sight, w.asked, w.applied = docker.Still, "", nil
	p.wake.Now()
	beforeTheEnd()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(w.asked, "OL") && !strings.HasSuffix(w.asked, "LO") {
		t.Errorf("at the end it asked %q", w.asked)
	}
}

// TestPass_freshWordsAtMostOnceAMinute lets a probe say something new all the time.
func TestPass_freshWordsAtMostOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worlds{}
		s, log := newTestSyncer(w, reconcile.NewWake())
		s.options.Node.IPv4 = netip.MustParseAddr("192.0.2.1")
		said := func(text string) {
			w.listing.Containers = []service.Container{{
				ID: strings.Repeat("0", 64), Name: "web", Image: "web", State: service.Running, Health: service.Healthy, HealthOutput: text,
				NetworkMode: "bridge", Ports: []service.Port{{Number: 80, Protocol: "tcp", Bindings: []service.Binding{{IP: netip.IPv4Unspecified(), Port: 8000}}}},
			}}
		}
		pass := func() string {
			t.Helper()
			if err := s.pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			put := w.applied[len(w.applied)-1].Put
			if len(put) == 0 {
				return ""
			}
			w.observed.Rows = put
			return put[0].Output
		}
		said("0")
		if got := pass(); got != "healthy: 0" {
			t.Fatalf("at first %q", got)
		}
		var written []string
		for i := 1; i <= 150; i++ {
			<-time.After(time.Second)
			said(strconv.Itoa(i))
			if got := pass(); got != "" {
				written = append(written, got)
			}
		}
		if want := []string{"healthy: 60", "healthy: 120"}; !slices.Equal(written, want) {
			t.Errorf("written %q, want %q", written, want)
		}
		<-time.After(time.Hour)
		pass()
		for range 5 {
			if got := pass(); got != "" {
				t.Errorf("written without a change: %q", got)
			}
		}
		if n := log.Count("changed: "); n != 0 {
			t.Errorf("words alone are told:\n%s", log)
		}
	})
}

func TestPass_troubleSaysWhetherAnythingIsRegistered(t *testing.T) {
	w := &worlds{}
	s, log := newTestSyncer(w, reconcile.NewWake())
	s.options.Node.IPv4 = netip.MustParseAddr("192.0.2.1")
	c := service.Container{
		ID: strings.Repeat("0", 64), Name: "web", Image: "web", State: service.Running, NetworkMode: "bridge", Labels: map[string]string{"SERVICE_a.b": "1", "fairway.host": "a.test"},
		Ports: []service.Port{{Number: 80, Protocol: "tcp"}},
	}
	other := c
	other.ID, other.Name = strings.Repeat("1", 64), "other"
	other.Ports = []service.Port{{Number: 80, Protocol: "tcp", Bindings: []service.Binding{{IP: netip.IPv4Unspecified(), Port: 8000}}}}
	w.listing.Containers = []service.Container{c, other}
	if err := s.pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"nothing of the container is registered: container=web label=fairway.host",
		"the rest of the container is registered: container=other label=SERVICE_a.b",
	} {
		if log.Count(want) != 1 {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

func TestPass_looksAgainAfterTheShortestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := reconcile.NewWake()
		w := &worlds{listing: docker.Listing{Again: time.Minute}, result: catalog.Result{Again: time.Second}}
		s, _ := newTestSyncer(w, wake)
		started := time.Now()
		for range 3 { // each pass moves the one timer
			if err := s.pass(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		<-wake
		if took := time.Since(started); took != time.Second {
			t.Errorf("woken after %s", took)
		}
		w.listing, w.result = docker.Listing{}, catalog.Result{}
		if err := s.pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-wake:
			t.Error("woken without a reason")
		case <-time.After(time.Hour):
		}
	})
}
