//go:build real

package certs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairway/internal/testbed"
)

// TestStore_anOwnerIsNews: a file that confgen could not read, and that is given to it, is as it was
// but for its owner. Only root may give files away, as who runs the tests of real parts is.
func TestStore_anOwnerIsNews(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.pem")
	testbed.WriteSecret(t, path, testbed.NewAuthority(t, "ca").Pair(t, "shop.test"))
	s := New([]string{path}, func(string) []byte { return nil })
	s.Refresh(time.Now(), false)
	before := s.stamp
	if s.Refresh(time.Now(), false); s.stamp != before {
		t.Fatal("nothing has changed")
	}
	if err := os.Chown(path, 65532, -1); err != nil {
		t.Fatal(err)
	}
	if s.Refresh(time.Now(), false); s.stamp == before {
		t.Error("the file was not read again")
	}
}
