//go:build real

package proxy

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// said is a word of the configuration on disk.
func (r *rig) said(word string) bool {
	r.t.Helper()
	data, err := os.ReadFile(r.world.dir + "/haproxy.cfg")
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Contains(string(data), word)
}

func TestRollback_realHAProxy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	web := backends(t, 3)
	r.oneBackend(web)
	r.up()
	for _, timeout := range []string{"6s", "7s", "8s", "9s", "10s", "11s"} {
		r.world.timeout = timeout
		r.apply()
	}
	list, pin, err := r.target.Generations()
	if err != nil || len(list) != keepGenerations || pin != nil {
		t.Fatalf("%+v, %+v, %v", list, pin, err)
	}
	if saved, _ := os.ReadDir(r.target.state("saved")); len(saved) > keepGenerations+2 { // with the newest, and one map
		t.Errorf("%d files are kept", len(saved))
	}
	if _, err := r.target.Rollback("6"); !errors.Is(err, ErrNoGeneration) {
		t.Errorf("rollback to what is not kept: %v", err)
	}
	clients := startLoad(t, "127.0.0.1:"+r.world.port, "a.test")

	two, err := r.target.Rollback("2")
	if err != nil || two.Structure != list[1].Structure {
		t.Fatalf("%+v, %v", two, err)
	}
	if res := r.apply(); res.Reloads != 1 || !r.said("timeout client 9s") {
		t.Errorf("%+v, expected one reload to the generation before the last", res)
	}
	// Servers go on, structure stays, also in the next process.
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[1], 50, "check"))
	r.world.timeout = "12s"
	if res := r.apply(); res.Reloads != 0 || res.Action != Runtime || !r.said("timeout client 9s") || !r.said(web[1]) {
		t.Errorf("%+v, expected the server and not the structure", res)
	}
	if err := r.target.Close(); err != nil {
		t.Fatal(err)
	}
	r.target = r.newTarget()
	r.world.backends["a"] = append(r.world.backends["a"], serverLine(web[2], 50, "check"))
	if res := r.apply(); res.Reloads != 0 || !r.said("timeout client 9s") || !r.said(web[2]) {
		t.Errorf("%+v, after a restart of confgen", res)
	}
	// The numbers are those that the operator has seen.
	again, pin, err := r.target.Generations()
	if err != nil || pin == nil || pin.Structure != two.Structure || len(again) != len(list) || again[0].Structure != list[0].Structure {
		t.Errorf("%+v, %+v, %v", again, pin, err)
	}
	if _, err := r.target.Rollback(list[2].Structure[:8]); err != nil {
		t.Fatal(err)
	}
	if res := r.apply(); res.Reloads != 1 || !r.said("timeout client 8s") {
		t.Errorf("%+v, expected one reload, further back", res)
	}
	if pin, err := r.target.Release(); err != nil || pin == nil {
		t.Errorf("%+v, %v", pin, err)
	}
	if res := r.apply(); res.Reloads != 1 || !r.said("timeout client 12s") {
		t.Errorf("%+v, expected one reload to what is wanted", res)
	}
	r.equal()
	clients.expectNone(t, 50)
	// What ran before is the first to go back to; a damaged copy is refused.
	if list, _, err = r.target.Generations(); err != nil {
		t.Fatal(err)
	}
	if r.target.pin != nil || len(list) == 0 {
		t.Fatalf("%+v", list)
	}
	entries, err := os.ReadDir(r.target.state("saved"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.WriteFile(r.target.state("saved/"+e.Name()), []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.target.Rollback("1"); err == nil || r.target.pin != nil {
		t.Errorf("rolled back to damaged files: %v", err)
	}
}
