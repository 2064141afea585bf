package catalog

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// fakeAgent takes what is written to an agent, and refuses whatever names one service.
type fakeAgent struct {
	mu    sync.Mutex
	deny  string
	asked []string
}

func newFakeAgent(t *testing.T) (*fakeAgent, *api.Client) {
	t.Helper()
	f := &fakeAgent{}
	server := httptest.NewServer(f)
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	client, err := api.NewClient(&api.Config{Address: server.URL, HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return f, client
}

func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what := strings.TrimPrefix(r.URL.Path, "/v1/agent/")
	if what == "service/register" {
		var body struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		what += "/" + body.ID
	}
	f.asked = append(f.asked, what)
	if f.deny != "" && strings.Contains(what, f.deny) {
		http.Error(w, "Permission denied", http.StatusForbidden)
	}
}

func (f *fakeAgent) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.asked = nil }()
	return strings.Join(f.asked, " ")
}

// held is what an agent holds of some rows after a registrator before this one.
func (a *Agent) held(rows ...service.Registration) Observed {
	o := Observed{exists: true, Rows: rows, held: map[string]heldRow{}}
	for _, row := range rows {
		o.held[row.ID] = heldRow{notes: a.keeperNotes(), ttl: []heldCheck{{id: checkPrefix + row.ID, status: "passing", output: "running"}}}
	}
	return o
}

// TestAgentApply_C106_aRowThatMayNotBeRenewed: a token that is new to some rows may not write all of
// them. That one is told and tried less and less; the pass goes on with the others.
func TestAgentApply_C106_aRowThatMayNotBeRenewed(t *testing.T) {
	for what, token := range map[string]string{"registered anew": "new", "renewed": ""} {
		f, client := newFakeAgent(t)
		f.deny = "secret"
		a := NewAgent(client, AgentOptions{Registry: "n", TTL: time.Hour, Token: func() string { return token }})
		rows := []service.Registration{row("secret"), row("web")}
		o := a.held(rows...)
		r, err := a.Apply(t.Context(), o, service.Changes{Same: rows})
		if asked := f.take(); err != nil || !strings.Contains(asked, "web") {
			t.Errorf("%s: %v; asked %s", what, err, asked)
		}
		if len(r.Refused) != 1 || r.Refused[0].ID != rows[0].ID || r.Written != 0 || r.Again <= time.Millisecond {
			t.Errorf("%s: %+v", what, r)
		}
		if f := a.refused[rows[0].ID]; f != nil {
			f.until = time.Now().Add(time.Hour)
		}
		r, err = a.Apply(t.Context(), o, service.Changes{Same: rows})
		if asked := f.take(); err != nil || len(r.Refused) != 1 || asked != "" {
			t.Errorf("%s, once more: %+v, %v; asked %s", what, r, err, asked)
		}
	}
}

// TestAgentApply_nothingToRenewIsNoHurry: a row that somebody else has taken, or that is refused, is
// not renewed; so it is no reason for the next pass either, however long ago it was told of.
func TestAgentApply_nothingToRenewIsNoHurry(t *testing.T) {
	f, client := newFakeAgent(t)
	a := NewAgent(client, AgentOptions{Registry: "n", TTL: time.Hour})
	web := row("web")
	a.told[web.ID] = told{at: time.Now().Add(-2 * time.Hour)}
	taken := web
	taken.Meta = nil
	if r, err := a.Apply(t.Context(), a.held(taken), service.Changes{}); err != nil || r.Again != 0 || f.take() != "" {
		t.Errorf("somebody else's: %+v, %v", r, err)
	}

	f.deny = "web"
	a.told[web.ID] = told{at: time.Now().Add(-2 * time.Hour)}
	want := web
	want.Port++
	if r, err := a.Apply(t.Context(), a.held(web), service.Changes{Put: []service.Registration{want}}); err != nil || len(r.Refused) != 1 || r.Again <= time.Millisecond {
		t.Errorf("refused: %+v, %v", r, err)
	}
}
