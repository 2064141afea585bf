package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// stateDir lies in the configuration folder and is for this package alone:
//
//	lock           held while a process looks after the folder
//	owned.json     the files that we wrote
//	journal.json   a structural change is under way; has the files as they were before it
//	history.json   the last structures that ran, to go back to
//	pin.json       the one of them that is held on to
//	saved/         the files of all these, under the names of their digests
//	stage*/        the tree as it will stand, for the checker
const stateDir = ".fairway"

// journal is written before a structural change touches the first file, and removed when the
// proxy has confirmed the change or the old files are back.
type journal struct {
	Generation string            `json:"generation"` // that is being loaded
	Instance   string            `json:"instance"`   // of the proxy before the reload
	Files      map[string]string `json:"files"`      // digests by path, as they will stand
	Before     []savedFile       `json:"before"`     // to go back to
	From       string            `json:"from"`       // generation of Before; "" when it is not known
	Pinned     bool              `json:"pinned"`     // an earlier generation is held on to
}

type savedFile struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Sum  string      `json:"sum"` // name in saved/
}

func (t *Target) state(name string) string {
	return filepath.Join(t.opt.Dir, stateDir, name)
}

// claim takes the lock, once, and recovers from a crash of the process that held it before.
func (t *Target) claim() error {
	if t.lock != nil {
		return nil
	}
	if err := os.MkdirAll(t.opt.Dir, t.opt.Perm); err != nil {
		return fmt.Errorf("make configuration folder: %w", err)
	}
	if err := os.MkdirAll(t.state(""), 0o700); err != nil {
		return fmt.Errorf("make state folder: %w", err)
	}
	lock, err := os.OpenFile(t.state("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("lock configuration folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errors.Join(fmt.Errorf("%w: %s", ErrLocked, t.opt.Dir), lock.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock configuration folder: %w", err), lock.Close())
	}
	if err := t.recoverFiles(); err != nil {
		return errors.Join(err, lock.Close())
	}
	if t.pin, err = t.readPin(); err != nil {
		return errors.Join(err, lock.Close())
	}
	t.lock = lock
	return nil
}

// recoverFiles undoes a commit that stopped between two files. A commit that got through is left
// for Apply, which asks the proxy what it runs.
func (t *Target) recoverFiles() error {
	if err := t.forgetStages(); err != nil {
		return fmt.Errorf("remove old stages: %w", err)
	}
	j, err := t.readJournal()
	if err != nil {
		return err
	}
	owned, err := t.owned()
	if err != nil {
		return err
	}
	paths := append(owned, t.opt.Main)
	if j != nil {
		for path := range j.Files {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	if err := t.sweep(slices.Compact(paths)); err != nil {
		return fmt.Errorf("remove left-over files: %w", err)
	}
	if j == nil || t.complete(j) {
		return nil
	}
	t.log.Warn("commit was interrupted, previous files restored", "generation", j.Generation)
	return t.putBack(j)
}

// forgetStages removes what checkers were to look at.
func (t *Target) forgetStages() error {
	entries, err := os.ReadDir(t.state(""))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "stage") {
			err = errors.Join(err, os.RemoveAll(t.state(e.Name())))
		}
	}
	return err
}

// complete reports whether all files of a journal are on disk as it says. Servers in the main file
// may have changed since: that it is the new one its generation says, unless the old one has the same.
func (t *Target) complete(j *journal) bool {
	for path, sum := range j.Files {
		x, _, err := t.load(path)
		if err != nil || x == nil || x.digest() != sum && !(path == t.opt.Main && j.From != "" && x.contains(j.Generation)) {
			return false
		}
	}
	return true
}

// putBack restores the files of a journal and removes those that came with the failed change.
func (t *Target) putBack(j *journal) error {
	before, err := t.before(j)
	if err != nil {
		return err
	}
	have, err := t.readDisk(before)
	if err != nil {
		return err
	}
	if _, err := t.commit(have, before, lasting); err != nil {
		return fmt.Errorf("restore previous files: %w", err)
	}
	var fresh []string
	for path := range j.Files {
		if !before.has(path) {
			fresh = append(fresh, path)
		}
	}
	if err := t.remove(fresh); err != nil {
		return fmt.Errorf("restore previous files: %w", err)
	}
	return nil
}

// before returns the files of before a journal's change.
func (t *Target) before(j *journal) (tree, error) {
	return t.saved(j.Before)
}

// saved reads files that were saved.
func (t *Target) saved(files []savedFile) (tree, error) {
	before := tree{main: t.opt.Main}
	for _, f := range files {
		data, err := os.ReadFile(t.state(filepath.Join("saved", filepath.Base(f.Sum))))
		if err != nil {
			return tree{}, fmt.Errorf("read previous files: %w", err)
		}
		x := t.text(f.Path, data)
		if x.digest() != f.Sum {
			return tree{}, fmt.Errorf("read previous files: %s is not as it was saved", f.Path)
		}
		before.files = append(before.files, entry{f.Path, f.Mode, x})
	}
	before.sort()
	return before, nil
}

// begin writes the journal of a structural change.
func (t *Target) begin(before, want tree, instance string) (*journal, error) {
	j := &journal{Generation: want.generation, Instance: instance, Files: map[string]string{}, Pinned: t.pin != nil}
	if before.marked && before.generation != want.generation {
		j.From = before.generation
	}
	for _, f := range want.files {
		j.Files[f.path] = f.digest()
	}
	if err := os.MkdirAll(t.state("saved"), 0o700); err != nil {
		return nil, fmt.Errorf("save previous files: %w", err)
	}
	for _, f := range before.files {
		if err := t.save(f.text); err != nil {
			return nil, fmt.Errorf("save previous files: %w", err)
		}
		j.Before = append(j.Before, savedFile{Path: f.path, Mode: f.mode, Sum: f.digest()})
	}
	if err := syncFolder(t.state("saved")); err != nil {
		return nil, err
	}
	if err := t.writeState("journal.json", j); err != nil {
		return nil, err
	}
	return j, t.forgetSaved(j)
}

// save keeps a text under the name of its digest; what is there already is there as a whole.
func (t *Target) save(x *text) error {
	name := t.state(filepath.Join("saved", x.digest()))
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	p, err := renameio.NewPendingFile(name, renameio.WithTempDir(t.state("saved")), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return err
	}
	defer p.Cleanup() //nolint:errcheck // After a rename it does nothing; before, the first error counts.
	if err := x.write(p, "", nil); err != nil {
		return err
	}
	return p.CloseAtomicallyReplace()
}

// forgetSaved removes what neither a journal nor the history refers to any more.
func (t *Target) forgetSaved(j *journal) error {
	needed, err := t.sums()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(t.state("saved"))
	if err != nil {
		return fmt.Errorf("look at saved files: %w", err)
	}
	for _, e := range entries {
		if needed[e.Name()] || slices.ContainsFunc(j.Before, func(f savedFile) bool { return f.Sum == e.Name() }) {
			continue
		}
		if err := os.Remove(t.state(filepath.Join("saved", e.Name()))); err != nil {
			return fmt.Errorf("remove saved file: %w", err)
		}
	}
	return nil
}

// end closes the journal. What ran before a change that succeeded goes into the history.
func (t *Target) end(succeeded bool) error {
	if succeeded {
		j, err := t.readJournal()
		if err == nil && j != nil {
			err = t.keep(j)
		}
		if err != nil {
			return err
		}
	}
	err := os.Remove(t.state("journal.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("close journal: %w", err)
	}
	return syncFolder(t.state(""))
}

func (t *Target) readJournal() (*journal, error) {
	data, err := os.ReadFile(t.state("journal.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var j journal
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return &j, nil
}

// owned returns the files that earlier Applies wrote. Who holds the lock is the only one to write
// the list, so that it is read once.
func (t *Target) owned() ([]string, error) {
	if t.ours != nil {
		return slices.Clone(*t.ours), nil
	}
	paths, err := t.readOwned()
	if err == nil && t.lock != nil {
		t.ours = &paths
	}
	return slices.Clone(paths), err
}

func (t *Target) readOwned() ([]string, error) {
	data, err := os.ReadFile(t.state("owned.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read list of own files: %w", err)
	}
	var paths []string
	if err := json.Unmarshal(data, &paths); err != nil {
		return nil, fmt.Errorf("read list of own files: %w", err)
	}
	return slices.DeleteFunc(paths, func(p string) bool {
		return !filepath.IsLocal(p) || strings.HasPrefix(p, stateDir)
	}), nil
}

// own remembers the files of want, after removing those that it no longer has.
func (t *Target) own(want tree) error {
	owned, err := t.owned()
	if err != nil {
		return err
	}
	paths := make([]string, 0, len(want.files))
	for _, f := range want.files {
		paths = append(paths, f.path)
	}
	slices.Sort(paths)
	if slices.Equal(owned, paths) {
		return nil
	}
	stale := slices.DeleteFunc(owned, func(p string) bool { return want.has(p) })
	if err := t.remove(stale); err != nil {
		return err
	}
	return t.writeOwned(paths)
}

// announce adds the files of want to the own ones before they are written, so that a crash
// leaves none behind that nobody remembers.
func (t *Target) announce(want tree) error {
	owned, err := t.owned()
	if err != nil {
		return err
	}
	all := slices.Clone(owned)
	for _, f := range want.files {
		all = append(all, f.path)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if slices.Equal(owned, all) {
		return nil
	}
	return t.writeOwned(all)
}

func (t *Target) writeOwned(paths []string) error {
	t.ours = nil // Until it is written, the disk knows better.
	if err := t.writeState("owned.json", paths); err != nil {
		return err
	}
	t.ours = &paths
	return nil
}

func (t *Target) writeState(name string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := renameio.WriteFile(t.state(name), data, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncFolder(t.state(""))
}
