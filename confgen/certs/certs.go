// Package certs is the operator's certificate store: folders and files of PEM, read again when
// they change, checked before anything is served with them. It needs nothing but the standard
// library.
//
// What a name in the store is made of, in a folder:
//
//	NAME.pem               certificate, chain and key in one
//	NAME.crt + NAME.key    certificate and chain, and the key (also .cer, .cert or .pem + .key)
//	NAME/fullchain.pem + NAME/privkey.pem    as certbot leaves them; also tls.crt + tls.key
//	NAME.pem or NAME.crt   certificates of authorities alone: for client-ca and backend.verify
//
// The content decides, not the extension; a Swarm secret without one is fine. Other files are
// left alone.
package certs

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Certificate is one that may be served.
type Certificate struct {
	Name     string
	Hosts    []string // lower case, sorted; "*.example.com" for a wildcard
	NotAfter time.Time
	PEM      []byte // certificate, chain, key; never to be logged
	File     string // where it comes from
	Digest   string // of PEM
}

// Authority is a bundle of certificates that sign others.
type Authority struct {
	Name   string
	PEM    []byte
	Digest string
}

// Fault is a file that cannot be used. Kept means that what was read before under its name is
// served on.
type Fault struct {
	File   string
	Reason string
	Kept   bool
}

// Contents is what a store holds at one moment, all sorted.
type Contents struct {
	Certificates []Certificate
	Authorities  []Authority
	Faults       []Fault
	Version      int // counts changes; 0 before the first reading
}

// Store reads folders and files. Its methods may be called by several goroutines.
type Store struct {
	paths []string
	last  func(name string) []byte

	mu    sync.Mutex
	stamp string
	now   Contents
}

// New returns a store of folders and files; nothing is read yet. last returns what was served
// under a name by an earlier process, nil for nothing: a file that is broken when the program
// starts does not take away what worked until then.
func New(paths []string, last func(name string) []byte) *Store {
	return &Store{paths: slices.Clone(paths), last: last}
}

// Contents returns what was read last.
func (s *Store) Contents() Contents {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// Refresh reads everything again if a file has changed since, or in any case with force. It
// reports whether what may be served, or what is wrong, is different now.
func (s *Store) Refresh(now time.Time, force bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, faults := list(s.paths)
	stamp := stampOf(files, faults)
	if !force && stamp == s.stamp {
		return false
	}
	s.stamp = stamp
	next := s.read(files, faults, now)
	if s.now.Version > 0 && next.equal(s.now) {
		return false
	}
	next.Version = s.now.Version + 1
	s.now = next
	return true
}

// read makes certificates and authorities of files. What is there under a name stays when the
// file that is to take its place is of no use; what has no file any more goes.
func (s *Store) read(files []file, faults []Fault, now time.Time) Contents {
	c := Contents{Faults: faults}
	used := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(byName(files))) {
		parts := byName(files)[name]
		cert, authority, err := assemble(name, parts, now)
		switch {
		case errors.Is(err, errNothing):
			continue
		case err != nil:
			old, kept := s.before(name)
			if kept {
				c.Certificates = append(c.Certificates, old)
			}
			c.Faults = append(c.Faults, Fault{File: parts[0].path, Reason: err.Error(), Kept: kept})
		case authority != nil:
			c.Authorities = append(c.Authorities, *authority)
		default:
			c.Certificates = append(c.Certificates, *cert)
		}
		used[name] = true
	}
	// A folder that cannot be read is not an empty one.
	if len(faults) > 0 {
		for _, old := range s.now.Certificates {
			if !used[old.Name] {
				c.Certificates = append(c.Certificates, old)
			}
		}
		for _, old := range s.now.Authorities {
			if !used[old.Name] {
				c.Authorities = append(c.Authorities, old)
			}
		}
		for i := range faults {
			c.Faults[i].Kept = s.now.Version > 0
		}
	}
	c.sort()
	return c
}

