package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"fairway/internal/load"
)

func TestRun(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "cluster.test" && r.URL.RequestURI() == "/shop?a=b" {
			w.Header().Set("X-Served-By", "web-1")
			fmt.Fprint(w, "hello")
			return
		}
		http.NotFound(w, r)
	}))
	defer web.Close()

	var stdout, stderr strings.Builder
	args := []string{"-url", web.URL + "/shop?a=b", "-host", "cluster.test", "-requests", "20", "-max-failures", "0"}
	if code := run(append(args, "-json"), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s%s", code, &stdout, &stderr)
	}
	var report load.Report
	if err := json.Unmarshal([]byte(stdout.String()), &report); err != nil {
		t.Fatal(err)
	}
	if report.Requests != 20 || report.Failed != 0 || report.Servers["web-1"] != 20 {
		t.Errorf("want 20 answers of web-1, got %+v", report)
	}

	stdout.Reset()
	if code := run([]string{"-url", web.URL, "-requests", "3", "-max-failures", "2"}, &stdout, &stderr); code != exitFailed {
		t.Errorf("three failures, two allowed: exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(stdout.String(), "404: 3") {
		t.Errorf("the report lacks the status:\n%s", &stdout)
	}
}

func TestRun_interrupted(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Connection") == "" { // Once the workers run, an interrupt ends them.
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGINT)
		}
	}))
	defer web.Close()
	var stdout, stderr strings.Builder
	if code := run([]string{"-url", web.URL, "-keepalive", "1", "-new", "0"}, &stdout, &stderr); code != exitOK {
		t.Errorf("exit code %d: %s", code, &stderr)
	}
	if !strings.Contains(stdout.String(), "failed 0") {
		t.Errorf("an interrupt lost the report or broke a request:\n%s", &stdout)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"-url", "https://cluster.test/"},
		{"-url", "cluster.test"},
		{"-url", "http://x/", "-keepalive", "many"},
		{"-url", "http://x/", "-keepalive", "0", "-new", "0"},
		{"-url", "http://x/", "now"},
	} {
		var stdout, stderr strings.Builder
		if code := run(args, &stdout, &stderr); code != exitUsage {
			t.Errorf("%q: exit code %d, want %d", args, code, exitUsage)
		}
		if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "load: ") {
			t.Errorf("%q: want one line, got %q", args, text)
		}
	}
}
