package proxy

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/confgen/render"

	"go.uber.org/goleak"
)

// offlineTarget is a target for a HAProxy that does not run: Apply commits and says so.
func offlineTarget(t *testing.T, dir string, change ...func(*Options)) *Target {
	t.Helper()
	opt := Options{Dir: dir, Main: "haproxy.cfg"}
	for _, f := range change {
		f(&opt)
	}
	target, err := NewHAProxy(opt, HAProxy{StatsSocket: filepath.Join(dir, "no.sock"), MasterSocket: filepath.Join(dir, "none.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

func commitOffline(t *testing.T, target *Target, files ...render.File) Result {
	t.Helper()
	res, err := target.Apply(t.Context(), files)
	if !errors.Is(err, ErrNotRunning) {
		t.Fatalf("apply: %v, expected ErrNotRunning", err)
	}
	return res
}

func file(path, data string) render.File { return render.File{Path: path, Data: []byte(data)} }

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestApply_F5_F6_writesOnceIntoANewFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not/there")
	target := offlineTarget(t, dir, func(o *Options) { o.Perm = 0o750 })
	files := []render.File{file("haproxy.cfg", "global\n  description "+render.Generation+"\n"), file("maps/a.map", "a b\n")}
	changes, err := target.Diff(files)
	if err != nil || len(changes) != 2 || changes[0].Path != "maps/a.map" || changes[1].Before != nil {
		t.Errorf("diff: %+v %v", changes, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a diff must touch nothing")
	}
	res := commitOffline(t, target, files...)
	if !slices.Equal(res.Written, []string{"maps/a.map", "haproxy.cfg"}) {
		t.Errorf("written %q, expected the map before the file that uses it", res.Written)
	}
	if got := read(t, filepath.Join(dir, "haproxy.cfg")); got != "global\n  description "+res.Generation+"\n" || len(res.Generation) != 16 {
		t.Errorf("haproxy.cfg is %q for generation %q", got, res.Generation)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("folder: %v %v", info.Mode(), err)
	}
	if res := commitOffline(t, target, files...); len(res.Written) != 0 {
		t.Errorf("F5: written again: %q", res.Written)
	}
	if changes, err := target.Diff(files); err != nil || len(changes) != 0 {
		t.Errorf("F5: diff: %+v %v", changes, err)
	}
}

func TestApply_staleFilesOfOursGo(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "maps", "theirs.map")
	target := offlineTarget(t, dir)
	main := file("haproxy.cfg", "global\n")
	commitOffline(t, target, main, file("maps/old.map", "a b\n"), file("errors/503.http", "x"))
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = target.Close()
	target = offlineTarget(t, dir) // It also knows after a restart what is its own.
	commitOffline(t, target, main)
	if left, _ := filepath.Glob(filepath.Join(dir, "[^.]*", "*")); !slices.Equal(left, []string{mine}) {
		t.Errorf("left: %q, expected only the file of somebody else", left)
	}
}

func TestApply_F32_symlinkIsFollowed(t *testing.T) {
	dir, real := t.TempDir(), t.TempDir()
	for _, missing := range []bool{true, false} {
		link := filepath.Join(dir, "haproxy.cfg")
		_ = os.Remove(link)
		if err := os.Symlink(filepath.Join(real, "actual.cfg"), link); err != nil {
			t.Fatal(err)
		}
		if !missing {
			if err := os.WriteFile(filepath.Join(real, "actual.cfg"), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		target := offlineTarget(t, dir)
		commitOffline(t, target, file("haproxy.cfg", "global\n"))
		_ = target.Close()
		if got := read(t, filepath.Join(real, "actual.cfg")); got != "global\n" {
			t.Errorf("the link's target holds %q", got)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link became %v %v", info.Mode(), err)
		}
	}
}

func TestApply_F35_modeAndOwner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 123, 456); err != nil {
			t.Fatal(err)
		}
	}
	target := offlineTarget(t, dir)
	commitOffline(t, target, file("haproxy.cfg", "global\n"))
	expect := func(mode fs.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v %v, expected %v", info.Mode(), err, mode)
		}
		if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 && (owner.Uid != 123 || owner.Gid != 456) {
			t.Errorf("owner %d:%d, expected 123:456", owner.Uid, owner.Gid)
		}
	}
	expect(0o640)
	f := file("haproxy.cfg", "global\n")
	f.Mode = 0o600
	if target.loaded != nil {
		t.Fatal("nothing runs")
	}
	f.Data = []byte("global\n\n") // Same structure, other bytes, configured mode.
	commitOffline(t, target, f)
	expect(0o600)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	commitOffline(t, target, f)
	expect(0o600)
}

func TestApply_F37_secondRefuses(t *testing.T) {
	dir := t.TempDir()
	first, second := offlineTarget(t, dir), offlineTarget(t, dir)
	if err := first.Lock(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("lock: %v, expected ErrLocked", err)
	}
	if _, err := second.Apply(t.Context(), []render.File{file("haproxy.cfg", "global\n")}); !errors.Is(err, ErrLocked) {
		t.Errorf("apply: %v, expected ErrLocked", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "haproxy.cfg")); err == nil {
		t.Error("the second wrote")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(); err != nil {
		t.Errorf("after the first ended: %v", err)
	}
}

func TestApply_badFiles(t *testing.T) {
	target := offlineTarget(t, t.TempDir())
	for name, files := range map[string][]render.File{
		"outside":     {file("haproxy.cfg", "global\n"), file("../x", "")},
		"absolute":    {file("haproxy.cfg", "global\n"), file("/etc/x", "")},
		"state":       {file("haproxy.cfg", "global\n"), file(".fairway/lock", "")},
		"twice":       {file("haproxy.cfg", "global\n"), file("haproxy.cfg", "x")},
		"not clean":   {file("haproxy.cfg", "global\n"), file("a//b", "x")},
		"no main":     {file("other.cfg", "global\n")},
		"empty main":  {file("haproxy.cfg", " \n")},
		"nothing":     nil,
		"parent only": {file("haproxy.cfg", "global\n"), file("..", "")},
	} {
		if _, err := target.Apply(t.Context(), files); err == nil || errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v, expected a refusal", name, err)
		}
	}
}

func TestApply_F24_F29_stageIsTheFolderAsItWillStand(t *testing.T) {
	dir := t.TempDir()
	for path, data := range map[string]string{"certs/site.pem": "cert", "conf.d/user.conf": "user", "conf.d/ours.conf": "old", "sub/x": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The checker prints what it sees: relative paths, absolute ones, and what is all there.
	script := `cat "$1"; cat conf.d/*.conf; cat certs/site.pem; cat "$(sed -n 's/^map //p' "$1")"; ls -A; exit 1`
	target := offlineTarget(t, dir, func(o *Options) {
		o.Check = Check{Command: []string{"/bin/sh", "-c", script, "check", "{{file}}"}}
	})
	_, err := target.Apply(t.Context(), []render.File{
		file("haproxy.cfg", "map "+dir+"/maps/new.map\ninclude "+dir+"/conf.d/*.conf\nsocket "+dir+"/run/x.sock\n"),
		file("maps/new.map", "NEWMAP\n"), file("conf.d/ours.conf", "new\n"),
	})
	var rejected *RejectedError
	if !errors.As(err, &rejected) || rejected.By != "check" {
		t.Fatalf("%v, expected a rejection", err)
	}
	want := strings.Join([]string{
		"map " + dir + "/maps/new.map", "include " + dir + "/conf.d/*.conf", "socket " + dir + "/run/x.sock",
		"new", "usercertNEWMAP", "certs", "conf.d", "haproxy.cfg", "maps", "sub",
	}, "\n")
	if rejected.Output != want {
		t.Errorf("the checker saw\n%s\nexpected\n%s", rejected.Output, want)
	}
	if got := read(t, filepath.Join(dir, "conf.d/ours.conf")); got != "old" {
		t.Errorf("a refused file was written: %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "maps")); err == nil {
		t.Error("a folder of refused files was made")
	}
}

func TestCheck_F25_hangingCheckerIsKilledWithItsGroup(t *testing.T) {
	dir := t.TempDir()
	pids := filepath.Join(t.TempDir(), "pids")
	script := `sleep 60 & echo $! >` + pids + `; echo said; wait`
	target := offlineTarget(t, dir, func(o *Options) {
		o.Check = Check{Command: []string{"/bin/sh", "-c", script}, Timeout: 300 * time.Millisecond}
	})
	began := time.Now()
	_, err := target.Apply(t.Context(), []render.File{file("haproxy.cfg", "global\n")})
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !strings.Contains(rejected.Output, "said") || !strings.Contains(rejected.Output, "300ms") {
		t.Errorf("%v, expected a rejection that names the timeout and what the checker said", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %s", took)
	}
	var pid int
	if _, err := scan(read(t, pids), &pid); err != nil {
		t.Fatal(err)
	}
	if name, _, err := describe(pid); err == nil {
		t.Errorf("process %d (%s) of the checker lives on", pid, name)
	}
	if _, err := os.Stat(filepath.Join(dir, "haproxy.cfg")); err == nil {
		t.Error("written although the checker gave no verdict")
	}
}

func TestCheck_missingCheckerIsNoRejection(t *testing.T) {
	target := offlineTarget(t, t.TempDir(), func(o *Options) { o.Check = Check{Command: []string{"/no/such/checker"}} })
	_, err := target.Apply(t.Context(), []render.File{file("haproxy.cfg", "global\n")})
	var rejected *RejectedError
	if err == nil || errors.As(err, &rejected) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, expected the missing program", err)
	}
}

func TestMain_leaks(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	target := offlineTarget(t, t.TempDir(), func(o *Options) { o.Wake = func() {} })
	commitOffline(t, target, file("haproxy.cfg", "global\n"))
	if err := target.Close(); err != nil {
		t.Error(err)
	}
}
