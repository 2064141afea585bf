package testbed

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Log keeps what programs log and print. Several may write to it at once.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends to the log; it never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Count is how often a text stands in it.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// tail is the end of it.
func (l *Log) tail() string {
	s := l.String()
	return s[max(0, len(s)-4000):]
}

// Golden compares a file with what it must hold, or writes it where update says so.
func Golden(t testing.TB, update bool, file, want string) {
	t.Helper()
	if update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s is out of date; go test with -update writes it (-wanted +file):\n%s", file, diff)
	}
}