// before returns what was served under a name.
func (s *Store) before(name string) (Certificate, bool) {
	i := slices.IndexFunc(s.now.Certificates, func(c Certificate) bool { return c.Name == name })
	if i >= 0 {
		return s.now.Certificates[i], true
	}
	if s.now.Version > 0 || s.last == nil {
		return Certificate{}, false
	}
	data := s.last(name)
	if data == nil {
		return Certificate{}, false
	}
	cert, _, err := assemble(name, []file{{path: name, name: name, data: data}}, time.Time{})
	if err != nil || cert == nil {
		return Certificate{}, false
	}
	return *cert, true
}

func (c *Contents) sort() {
	slices.SortFunc(c.Certificates, func(a, b Certificate) int { return compare(a.Name, b.Name) })
	slices.SortFunc(c.Authorities, func(a, b Authority) int { return compare(a.Name, b.Name) })
	slices.SortFunc(c.Faults, func(a, b Fault) int { return compare(a.File, b.File) })
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (c *Contents) equal(o Contents) bool {
	return slices.EqualFunc(c.Certificates, o.Certificates, func(a, b Certificate) bool { return a.Name == b.Name && a.Digest == b.Digest }) &&
		slices.EqualFunc(c.Authorities, o.Authorities, func(a, b Authority) bool { return a.Name == b.Name && a.Digest == b.Digest }) &&
		slices.Equal(c.Faults, o.Faults)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])[:16]
}

// file is a part of what stands under a name.
type file struct {
	path, name string
	stamp      string
	data       []byte // nil: to be read
}

// most bounds what is read of one file: the bundle of all public authorities has 250 kB.
const most = 4 << 20

// list finds the files of all paths, one folder deep, sorted. A path that cannot be read is a
// fault.
func list(paths []string) (files []file, faults []Fault) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			err = walk(path, "", &files)
		} else if err == nil {
			files = append(files, file{path: path, name: baseName(filepath.Base(path)), stamp: stampOfFile(info)})
		}
		if err != nil {
			faults = append(faults, Fault{File: path, Reason: reasonOf(err)})
		}
	}
	return files, faults
}

func walk(dir, as string, files *[]file) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			continue // Also Kubernetes' ..data, and what is being written.
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // through links: live/NAME/fullchain.pem is one
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue // gone since, or a link to nowhere
		case err != nil:
			return err
		case info.IsDir() && as == "":
			if err := walk(path, e.Name(), files); err != nil {
				return err
			}
		case info.Mode().IsRegular() && as == "":
			*files = append(*files, file{path: path, name: baseName(e.Name()), stamp: stampOfFile(info)})
		case info.Mode().IsRegular() && slices.Contains(inFolders, e.Name()):
			*files = append(*files, file{path: path, name: as, stamp: stampOfFile(info)})
		}
	}
	return nil
}

// inFolders are the files of a folder that belongs to one name: certbot's, and Kubernetes'.
var inFolders = []string{"fullchain.pem", "privkey.pem", "tls.crt", "tls.key"}

// extensions say of a file that it is meant for the store. They are no part of its name there.
var extensions = []string{".pem", ".crt", ".cer", ".cert", ".key"}

// baseName is a file's name without the extension that says what it is.
func baseName(name string) string {
	if ext := filepath.Ext(name); slices.Contains(extensions, ext) {
		return strings.TrimSuffix(name, ext)
	}
	return name
}

func byName(files []file) map[string][]file {
	m := make(map[string][]file)
	for _, f := range files {
		m[f.name] = append(m[f.name], f)
	}
	return m
}

func stampOfFile(info os.FileInfo) string {
	return fmt.Sprintf("%d %d %v", info.Size(), info.ModTime().UnixNano(), info.Mode())
}

func stampOf(files []file, faults []Fault) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s %s\n", f.path, f.stamp)
	}
	for _, f := range faults {
		fmt.Fprintf(h, "%s %s\n", f.File, f.Reason)
	}
	return string(h.Sum(nil))
}

// reasonOf is an error without the path that its Fault names anyway.
func reasonOf(err error) string {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return path.Op + ": " + path.Err.Error()
	}
	return err.Error()
}
