package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"fairway/internal/reconcile"
)

// Nginx says how to reach an nginx.
type Nginx struct {
	// Signal carries SIGHUP to nginx's master process.
	Signal Signaler
	// Status is where nginx answers with its generation: "unix:/run/nginx/fairway.sock" or
	// "http://127.0.0.1:8081". The configuration has there
	//
	//	server { listen unix:/run/nginx/fairway.sock; location = /generation { return 200 "@fairway-generation@"; } }
	Status string
	// Path is the location; "" for "/generation".
	Path string
}

// NewNginx returns a target that keeps an nginx current. It touches nothing yet.
func NewNginx(opt Options, n Nginx) (*Target, error) {
	if n.Signal == nil {
		return nil, errors.New("nginx target: a way to signal is needed to reload")
	}
	if n.Status == "" && !opt.Check.present() {
		return nil, errors.New("nginx target: a status address or a checker is needed, else a broken configuration goes unnoticed")
	}
	if n.Path == "" {
		n.Path = "/generation"
	}
	if opt.ReloadTimeout == 0 {
		opt.ReloadTimeout = 10 * time.Second
	}
	if opt.Log == nil {
		opt.Log = hclog.NewNullLogger()
	}
	d := &nginxDriver{Nginx: n, timeout: opt.ReloadTimeout, log: opt.Log, url: strings.TrimSuffix(n.Status, "/") + n.Path}
	d.client = &http.Client{
		Timeout: 3 * time.Second,
		// A kept connection would keep speaking with an old worker.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: d.dial, Proxy: nil},
	}
	if strings.HasPrefix(n.Status, "unix:") {
		d.url = "http://fairway" + n.Path
	}
	return newTarget(opt, d)
}

type nginxDriver struct {
	Nginx
	client  *http.Client
	url     string
	timeout time.Duration
	log     hclog.Logger
}

func (d *nginxDriver) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if path, unix := strings.CutPrefix(d.Status, "unix:"); unix {
		network, address = "unix", path
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (d *nginxDriver) read(data []byte, _ bool) *text { return plainText(data) }

// structure: every change of nginx is a reload.
func (d *nginxDriver) structure(t tree) string { return t.sum() }

func (d *nginxDriver) shape(t tree) string { return d.structure(t) }

// status asks for the generation. An nginx that runs but does not answer there runs something of
// somebody else, which is an answer too.
func (d *nginxDriver) status(ctx context.Context) (status, error) {
	generation, err := d.generation(ctx)
	if ctx.Err() != nil {
		return status{}, ctx.Err()
	}
	if err == nil {
		return status{generation: generation, instance: generation}, nil
	}
	if alive, ok := d.Signal.(interface{ Running() error }); ok {
		if err := alive.Running(); err != nil {
			return status{}, err
		}
	}
	return status{}, nil
}

func (d *nginxDriver) generation(ctx context.Context) (string, error) {
	if d.Status == "" {
		return "", errors.New("no status address is configured")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return "", fmt.Errorf("ask nginx for its generation: %w", err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask nginx for its generation: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // Only read.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return "", fmt.Errorf("ask nginx for its generation: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask nginx for its generation: %s", resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

func (d *nginxDriver) live() bool { return false }

func (d *nginxDriver) patience(context.Context) string { return "" }

func (d *nginxDriver) adjustable(before, after tree) bool { return before.equal(&after) }

func (d *nginxDriver) sync(context.Context, tree, *tree, bool) (synced, error) {
	return synced{}, nil
}

func (d *nginxDriver) merge(base, _ tree) tree { return base }

func (d *nginxDriver) probe(context.Context, tree, tree) error { return nil }

func nobodyListens(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

// equalAnswers in a row mean that the old workers no longer accept: for 40 to 180 ms both answer.
const equalAnswers = 3

// reload signals once, since nginx loses no SIGHUP, and waits until the generation is the new
// one. A failed reload leaves the old one serving and says so only in nginx's error log.
func (d *nginxDriver) reload(ctx context.Context, t tree, _ status) (attempts int, err error) {
	workers, _ := d.workers()
	if err := d.Signal.Signal(ctx, syscall.SIGHUP); err != nil {
		// Not every way to signal can tell that there is nobody to signal; the socket can.
		if _, silence := d.generation(ctx); d.Status != "" && nobodyListens(silence) && !errors.Is(err, ErrNotRunning) {
			err = fmt.Errorf("%w: %w", ErrNotRunning, err)
		}
		return 1, fmt.Errorf("reload: %w", err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, d.timeout, errReloadTimeout)
	defer cancel()
	last, equal := "", 0
	for {
		ok := false
		if ok, last = d.confirmed(limited, t, workers); ok {
			equal++
		} else {
			equal = 0
		}
		if equal == equalAnswers {
			return 1, nil
		}
		if err := reconcile.Sleep(limited, 20*time.Millisecond); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		return 1, ctx.Err()
	}
	return 1, &RejectedError{
		By: "reload", Generation: t.generation,
		Output: fmt.Sprintf("not confirmed within %s: %s; nginx's error log says why", d.timeout, last),
	}
}

// confirmed looks once. Files without a generation are confirmed by new workers, where those can
// be seen; where not, the checker's word and the delivered signal have to do.
func (d *nginxDriver) confirmed(ctx context.Context, t tree, before []string) (ok bool, why string) {
	if t.marked && d.Status != "" {
		generation, err := d.generation(ctx)
		if err != nil {
			return false, err.Error()
		}
		return t.runs(generation), fmt.Sprintf("nginx reports %q", generation)
	}
	if len(before) == 0 {
		return true, ""
	}
	now, err := d.workers()
	if err != nil {
		return false, err.Error()
	}
	isNew := func(pid string) bool { return !slices.Contains(before, pid) }
	return slices.ContainsFunc(now, isNew), "nginx has made no new workers"
}

// workers returns the ids of the children of nginx's master, if the way to signal knows it.
func (d *nginxDriver) workers() ([]string, error) {
	master, ok := d.Signal.(interface{ master() (int, error) })
	if !ok {
		return nil, nil
	}
	pid, err := master.master()
	if err != nil {
		return nil, err
	}
	id := strconv.Itoa(pid)
	children, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil {
		return nil, fmt.Errorf("look for nginx's workers: %w", err)
	}
	return strings.Fields(string(children)), nil
}
