package certs_test

import (
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"testing"
	"time"

	"fairway/confgen/certs"
	"fairway/internal/testbed"

	"github.com/google/go-cmp/cmp"
)

// TestStore_clock has files that stay as they are while the time passes, and once goes back.
func TestStore_clock(t *testing.T) {
	ca, dir, start := testbed.NewAuthority(t, "ca"), t.TempDir(), time.Now().Truncate(time.Second)
	old, oldKey := ca.Issue(t, time.Hour, "old.test")
	testbed.WriteSecret(t, filepath.Join(dir, "a.pem"), append(old, oldKey...))
	s := certs.New([]string{dir}, nil)
	s.Refresh(start, false)
	cert, key := ca.Issue(t, 2*time.Hour, "new.test")
	for _, name := range []string{"a.pem", "b.pem"} { // in the place of one that serves, and of none
		testbed.WriteSecret(t, filepath.Join(dir, name), append(cert, key...))
	}
	const early, late = "is not valid before ", "expired on "
	block, _ := pem.Decode(cert)
	issued, err := x509.ParseCertificate(block.Bytes) // its seconds may be other than those of start
	if err != nil {
		t.Fatal(err)
	}
	from, until := issued.NotBefore.UTC().Format(time.RFC3339), issued.NotAfter.UTC().Format(time.RFC3339)
	for _, step := range []struct {
		name  string
		after time.Duration
		fresh bool
		want  []string
	}{
		{"before it is valid", -2 * time.Hour, true, []string{"a for old.test", "fault a.pem: " + early + from + " (kept)", "fault b.pem: " + early + from}},
		{"still", -61 * time.Minute, false, []string{"a for old.test", "fault a.pem: " + early + from + " (kept)", "fault b.pem: " + early + from}},
		{"valid", -59 * time.Minute, true, []string{"a for new.test", "b for new.test"}},
		{"still", 119 * time.Minute, false, []string{"a for new.test", "b for new.test"}},
		{"expired", 121 * time.Minute, true, []string{"a for new.test", "b for new.test", "fault a.pem: " + late + until + " (kept)", "fault b.pem: " + late + until + " (kept)"}},
		{"still", 200 * time.Minute, false, []string{"a for new.test", "b for new.test", "fault a.pem: " + late + until + " (kept)", "fault b.pem: " + late + until + " (kept)"}},
		{"the clock is set right", time.Hour, true, []string{"a for new.test", "b for new.test"}},
	} {
		if fresh := s.Refresh(start.Add(step.after), false); fresh != step.fresh {
			t.Errorf("%s: %v", step.name, fresh)
		}
		if diff := cmp.Diff(step.want, summary(s.Contents())); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
}
