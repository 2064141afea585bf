// Package proxy makes one HAProxy or nginx equal to rendered files: the transaction that ends
// with the new configuration confirmed as the one that runs, or with the old one back in place.
//
//	equal to disk and proxy          nothing
//	only servers or map entries      files first, then HAProxy's runtime socket, read back
//	anything else                    stage → check → commit → reload → confirm, else restore
//
// The files are the single truth. What only a reload can change is hashed, and the hash stands
// in place of render.Generation in the files, where the proxy reports it: so every question
// "which configuration runs?" is put to the proxy itself, never to memory.
//
// Nothing here retries for ever and nothing runs behind the caller's back but what servers do not
// wait for: the checker, on a structure that is to be loaded and on a change of servers that was
// already applied, and the wait for a reload to be confirmed. Options.Wake asks for another Apply
// when one is due.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fairway/confgen/render"

	"github.com/hashicorp/go-hclog"
)

// Options are what every target has.
type Options struct {
	Dir   string      // the proxy's configuration folder, as this process sees it
	Main  string      // the file that the proxy is started with, relative to Dir
	Perm  os.FileMode // of Dir and folders in it, when they are missing; 0 for 0755
	Check Check       // the proxy's own checker; without one a reload decides

	ReloadInterval time.Duration // from one reload to the next; 0 for 1 s, the first goes at once
	ReloadTimeout  time.Duration // until a reload must be confirmed; 0 for 30 s (nginx: 10 s)

	// InPlace writes into files that are bind-mounted one by one, which cannot be replaced.
	// A reader may then see half a file.
	InPlace bool

	// Wake asks for another Apply, soon: a reload that was put off is due, the checker or a reload
	// has come to its end, retired servers can be deleted, or a late check failed. It must not
	// block. When it is nil, Apply waits for its turn to reload, for the checker and for the reload
	// instead of coming back later, and checks every change beforehand.
	Wake func()

	Log hclog.Logger // nil for none
}

// Action is what an Apply did to the running proxy.
type Action string

// The actions, cheapest first.
const (
	None    Action = "none"
	Runtime Action = "runtime"
	Reload  Action = "reload"
)

// Result says what an Apply did, also when it returns an error.
type Result struct {
	Action     Action
	Written    []string      // files that were changed on disk, relative
	Commands   int           // runtime commands sent to change something
	Reloads    int           // reloads asked for, repeated ones included
	Elapsed    time.Duration // of a reload: since its check began
	Generation string        // hash of what only a reload can change, as the proxy reports it
	Deferred   string        // why a reload that is needed has to wait; "" when none is
	Pinned     string        // generation that is held on to instead; "" for none
	Retired    int           // servers out of traffic that HAProxy still keeps, or whose sessions will be closed

	since time.Time // when an earlier Apply began what this one has finished
}

// Errors that Apply returns, wrapped.
var (
	// ErrNotRunning: the files are committed, but no proxy runs that could load them. When it
	// comes up with them, the next Apply confirms that without a reload.
	ErrNotRunning = errors.New("proxy is not running")
	// ErrLocked: another process looks after the same folder.
	ErrLocked = errors.New("another confgen writes to this folder")
	// ErrBindMount: a file is bind-mounted by itself, so a rename does not reach the proxy.
	ErrBindMount = errors.New("file is a bind mount of its own")
)

// RejectedError means that the proxy cannot run the wanted files. The last good ones are on disk
// and running, and changes of servers still go through. Files that the checker refused are tried
// again when a byte of them changes; those that the proxy refused, since the attempt is felt by
// clients, when more changes than which servers there are.
type RejectedError struct {
	By         string // ByCheck, "reload", "bind"
	Generation string
	Output     string // the proxy's own words
	Hung       bool   // the checker gave no verdict in time, which says nothing of the files

	key string    // what must change before another try
	at  time.Time // when
}

// ByCheck is who rejects when the proxy's own checker does.
const ByCheck = "check"

func (e *RejectedError) Error() string {
	return fmt.Sprintf("configuration %s rejected by %s: %s", e.Generation, e.By, e.Output)
}

// driver is what differs between the proxies.
type driver interface {
	// read makes a text of what a file holds; the main file is the one the proxy starts with.
	read(data []byte, main bool) *text
	// structure returns the hash of all that only a reload can change.
	structure(t tree) string
	// shape is like structure, with all else that may make a reload fail: it changes when another
	// try has a chance, and not when a server comes or goes.
	shape(t tree) string
	// status asks the proxy what it runs.
	status(ctx context.Context) (status, error)
	// live reports whether anything can be changed now without a reload.
	live() bool
	// patience says why no reload may be made now; "" when it may.
	patience(ctx context.Context) string
	// adjustable reports whether before can be made after without a reload, given that their
	// structures are equal.
	adjustable(before, after tree) bool
	// sync makes the running proxy equal to t without a reload; everything is compared if full,
	// else what differs from before, which is nil when it is not known what runs.
	sync(ctx context.Context, t tree, before *tree, full bool) (synced, error)
	// merge returns base with what sync can change taken from want.
	merge(base, want tree) tree
	// reload loads what is on disk and returns when generation is confirmed as running.
	reload(ctx context.Context, t tree, before status) (attempts int, err error)
	// probe looks for what a reload would fail at and a checker does not see.
	probe(ctx context.Context, base, want tree) error
}

