package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"fairway/confgen/route"
)

// What services in quarantine asked for when they were accepted last is kept on disk: a restart is
// not to cost them their routes. Of all others the files say it themselves.

// keptVersion is the format of the file. One of another format is not read.
const keptVersion = 1

type keptGood struct {
	Version  int            `json:"version"`
	Accepted route.Snapshot `json:"accepted"`
}

// keptPath is where it is kept; "" for nowhere.
func keptPath(opt Options) string {
	if opt.Snapshot == "" || opt.Once || opt.DryRun {
		return ""
	}
	name := "quarantine.json"
	if opt.Name != "" {
		name = "quarantine-" + opt.Name + ".json"
	}
	return filepath.Join(filepath.Dir(opt.Snapshot), name)
}

// recall takes what an earlier confgen kept in a file for what was accepted last, and keeps it
// there from now on; "" is nowhere.
func (q *quarantine) recall(file string) {
	q.file = file
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept keptGood
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err == nil && kept.Version != keptVersion {
		err = fmt.Errorf("format version %d, want %d", kept.Version, keptVersion)
	}
	if err != nil {
		q.log.Warn("what services in quarantine had accepted before cannot be used", "file", file, "err", err)
		return
	}
	q.kept = text
	maps.Copy(q.good, asksOf(kept.Accepted))
}

// keep saves what those who are in quarantine had accepted. It does nothing when that stands there,
// nor before it is known who is.
func (q *quarantine) keep() {
	if q.file == "" || !q.settled {
		return
	}
	text, err := q.text()
	if err == nil && bytes.Equal(text, q.kept) {
		return
	}
	q.kept = text // tried once
	switch {
	case err != nil:
	case text == nil:
		if err = os.Remove(q.file); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	default:
		if err = os.MkdirAll(filepath.Dir(q.file), 0o755); err == nil {
			err = renameio.WriteFile(q.file, text, 0o600)
		}
	}
	if err != nil {
		q.log.Warn("what services in quarantine had accepted is not kept for the next start", "file", q.file, "err", err)
	}
}

// text is the file's content; nil when there is nothing to keep.
func (q *quarantine) text() ([]byte, error) {
	kept := keptGood{Version: keptVersion}
	for _, name := range slices.Sorted(maps.Keys(q.out)) {
		if good, known := q.good[name]; known {
			kept.Accepted.Services = append(kept.Accepted.Services, good.Service)
			kept.Accepted.Overrides = append(kept.Accepted.Overrides, good.set...)
		}
	}
	if kept.Accepted.Services == nil {
		return nil, nil
	}
	return json.MarshalIndent(kept, "", "  ")
}
