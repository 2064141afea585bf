package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// commit writes the files of want that differ from have. All are written beside their
// destinations, under names that match neither *.cfg nor conf.d/*, and synced, before the first
// is renamed: a full disk or a read-only folder changes nothing.
//
// What is to last has its folders synced too. A change of servers and map entries need not: a
// power cut may then undo the renames, each for itself, and what HAProxy starts with is an older
// file that is whole and loads with any other of the same structure. That is what it would find if
// the power had gone a moment earlier, and confgen mends it when it starts. The files themselves
// are always synced before they are renamed; else a power cut may leave an empty one.
func (t *Target) commit(have, want tree, lasting bool) (written []string, err error) {
	var pending []*pendingFile
	defer func() {
		for _, p := range pending {
			_ = p.Cleanup() // After a rename it does nothing; before, the first error counts.
		}
	}()
	for _, f := range want.files {
		p, err := t.pend(have, f)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.path, err)
		}
		if p != nil {
			pending = append(pending, p)
			t.reached("written " + p.rel)
		}
	}
	for _, p := range pending {
		// One alone is synced by its rename.
		if len(pending) > 1 && p.PendingFile != nil {
			if err := p.Sync(); err != nil {
				return nil, fmt.Errorf("write %s: %w", p.rel, err)
			}
		}
	}
	for _, p := range pending {
		if err := p.replace(); err != nil {
			return written, fmt.Errorf("replace %s: %w", p.rel, err)
		}
		written = append(written, p.rel)
		t.saw(p.rel, p.text)
		t.reached("renamed " + p.rel)
	}
	if !lasting {
		return written, nil
	}
	return written, syncFolders(pending)
}

// Whether a commit has to survive a power cut, as a whole.
const (
	lasting  = true
	fleeting = false
)

// saw notes what a file holds from now on. Its stamp is not trusted until it is older than a tick,
// so that the next look compares it.
func (t *Target) saw(rel string, x *text) { t.seen[rel] = seen{text: x} }

// pendingFile is a file on its way to its place.
type pendingFile struct {
	*renameio.PendingFile // nil for a destination that cannot be replaced
	rel                   string
	text                  *text
	dest                  string
}

// pend writes f beside its destination, or returns nil when content and mode are there already.
func (t *Target) pend(have tree, f entry) (*pendingFile, error) {
	dest, err := t.destination(f.path)
	if err != nil {
		return nil, err
	}
	before, statErr := os.Stat(dest)
	if statErr != nil && !errors.Is(statErr, fs.ErrNotExist) {
		return nil, statErr
	}
	mode := f.mode.Perm()
	if mode == 0 {
		mode = 0o644
		if before != nil {
			mode = before.Mode().Perm()
		}
	}
	if before != nil && have.has(f.path) && have.text(f.path).equal(f.text) {
		if before.Mode().Perm() == mode {
			return nil, nil
		}
		return nil, os.Chmod(dest, mode)
	}
	if mounted, err := isMountPoint(dest); err != nil || mounted {
		if err == nil && !t.opt.InPlace {
			err = bindMountError(dest)
		}
		return &pendingFile{rel: f.path, text: f.text, dest: dest}, err
	}
	p, err := renameio.NewPendingFile(dest, renameio.WithTempDir(filepath.Dir(dest)), renameio.WithStaticPermissions(mode))
	if err != nil {
		return nil, err
	}
	out := &pendingFile{PendingFile: p, rel: f.path, text: f.text, dest: dest}
	err = f.write(out, "", nil)
	if err == nil && before != nil {
		err = t.keepOwner(out, before)
	}
	if err != nil {
		return nil, errors.Join(err, p.Cleanup())
	}
	return out, nil
}

