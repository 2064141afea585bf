package watch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairway/confgen/route"

	"github.com/hashicorp/go-hclog"
)

// A quiet week is no week without Consul: the file's age counts from Consul's last word, and
// telling so writes nothing but a time.
func TestStore_F2_ageCountsFromTheLastConfirmation(t *testing.T) {
	file := filepath.Join(t.TempDir(), "snapshot.json")
	week := 7 * 24 * time.Hour
	read := time.Now().Add(-week - time.Hour)
	view := View{Version: 1, Time: read, Snapshot: route.Snapshot{Services: []route.Service{{Name: "web"}}}}
	latest := func() (View, bool) { return view, true }
	save := func(s *store) View {
		t.Helper()
		if err := s.save(latest); err != nil {
			t.Fatal(err)
		}
		v, err := load(file)
		if err != nil || len(v.Snapshot.Services) != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
		return v
	}
	s := newStore(file, hclog.NewNullLogger())
	s.confirm(read)
	if v := save(s); !v.Time.Equal(read) {
		t.Errorf("at first: %s, want %s", v.Time, read)
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	s.confirm(read.Add(week))
	if v := save(s); !v.Time.Equal(read.Add(week)) {
		t.Errorf("after a week: %s, want %s", v.Time, read.Add(week))
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("the content was written again: %v", err)
	}
	// A time from the future, of a clock that was wrong, is not believed.
	if err := os.Chtimes(file, time.Now().Add(week), time.Now().Add(week)); err != nil {
		t.Fatal(err)
	}
	if v, err := load(file); err != nil || !v.Time.Equal(read) {
		t.Errorf("from the future: %s, %v", v.Time, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s.confirm(read.Add(week + time.Minute))
	if err := s.save(latest); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is gone: %v", err)
	}
	save(s) // and is there again
}

// What Consul confirms by saying nothing new reaches the file, at the latest when confgen ends.
func TestWatch_F2_confirmationReachesTheFile(t *testing.T) {
	f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
	file := filepath.Join(t.TempDir(), "snapshot.json")
	w := follow(t, Options{File: file}, f.URL)
	shown := w.sees("start", instances("web", "10.1.0.1:80 passing"))
	w.Status(t.Context()) // has the keeper look around once more
	w.stop()
	if v, err := load(file); err != nil || !v.Time.After(shown.Time) {
		t.Errorf("%s, %v; shown at %s", v.Time, err, shown.Time)
	}
}
