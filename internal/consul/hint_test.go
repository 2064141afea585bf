package consul

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHint(t *testing.T) {
	now := time.Unix(1_800_000_000, 123)
	want := Hint{Node: "app-1", Services: []string{"web", "a \"b\""}, Time: now.UTC()}
	value, err := want.Value(now)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadHint(value)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
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
