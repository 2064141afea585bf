package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// keepGenerations bounds the configurations that are kept to go back to. A large one is 20 MB.
const keepGenerations = 5

// Generation is a configuration that the proxy ran, and that is kept to go back to.
type Generation struct {
	Number    int       `json:"number"`    // 1 for the last one before what runs
	Structure string    `json:"structure"` // as the proxy reported it
	Until     time.Time `json:"until"`     // when another one took its place
}

// Pin is the generation that is held on to.
type Pin struct {
	Structure string    `json:"structure"`
	Since     time.Time `json:"since"`
}

// kept is a generation on disk.
type kept struct {
	Structure string      `json:"structure"`
	Until     time.Time   `json:"until"`
	Files     []savedFile `json:"files"`
}

// pinned is the generation that is held on to.
type pinned struct {
	kept
	Since time.Time `json:"since"`
	tree  *tree     // its files, once they were read
}

// ErrNoGeneration means that there is no such generation to go back to.
var ErrNoGeneration = errors.New("no such generation")

// Generations returns what there is to go back to, the latest first, and what is held on to.
func (t *Target) Generations() ([]Generation, *Pin, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, err := t.history()
	if err != nil {
		return nil, nil, err
	}
	out := make([]Generation, len(list))
	for i, g := range list {
		out[i] = Generation{i + 1, g.Structure, g.Until}
	}
	pin := t.pin
	if pin == nil {
		if pin, err = t.readPin(); err != nil || pin == nil {
			return out, nil, err
		}
	}
	return out, &Pin{pin.Structure, pin.Since}, nil
}

// Rollback has every Apply from now on, also after a restart, keep the structure of an earlier
// generation, until Release. Servers, where the proxy can be told of them at run time, go on to
// follow what is applied. which is a number of Generations or the beginning of a structure's hash.
// A generation of which the saved files are damaged is refused.
func (t *Target) Rollback(which string) (Generation, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.claim(); err != nil {
		return Generation{}, err
	}
	list, err := t.history()
	if err != nil {
		return Generation{}, err
	}
	at := slices.IndexFunc(list, func(g kept) bool { return len(which) >= 4 && strings.HasPrefix(g.Structure, which) })
	if n, err := strconv.Atoi(which); at < 0 && err == nil && n >= 1 && n <= len(list) {
		at = n - 1
	}
	if at < 0 {
		return Generation{}, fmt.Errorf("%w: %s; there are %d to go back to", ErrNoGeneration, which, len(list))
	}
	pin := &pinned{kept: list[at], Since: time.Now()}
	if err := t.readPinned(pin); err != nil {
		return Generation{}, err
	}
	if err := t.writeState("pin.json", pin); err != nil {
		return Generation{}, err
	}
	t.pin, t.rejected = pin, nil
	return Generation{at + 1, pin.Structure, pin.Until}, nil
}

// Release ends what Rollback began; the next Apply makes the proxy equal to its files again. It
// returns what was held on to, nil for nothing.
func (t *Target) Release() (*Pin, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.claim(); err != nil {
		return nil, err
	}
	if t.pin == nil {
		return nil, nil
	}
	if err := os.Remove(t.state("pin.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("release generation: %w", err)
	}
	pin := &Pin{t.pin.Structure, t.pin.Since}
	t.pin, t.rejected = nil, nil
	return pin, syncFolder(t.state(""))
}

// ApplyPinned makes disk and proxy equal to the generation that is held on to, as it was saved.
func (t *Target) ApplyPinned(ctx context.Context) (Result, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.claim(); err != nil {
		return Result{}, err
	}
	if t.pin == nil {
		return Result{}, fmt.Errorf("apply: %w is held on to", ErrNoGeneration)
	}
	if err := t.readPinned(t.pin); err != nil {
		return Result{}, err
	}
	res := Result{Action: None, Pinned: t.pin.Structure}
	err := t.applyTree(ctx, *t.pin.tree, &res)
	return res, err
}

// held returns what is to stand while a generation is held on to: its structure, with the servers
// of what is wanted.
func (t *Target) held(want tree) (tree, error) {
	if err := t.readPinned(t.pin); err != nil {
		return tree{}, err
	}
	return t.driver.merge(*t.pin.tree, want), nil
}

func (t *Target) readPinned(pin *pinned) error {
	if pin.tree != nil {
		return nil
	}
	files, err := t.saved(pin.Files)
	if err != nil {
		return fmt.Errorf("go back to generation %s: %w", pin.Structure, err)
	}
	files.generation = pin.Structure
	files.marked = slices.ContainsFunc(files.files, func(f entry) bool { return f.contains(pin.Structure) })
	pin.tree = &files
	return nil
}

func (t *Target) readPin() (*pinned, error) {
	var pin pinned
	found, err := t.readState("pin.json", &pin)
	if err != nil || !found {
		return nil, err
	}
	return &pin, nil
}

func (t *Target) history() ([]kept, error) {
	var list []kept
	_, err := t.readState("history.json", &list)
	return list, err
}

// readState reads a file of the state folder, if there is one.
func (t *Target) readState(name string, content any) (found bool, err error) {
	data, err := os.ReadFile(t.state(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(data, content); err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return true, nil
}

// keep adds what ran before a change that succeeded to the history. What is tried while a
// generation is held on to is not added: the numbers stay those that the operator has seen.
func (t *Target) keep(j *journal) error {
	if j.From == "" || j.Pinned {
		return nil
	}
	list, err := t.history()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(g kept) bool { return g.Structure == j.From })
	list = slices.Insert(list, 0, kept{j.From, time.Now(), j.Before})
	return t.writeState("history.json", list[:min(len(list), keepGenerations)])
}

// sums returns the names of the saved files that are still needed besides those of a journal.
func (t *Target) sums() (map[string]bool, error) {
	list, err := t.history()
	if err != nil {
		return nil, err
	}
	if t.pin != nil {
		list = append(list, t.pin.kept)
	}
	needed := map[string]bool{}
	for _, g := range list {
		for _, f := range g.Files {
			needed[filepath.Base(f.Sum)] = true
		}
	}
	return needed, nil
}
