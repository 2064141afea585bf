//go:build real

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// While a reload takes its time, the catalog is read on, and all that changes meanwhile is one
// reload after it. FAIRWAY_SLOW_RELOAD=20s has it take longer.
func TestRun_F40_aSlowReload(t *testing.T) {
	length := 2 * time.Second
	if text := os.Getenv("FAIRWAY_SLOW_RELOAD"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, "haproxy")
	a := r.web("a")
	r.register("web", a, "passing", host("cluster.test"))
	dir := t.TempDir()
	script := filepath.Join(dir, "reload")
	text := fmt.Sprintf("#!/bin/sh\necho >>%[1]s/begun\nsleep %[2]g\nkill -USR2 $(cat %[1]s/pid)\n", dir, length.Seconds())
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	begun := func() int {
		data, _ := os.ReadFile(filepath.Join(dir, "begun"))
		return len(data)
	}
	c := r.confgen("--reload", "command:"+script, "--reload-timeout", "60s")
	child := r.haproxy()
	c.ready()
	r.answers("cluster.test", "a")
	if err := os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(child.PID())), 0o600); err != nil {
		t.Fatal(err)
	}
	before := c.metric("fairway_confgen_reloads_total")
	r.register("first", r.web("first"), "passing", host("first.test"))
	testbed.Eventually(t, 10*time.Second, "the reload has begun", func() error {
		if begun() != 1 {
			return fmt.Errorf("%d", begun())
		}
		return nil
	})
	began := time.Now()
	for i := range 5 {
		name := fmt.Sprintf("more%d", i)
		r.register(name, r.web(name), "passing", host(name+".test"))
	}
	testbed.Eventually(t, length-length/4, "reading goes on", func() error {
		if s := c.status(); s.Catalog.Routed != 7 || s.Snapshot.Version == s.Apply.Applied {
			return fmt.Errorf("%+v", s.Catalog)
		}
		return nil
	})
	if begun() != 1 {
		t.Errorf("%d reloads at once", begun())
	}
	for i := range 5 {
		testbed.Eventually(t, 2*length+20*time.Second, "everything is routed", func() error {
			if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%d/", r.port), fmt.Sprintf("more%d.test", i)); code != 200 {
				return fmt.Errorf("%d %s", code, body)
			}
			return nil
		})
	}
	if time.Since(began) < length {
		t.Error("the reload was not slow")
	}
	testbed.Eventually(t, 20*time.Second, "two reloads in all", func() error {
		if n := c.metric("fairway_confgen_reloads_total") - before; n != 2 {
			return fmt.Errorf("%g", n)
		}
		return nil
	})
}
