// Package certs is the operator's certificate store: folders and files of PEM, read again when
// they change, checked before anything is served with them.
//
// What a name in the store is made of, in a folder:
//
//	NAME.pem               certificate, chain and key in one
//	NAME.crt + NAME.key    certificate and chain, and the key (also .cer, .cert or .pem + .key)
//	NAME/fullchain.pem + NAME/privkey.pem    as certbot leaves them; also tls.crt + tls.key
//	NAME.pem or NAME.crt   certificates of authorities alone: for client-ca and backend.verify
//	NAME.ocsp              beside a certificate: an OCSP response for it, as DER
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
	"syscall"
	"time"
)

// Certificate is one that may be served.
type Certificate struct {
	Name      string
	Hosts     []string // lower case, sorted; "*.example.com" for a wildcard
	NotBefore time.Time
	NotAfter  time.Time
	PEM       []byte  // certificate, chain, key; never to be logged
	File      string  // where it comes from
	Digest    string  // of PEM
	Staple    *Staple // nil for none
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

	mu      sync.Mutex
	stamp   string
	periods []period // of all that was read last, refused or not
	now     Contents
}

// period is when something is valid, both ends included.
type period struct{ from, until time.Time }

func (p period) at(now time.Time) string {
	switch {
	case now.Before(p.from):
		return "not yet"
	case now.After(p.until):
		return "no more"
	}
	return "valid"
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

// Refresh reads everything again if a file has changed since, if something has begun or ceased to
// be valid, or in any case with force. It reports whether what may be served, or what is wrong, is
// different now.
func (s *Store) Refresh(now time.Time, force bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, faults := list(s.paths)
	stamp := stampOf(files, faults)
	if !force && stamp+s.validity(now) == s.stamp {
		return false
	}
	next := s.read(files, faults, now)
	s.stamp = stamp + s.validity(now)
	if s.now.Version > 0 && next.equal(s.now) {
		return false
	}
	next.Version = s.now.Version + 1
	s.now = next
	return true
}

// validity is the part of a stamp that the clock changes, also one that is set back.
func (s *Store) validity(now time.Time) string {
	list := make([]string, 0, len(s.periods))
	for _, p := range s.periods {
		list = append(list, p.at(now))
	}
	return strings.Join(list, ",")
}

// read makes certificates and authorities of files. What is there under a name stays when the
// file that is to take its place is of no use; what has no file any more goes.
func (s *Store) read(files []file, faults []Fault, now time.Time) Contents {
	c := Contents{Faults: faults}
	used := make(map[string]bool)
	s.periods = nil
	named := byName(files)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		used[name] = s.take(&c, name, named[name], now)
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
	s.checkStaples(&c, now)
	c.sort()
	return c
}

// take adds what the files of a name are to c. It reports whether they are meant for the store.
func (s *Store) take(c *Contents, name string, files []file, now time.Time) bool {
	files, responses := splitResponses(files)
	cert, authority, err := assemble(name, files)
	if err == nil && cert != nil {
		s.periods = append(s.periods, period{cert.NotBefore, cert.NotAfter})
		err = cert.validAt(now)
	}
	switch {
	case errors.Is(err, errNothing) && len(responses) == 0:
		return false
	case errors.Is(err, errNothing):
		c.Faults = append(c.Faults, Fault{File: responses[0].path, Reason: "is an OCSP response without a certificate beside it: want NAME.pem or NAME.crt"})
	case err != nil:
		old, kept := s.before(name)
		if kept {
			c.Certificates = append(c.Certificates, old)
		}
		c.Faults = append(c.Faults, Fault{File: files[0].path, Reason: err.Error(), Kept: kept})
	case authority != nil:
		c.Authorities = append(c.Authorities, *authority)
	default:
		s.staple(c, cert, responses, now)
		c.Certificates = append(c.Certificates, *cert)
	}
	return true
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
	cert, _, err := assemble(name, []file{{path: name, name: name, data: data}})
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
	return slices.EqualFunc(c.Certificates, o.Certificates, func(a, b Certificate) bool {
		return a.Name == b.Name && a.Digest == b.Digest && a.Staple.Equal(b.Staple)
	}) &&
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
	name = strings.TrimSuffix(name, responseExt) // also NAME.pem.ocsp, as HAProxy has it
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

// stampOfFile is what changes with a file, or with who may read it.
func stampOfFile(info os.FileInfo) string {
	stamp := fmt.Sprintf("%d %d %v", info.Size(), info.ModTime().UnixNano(), info.Mode())
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		stamp += fmt.Sprintf(" %d:%d", sys.Uid, sys.Gid)
	}
	return stamp
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
