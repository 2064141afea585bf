//go:build real

package proxy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fairway/confgen/render"
)

// mount mounts until the test ends. It needs root, as all real tests do.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount %s: %v (real tests run as root)", target, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(target, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

func TestApply_F33_bindMountedFile(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside.cfg")
	inside := filepath.Join(dir, "haproxy.cfg")
	for _, path := range []string{outside, inside} {
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, outside, inside, "", syscall.MS_BIND, "")
	_, err := NewHAProxy(Options{Dir: dir, Main: "haproxy.cfg"}, HAProxy{MasterSocket: dir + "/none"})
	if !errors.Is(err, ErrBindMount) || !strings.Contains(err.Error(), "mount the folder "+dir) {
		t.Errorf("%v, expected ErrBindMount and what to mount", err)
	}
	target := offlineTarget(t, dir, func(o *Options) { o.InPlace = true })
	commitOffline(t, target, file("haproxy.cfg", "global\n"))
	if got := read(t, outside); got != "global\n" {
		t.Errorf("outside, where the proxy reads it, is %q", got)
	}
}

func TestApply_F34_fullDisk(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=200k")
	target := offlineTarget(t, dir)
	commitOffline(t, target, file("haproxy.cfg", "global\n"), file("maps/a.map", "old a\n"))
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	// The map fits, the main file does not: neither may change.
	_, err := target.Apply(t.Context(), []render.File{
		file("maps/a.map", "new a\n"), file("haproxy.cfg", "global\n"+strings.Repeat("# filler\n", 20<<10)),
	})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("%v, expected no space", err)
	}
	if a, b := read(t, dir+"/haproxy.cfg"), read(t, dir+"/maps/a.map"); a != "global\n" || b != "old a\n" {
		t.Errorf("after a full disk: %q %q", a, b)
	}
	for _, pattern := range []string{"/.haproxy*", "/maps/.a*"} {
		if left, _ := filepath.Glob(dir + pattern); len(left) > 0 {
			t.Errorf("left over: %s", left)
		}
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	commitOffline(t, target, file("haproxy.cfg", "global\n"), file("maps/a.map", "new a\n"))
	if got := read(t, dir+"/maps/a.map"); got != "new a\n" {
		t.Errorf("with space again: %q", got)
	}
}

func TestApply_F34_readOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=200k")
	target := offlineTarget(t, dir)
	commitOffline(t, target, file("haproxy.cfg", "global\n"))
	if err := target.Close(); err != nil { // An open file would keep the folder from turning read-only.
		t.Fatal(err)
	}
	target = offlineTarget(t, dir)
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Apply(t.Context(), []render.File{file("haproxy.cfg", "global\n  # new\n")}); !errors.Is(err, syscall.EROFS) {
		t.Errorf("%v, expected a read-only file system", err)
	}
	if got := read(t, dir+"/haproxy.cfg"); got != "global\n" {
		t.Errorf("after a failure: %q", got)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	commitOffline(t, target, file("haproxy.cfg", "global\n  # new\n"))
}
