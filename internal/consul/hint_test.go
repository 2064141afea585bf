package consul

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHint(t *testing.T) {
	now := time.Unix(1_800_000_000, 123_456_789)
	want := NewHint("app-1", now)
	want.Add("web", now)
	want.Add(`a "b"`, now.Add(-1500*time.Millisecond))
	want.Add("from a clock that was put back", now.Add(time.Second))
	value, err := want.Value()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadHint(value)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for _, c := range []struct {
		after time.Time
		want  []string
	}{
		{time.Time{}, []string{`a "b"`, "from a clock that was put back", "web"}},
		{now.Add(-1500*time.Millisecond - time.Microsecond), []string{`a "b"`, "from a clock that was put back", "web"}},
		{now.Add(-time.Second), []string{"from a clock that was put back", "web"}},
		{now, nil},
	} {
		if d := cmp.Diff(c.want, got.After(c.after)); d != "" {
			t.Errorf("after %s (-want +got):\n%s", c.after, d)
		}
	}
	if _, err := ReadHint([]byte("web")); err == nil {
		t.Error("somebody else's words are taken for a hint")
	}
}

func TestHintKey_fewKeysForAnyNumberOfNodes(t *testing.T) {
	keys := map[string]bool{}
	for i := range 5000 {
		key := HintKey(fmt.Sprintf("node-%d", i))
		if !strings.HasPrefix(key, HintPrefix) {
			t.Fatalf("key %q", key)
		}
		keys[key] = true
	}
	if len(keys) != hintKeys {
		t.Errorf("%d keys for 5,000 nodes, want %d", len(keys), hintKeys)
	}
}