// keepOwner gives a file the owner of the one that it replaces. Only root can give files away;
// another user's commit goes on, and says so.
func (t *Target) keepOwner(p *pendingFile, before fs.FileInfo) error {
	owner, ok := before.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() && int(owner.Gid) == os.Getegid() {
		return nil
	}
	err := p.Chown(int(owner.Uid), int(owner.Gid))
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.note("owner of configuration files is not kept", fmt.Sprintf("%s belongs to user %d, group %d; this is user %d", p.rel, owner.Uid, owner.Gid, os.Geteuid()))
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep its owner: %w", err)
	}
	return nil
}

func (p *pendingFile) replace() error {
	if p.PendingFile == nil {
		return os.WriteFile(p.dest, p.text.bytes(), 0o644)
	}
	return p.CloseAtomicallyReplace()
}

// Cleanup removes the temporary file, if there still is one.
func (p *pendingFile) Cleanup() error {
	if p.PendingFile == nil {
		return nil
	}
	return p.PendingFile.Cleanup()
}

// syncFolders makes the renames survive a power cut.
func syncFolders(files []*pendingFile) error {
	done := map[string]bool{}
	for _, p := range files {
		dir := filepath.Dir(p.dest)
		if done[dir] {
			continue
		}
		done[dir] = true
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// destination is where a file really lies: symbolic links are followed, also one that points to
// a file that does not exist yet, and missing folders are made.
func (t *Target) destination(rel string) (string, error) {
	dest := t.path(rel)
	if err := os.MkdirAll(filepath.Dir(dest), t.opt.Perm); err != nil {
		return "", err
	}
	for range 40 {
		target, err := os.Readlink(dest)
		if err != nil {
			break // Not a link, or nothing there yet.
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(dest), target)
		}
		dest = target
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(dest))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(dest)), nil
}

// remove deletes files that are ours and no longer wanted, and folders that this leaves empty.
func (t *Target) remove(paths []string) error {
	var errs []error
	for _, rel := range paths {
		err := os.Remove(t.path(rel))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove stale file: %w", err))
			continue
		}
		if dir := filepath.Dir(t.path(rel)); dir != t.opt.Dir {
			_ = os.Remove(dir) // Fails, rightly, while anything is in it.
		}
	}
	return errors.Join(errs...)
}

// refuseBindMount finds at start what would only fail at the first commit.
func (t *Target) refuseBindMount(rel string) error {
	dest, err := filepath.EvalSymlinks(t.path(rel))
	if errors.Is(err, fs.ErrNotExist) || t.opt.InPlace {
		return nil
	}
	if err != nil {
		return fmt.Errorf("proxy target: %w", err)
	}
	mounted, err := isMountPoint(dest)
	if err != nil {
		return fmt.Errorf("proxy target: %w", err)
	}
	if mounted {
		return bindMountError(dest)
	}
	return nil
}

func bindMountError(dest string) error {
	return fmt.Errorf("%w: %s: a rename would not reach the proxy, so mount the folder %s instead (or allow writing in place)",
		ErrBindMount, dest, filepath.Dir(dest))
}

// isMountPoint looks the path up in this process's mount table.
func isMountPoint(path string) (bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("read mount table: %w", err)
	}
	defer f.Close() //nolint:errcheck // Only read.
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && unescape.Replace(fields[4]) == path {
			return true, nil
		}
	}
	return false, lines.Err()
}

// temporary matches what renameio names its files.
var temporary = regexp.MustCompile(`^\..+[0-9]{6,}$`)

// sweep removes temporary files of a process that was killed in the middle of a commit.
func (t *Target) sweep(paths []string) error {
	var errs []error
	for _, rel := range paths {
		dest, err := t.destination(rel)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		prefix := "." + filepath.Base(dest)
		entries, err := os.ReadDir(filepath.Dir(dest))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
			return !strings.HasPrefix(e.Name(), prefix) || !temporary.MatchString(e.Name()) || e.IsDir()
		}) {
			errs = append(errs, os.Remove(filepath.Join(filepath.Dir(dest), e.Name())))
		}
	}
	return errors.Join(errs...)
}