// status is what a running proxy says of itself.
type status struct {
	generation string // what it reports; may have other text around the hash
	instance   string // changes with every successful load
}

type synced struct {
	commands int
	retired  int
}

// errNeedsReload: the change cannot be made, or not surely, without a reload.
var errNeedsReload = errors.New("needs a reload")

// Target is one proxy and its configuration folder.
type Target struct {
	opt    Options
	driver driver
	log    hclog.Logger

	background *background

	mu       sync.Mutex
	lock     *os.File
	pin      *pinned   // generation that is held on to; nil for none
	loaded   *tree     // what is known to run
	verified time.Time // when everything was last compared with the running proxy
	instance string    // the instance that was compared
	lookTook time.Duration
	retired  int // servers that were not yet deletable then
	failures int // changes in a row that broke off half way
	rejected *RejectedError
	reloaded time.Time // when a reload was last asked for
	tried    time.Time // when files were last refused before one
	timer    *time.Timer
	late     lateCheck
	verdict  *verdict          // on what is to be loaded; nil for none
	loading  *loading          // that is on its way; nil for none
	checks   int               // begun beside
	seen     map[string]seen   // files as they were last found on disk, by path
	ours     *[]string         // what owned.json says, once it was read
	noted    map[string]string // what was said last, by topic: logged once a change
	reached  func(step string) // tests stop or kill the process at a step
}

// fullEvery is how often everything is compared with the running proxy, not only what changed.
const fullEvery = 30 * time.Second

func newTarget(opt Options, d driver) (*Target, error) {
	if opt.Dir == "" || opt.Main == "" {
		return nil, errors.New("proxy target: Dir and Main are needed")
	}
	dir, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("proxy target: %w", err)
	}
	opt.Dir = dir
	if opt.Perm == 0 {
		opt.Perm = 0o755
	}
	if opt.ReloadInterval == 0 {
		opt.ReloadInterval = time.Second
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	t := &Target{opt: opt, driver: d, log: opt.Log, seen: map[string]seen{}, noted: map[string]string{}, reached: func(string) {}, background: newBackground()}
	t.late.target = t
	if err := t.refuseBindMount(opt.Main); err != nil {
		return nil, err
	}
	return t, nil
}

// Lock claims the folder and finishes or undoes what a crash left half done. Apply does it too;
// call it at start to refuse at once (ErrLocked).
func (t *Target) Lock() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.claim()
}

// Apply makes disk and proxy equal to files. Files that were written by an earlier Apply and are
// no longer among files are removed. One call at a time does the work; others wait.
func (t *Target) Apply(ctx context.Context, files []render.File) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	started := time.Now()
	res := Result{Action: None}
	err := t.apply(ctx, files, &res)
	if !res.since.IsZero() {
		started = res.since
	}
	res.Elapsed = time.Since(started)
	return res, err
}

// Change is a file that an Apply would write or remove.
type Change struct {
	Path          string // relative
	Before, After []byte // nil when it does not exist
}

// Diff returns what Apply would change on disk, and touches nothing.
func (t *Target) Diff(files []render.File) ([]Change, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	want, err := t.prepare(files)
	if err != nil {
		return nil, err
	}
	have, err := t.readDisk(want)
	if err != nil {
		return nil, err
	}
	return changes(have, want), nil
}

// Close stops what is under way, a reload after a moment, and gives the folder free. The proxy goes on.
func (t *Target) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	t.awaitLoading(ctx)
	if _, err := t.Attend(ctx); err != nil {
		t.log.Warn("the last reload did not come to a good end", "err", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.background.end()
	t.verdict, t.loading = nil, nil // The journal of a reload stays: the next start finishes it.
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.lock == nil {
		return nil
	}
	err := t.lock.Close()
	t.lock, t.ours = nil, nil
	return err
}

// wakeIn asks the caller for another Apply after d.
func (t *Target) wakeIn(d time.Duration) {
	if t.opt.Wake == nil {
		return
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	t.timer = time.AfterFunc(d, t.opt.Wake)
}

// note logs a degraded state once until it changes.
func (t *Target) note(topic, state string) {
	if t.noted[topic] == state {
		return
	}
	t.noted[topic] = state
	if state != "" {
		t.log.Warn(topic, "reason", state)
	}
}
