//go:build real

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// A folder that cannot be written at the start is shown, and used as soon as it can be.
func TestRun_F34_folderThatCannotBeWrittenAtStart(t *testing.T) {
	for _, withConsul := range []bool{true, false} {
		t.Run(fmt.Sprintf("consul=%t", withConsul), func(t *testing.T) {
			r := newRig(t, "haproxy")
			r.register("web", r.web("a"), "passing", host("cluster.test"))
			if !withConsul {
				r.consul.Stop()
			}
			if err := syscall.Mount("tmpfs", r.dir, "tmpfs", syscall.MS_RDONLY, "size=8m"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := syscall.Unmount(r.dir, syscall.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			c := r.confgen()
			testbed.Eventually(t, 10*time.Second, "it is shown", func() error {
				code, body := get(t, "http://"+c.addr+"/readyz", "")
				if s := c.status(); code != 503 || !strings.Contains(body, "read-only") || !strings.Contains(s.Apply.Error, "read-only") {
					return fmt.Errorf("%d %q, %q", code, body, s.Apply.Error)
				}
				return nil
			})
			if err := syscall.Mount("", r.dir, "", syscall.MS_REMOUNT, ""); err != nil {
				t.Fatal(err)
			}
			if !withConsul {
				testbed.Eventually(t, 10*time.Second, "the trouble is over", func() error {
					if s := c.status(); s.Apply.Error != "" {
						return errors.New(s.Apply.Error)
					}
					return nil
				})
				return
			}
			r.haproxy()
			c.ready()
			r.answers("cluster.test", "a")
			if n := strings.Count(r.log.String(), "[WARN]  confgen: not ready"); n != 1 {
				t.Errorf("said %d times", n)
			}
		})
	}
}

// Whoever starts a second confgen, or mounts a file by itself, has to know at once.
func TestRun_F33_F37_mistakesEndTheStart(t *testing.T) {
	r := newRig(t, "haproxy")
	file := filepath.Join(r.dir, "haproxy.cfg")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(file, file, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	args := []string{"confgen", "--dir", r.dir, "--consul-addr", r.consul.Addr, "--http-addr", "off"}
	err := newApp().RunContext(t.Context(), args)
	if umount := syscall.Unmount(file, 0); umount != nil {
		t.Fatal(umount)
	}
	if err == nil || !strings.Contains(err.Error(), "mount the folder") {
		t.Errorf("F33: %v", err)
	}
	c := r.confgen()
	testbed.Eventually(t, 5*time.Second, "the first holds the folder", func() error {
		_, err := os.Stat(filepath.Join(r.dir, ".fairway", "lock"))
		return err
	})
	if err := newApp().RunContext(t.Context(), args); err == nil || !strings.Contains(err.Error(), "another confgen") {
		t.Errorf("F37: %v", err)
	}
	c.stop()
}

// A healthy start is nothing to warn of, and a template's change is named.
func TestRun_F69_quietStartAndReasons(t *testing.T) {
	for _, kind := range []string{"haproxy", "nginx"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, kind)
			r.register("web", r.web("a"), "passing", host("cluster.test"))
			file := filepath.Join(t.TempDir(), "extra.tmpl")
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("one")
			c := r.confgen("--template", file, "--", testbed.Program(t, kind))
			reason := func(want string) {
				t.Helper()
				testbed.Eventually(t, 10*time.Second, "the reason is "+want, func() error {
					if s := c.status(); s.Apply.Last == nil || s.Apply.Last.Reason != want {
						return fmt.Errorf("%+v", s.Apply)
					}
					return nil
				})
			}
			c.ready()
			r.answers("cluster.test", "a")
			if strings.Contains(r.log.String(), "[WARN]") || strings.Contains(r.log.String(), "[ERROR]") {
				t.Errorf("warned of a healthy start:\n%s", r.log)
			}
			reason("start")
			write("two")
			reason("a template changed")
			r.register("web", r.web("b"), "passing", host("cluster.test"))
			reason("the catalog changed")
		})
	}
}
