package watch

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fairway/internal/consul"
)

// Whichever datacenter, namespace and partition is followed, every question says so.
func TestWatch_everyQuestionNamesItsScope(t *testing.T) {
	eachMode(t, func(t *testing.T, opt Options) {
		f := newFakeConsul(t, map[string][]string{"web": {"10.1.0.1"}})
		var mu sync.Mutex
		var without []string
		asked := map[string]bool{}
		f.misbehave(func(_ http.ResponseWriter, r *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			asked[strings.Join(strings.Split(r.URL.Path, "/")[:4], "/")] = true
			if q := r.URL.Query(); q.Get("dc") != "dc2" || q.Get("ns") != "team" || q.Get("partition") != "edge" {
				without = append(without, r.URL.String())
			}
			return false
		})
		w := followWith(t, opt, consul.Config{Addresses: []string{f.URL}, Datacenter: "dc2", Namespace: "team", Partition: "edge"})
		w.sees("start", instances("web", "10.1.0.1:80 passing"))
		f.set(func() { f.services["web"] = []string{"10.1.0.2"} })
		w.sees("a change", instances("web", "10.1.0.2:80 passing"))
		mu.Lock()
		defer mu.Unlock()
		if len(without) > 0 {
			t.Errorf("without datacenter, namespace and partition: %v", without)
		}
		want := []string{"/v1/catalog/services", "/v1/health/service", "/v1/kv/fairway"}
		if opt.mode == Aggregate {
			want = append(want, "/v1/health/state", "/v1/catalog/nodes")
		}
		for _, path := range want {
			if !asked[path] {
				t.Errorf("%s was not asked: %s", path, fmt.Sprint(asked))
			}
		}
	})
}
