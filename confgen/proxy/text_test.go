package proxy

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"fairway/internal/reconcile"
)

// F36: what somebody else writes is found, also when size and time of writing stay and it comes
// within the same tick of the clock; and what nobody wrote is not read again.
func TestLoad_F36_editsAreFound(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "haproxy.cfg")
	target := offlineTarget(t, dir)
	commitOffline(t, target, file("haproxy.cfg", "global\n# a\n"))
	edit := func(what string) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("global\n# b\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
		if res := commitOffline(t, target, file("haproxy.cfg", "global\n# a\n")); !slices.Equal(res.Written, []string{"haproxy.cfg"}) {
			t.Errorf("%s: written %q, expected the edited file", what, res.Written)
		}
	}
	edit("right after it was written")
	commitOffline(t, target, file("haproxy.cfg", "global\n# a\n"))
	edit("right after it was compared")
	if err := reconcile.Sleep(t.Context(), 2*tick); err != nil {
		t.Fatal(err)
	}
	commitOffline(t, target, file("haproxy.cfg", "global\n# a\n"))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if before := target.seen["haproxy.cfg"]; !before.sure(stampOf(info)) {
		t.Errorf("a file that nobody touched for a while is not trusted: %+v", before)
	}
	if err := reconcile.Sleep(t.Context(), 2*tick); err != nil {
		t.Fatal(err)
	}
	edit("long after it was compared")
}

func TestText_matches(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20000)
	for _, pieces := range [][]string{nil, {""}, {"a"}, {"a\n", "b\n"}, {long}, {"x", long, "", long, "y"}} {
		x := newText(pieces, nil)
		all := strings.Join(pieces, "")
		if ok, err := x.matches(strings.NewReader(all)); !ok || err != nil {
			t.Errorf("%d pieces: %t %v, expected a match", len(pieces), ok, err)
		}
		if !x.holds([]byte(all)) || !x.equal(newText([]string{all}, nil)) || string(x.bytes()) != all {
			t.Errorf("%d pieces: not what it is made of", len(pieces))
		}
		others := []string{all + "z", "z" + all}
		if n := len(all); n > 0 {
			i := rand.IntN(n)
			others = append(others, all[:n-1], all[1:], all[:i]+"~"+all[i+1:])
		}
		for _, other := range others {
			if ok, err := x.matches(strings.NewReader(other)); ok || err != nil {
				t.Errorf("%d pieces: %t %v, expected a difference", len(pieces), ok, err)
			}
			if x.holds([]byte(other)) || x.equal(newText([]string{other}, nil)) {
				t.Errorf("%d pieces: equal to another text", len(pieces))
			}
		}
		var out bytes.Buffer
		if err := x.write(&out, "abc", strings.NewReplacer("abc", "ABC")); err != nil || out.String() != strings.ReplaceAll(all, "abc", "ABC") {
			t.Errorf("%d pieces: written %d bytes, %v", len(pieces), out.Len(), err)
		}
	}
}

// One change costs what it touches: one backend is asked for, and of the text little is new.
func TestApply_F61_oneChangeAmongMany(t *testing.T) {
	dir, err := os.MkdirTemp("", "fw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := newLarge(t, 500, 4, dir)
	target, w := l.applied(t, dir)
	before := target.seen["haproxy.cfg"].text
	res, err := target.Apply(t.Context(), l.files(t, 1))
	if err != nil || res.Commands != 1 || len(res.Written) != 1 {
		t.Fatalf("%+v %v, expected one command and one file", res, err)
	}
	w.mu.Lock()
	for what, n := range map[string]int{"show servers state": 0, "show servers state service-00037": 2} {
		if w.asked[what] != n {
			t.Errorf("asked %q %d times, expected %d: %v", what, w.asked[what], n, w.asked)
		}
	}
	w.mu.Unlock()
	after := target.seen["haproxy.cfg"].text
	fresh := 0
	for i, p := range after.pieces {
		if !same(p, before.pieces[i]) {
			fresh++
		}
	}
	if fresh != 1 || len(after.pieces) != len(before.pieces) || len(after.pieces) < 500 {
		t.Errorf("%d of %d sections are new in memory, expected one", fresh, len(after.pieces))
	}
	l.snapshot.Services[100].Instances[0].Port++ // Nothing else may be taken for unchanged.
	if res, err := target.Apply(t.Context(), l.files(t, 2)); err == nil || res.Commands == 0 {
		t.Errorf("%+v %v, expected commands that the stub refuses", res, err)
	}
}

// same reports whether two strings are one in memory.
func same(a, b string) bool {
	return len(a) == len(b) && unsafe.StringData(a) == unsafe.StringData(b)
}
