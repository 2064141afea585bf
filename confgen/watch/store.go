package watch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"fairway/confgen/route"
	"fairway/internal/reconcile"

	"github.com/google/renameio/v2"
	"github.com/hashicorp/go-hclog"
)

// fileVersion is the format of the saved snapshot. A file of another version is not read.
const fileVersion = 2

// saveEvery is the least time from one save to the next. A save writes everything.
const saveEvery = 5 * time.Second

// touchEvery is how often the file learns that Consul still says what it holds: a quiet week is
// not to look like a week without Consul.
const touchEvery = time.Minute

// saved is the file's content. When Consul last said so is the file's modification time, which
// costs no write of the content.
type saved struct {
	Version  int            `json:"version"`
	Saved    time.Time      `json:"saved"`
	Snapshot route.Snapshot `json:"snapshot"`
}

// store keeps the newest snapshot in a file, so that confgen started while Consul is down serves
// what it last knew.
type store struct {
	path     string
	log      hclog.Logger
	wake     reconcile.Wake
	restored *View // what the file held at the start; nil for nothing usable
	version  uint64
	touched  time.Time // the modification time of the file
	failing  bool

	confirmed atomic.Int64 // when Consul last said what is shown, in nanoseconds; 0 for never
}

func newStore(path string, log hclog.Logger) *store {
	s := &store{path: path, log: log, wake: reconcile.NewWake()}
	v, err := load(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		log.Warn("saved snapshot cannot be used", "file", path, "err", err)
	default:
		s.restored = &v
	}
	return s
}

func load(path string) (View, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return View{}, err
	}
	var f saved
	if err := json.Unmarshal(data, &f); err != nil {
		return View{}, fmt.Errorf("parse %s: %w", path, err)
	}
	if f.Version != fileVersion {
		return View{}, fmt.Errorf("parse %s: format version %d, want %d", path, f.Version, fileVersion)
	}
	v := View{Snapshot: f.Snapshot, Time: f.Saved, Restored: true}
	if info, err := os.Stat(path); err == nil && info.ModTime().After(f.Saved) && info.ModTime().Before(time.Now()) {
		v.Time = info.ModTime()
	}
	return v, nil
}

// confirm notes that what is shown is what Consul says now.
func (s *store) confirm(now time.Time) { s.confirmed.Store(now.UnixNano()) }

// run saves what latest returns after each wake, and once more at the end.
func (s *store) run(ctx context.Context, latest func() (View, bool)) error {
	save := func(context.Context) error { return s.save(latest) }
	opt := reconcile.Options{Interval: saveEvery, Resync: touchEvery, RetryMin: saveEvery, RetryMax: time.Minute, Failed: s.failed}
	err := reconcile.Loop(ctx, s.wake, opt, save)
	if last := s.save(latest); last != nil {
		s.failed(last, 0)
	}
	return err
}

func (s *store) save(latest func() (View, bool)) error {
	v, ok := latest()
	if !ok || v.Restored {
		return nil
	}
	if v.Version == s.version {
		return s.touch()
	}
	if err := s.write(v); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	s.version, s.failing = v.Version, false
	return s.touch()
}

// write replaces the file. The text of 50,000 instances is 20 MB, which is never held in memory.
func (s *store) write(v View) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	file, err := renameio.NewPendingFile(s.path, renameio.WithTempDir(filepath.Dir(s.path)), renameio.WithStaticPermissions(0o640))
	if err != nil {
		return err
	}
	defer file.Cleanup() //nolint:errcheck // after the replacement it does nothing; before, another error counts
	out := bufio.NewWriterSize(file, 64<<10)
	if err := encode(out, v); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.CloseAtomicallyReplace()
}

// encode writes what saved means, one service at a time.
func encode(out io.Writer, v View) error {
	rest := v.Snapshot
	rest.Services = []route.Service{}
	frame, err := json.Marshal(saved{Version: fileVersion, Saved: v.Time, Snapshot: rest})
	if err != nil {
		return err
	}
	head, tail, found := bytes.Cut(frame, []byte(`"services":[]`))
	if !found {
		return errors.New("the format of a snapshot has no services")
	}
	if _, err := fmt.Fprintf(out, `%s"services":[`, head); err != nil {
		return err
	}
	services := json.NewEncoder(out)
	for i := range v.Snapshot.Services {
		if i > 0 {
			if _, err := io.WriteString(out, ","); err != nil {
				return err
			}
		}
		if err := services.Encode(&v.Snapshot.Services[i]); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "]%s", tail)
	return err
}

// touch lets the file say when Consul last confirmed what it holds.
func (s *store) touch() error {
	at := time.Unix(0, s.confirmed.Load())
	if !at.After(s.touched) {
		return nil
	}
	if err := os.Chtimes(s.path, at, at); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			s.version = 0 // somebody removed it: save it anew
		}
		return fmt.Errorf("note that the saved snapshot is current: %w", err)
	}
	s.touched, s.failing = at, false
	return nil
}

func (s *store) failed(err error, _ time.Duration) {
	if !s.failing {
		s.log.Warn("snapshot is not saved: a start without consul would know nothing", "file", s.path, "err", err)
	}
	s.failing = true
}
