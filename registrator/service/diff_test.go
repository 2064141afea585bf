package service

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// row is a registration of container "0123456789ab", as Consul answers it.
func row(change ...func(*Registration)) Registration {
	r := Registration{
		ID: "n:web:80", Name: "web", Address: "10.0.0.1", Port: 8080,
		Tags: []string{"a", "b"}, Meta: map[string]string{Owner: "0123456789ab:80/tcp", "fairway-host": "a.test"},
		Weight: 1, Status: Passing, Output: "healthy: fine",
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func planOf(rows ...Registration) Plan { return Plan{Registrations: rows} }

func TestDiff(t *testing.T) {
	foreign := row(func(r *Registration) { r.Meta = map[string]string{"fairway-host": "a.test"} })
	critical := row(func(r *Registration) { r.Status, r.Output = Critical, "exited with code 1" })
	kept := Kept{Container: "0123456789ab", Status: Critical, Output: "exited with code 1"}
	tests := []struct {
		name     string
		observed []Registration
		plan     Plan
		want     Changes
	}{
		{"C76_appears", nil, planOf(row()), Changes{Put: []Registration{row()}}},
		{"C94_nothingChanged", []Registration{row()}, planOf(row()), Changes{Same: []Registration{row()}}},
		{
			"C94_defaultsThatConsulFillsIn",
			[]Registration{row(func(r *Registration) { r.Tags, r.Addresses = []string{}, map[string]Tagged{} })},
			planOf(row(func(r *Registration) { r.Weight, r.Tags, r.Addresses = 0, nil, nil })),
			Changes{Same: []Registration{row(func(r *Registration) { r.Weight, r.Tags, r.Addresses = 0, nil, nil })}},
		},
		{"C92_goneAtTheNextPass", []Registration{row()}, Plan{}, Changes{Delete: []string{"n:web:80"}}},
		{
			"C84_renamed",
			[]Registration{row()},
			planOf(row(func(r *Registration) { r.ID = "n:new:80" })),
			Changes{Put: []Registration{row(func(r *Registration) { r.ID = "n:new:80" })}, Delete: []string{"n:web:80"}},
		},
		{
			"C93_onlyOursGo",
			[]Registration{
				row(func(r *Registration) { r.ID = "custom" }),
				row(func(r *Registration) { r.ID = "n:web:81" }),
				row(func(r *Registration) { r.ID, r.Meta = "n:byhand:80", nil }),
				row(func(r *Registration) { r.ID, r.Meta = "n:empty:80", map[string]string{Owner: ""} }),
			},
			Plan{},
			Changes{Delete: []string{"custom", "n:web:81"}},
		},
		{
			"C95_deletedByHand",
			[]Registration{row(func(r *Registration) { r.ID = "n:web:81" })},
			planOf(row(), row(func(r *Registration) { r.ID = "n:web:81" })),
			Changes{Put: []Registration{row()}, Same: []Registration{row(func(r *Registration) { r.ID = "n:web:81" })}},
		},
		{
			"C98_consulIsEmpty", nil, planOf(row(), critical),
			Changes{Put: []Registration{row(), critical}},
		},
		{
			"foreignRowHoldsOurID",
			[]Registration{foreign},
			planOf(row()),
			Changes{Problems: []Problem{{
				Container: "0123456789ab", Label: "SERVICE_ID",
				Reason: "the ID n:web:80 belongs to a row that registrator did not write and will not touch; remove that row or choose another SERVICE_ID",
			}}},
		},
		{
			"checkIsMissing",
			[]Registration{row(func(r *Registration) { r.Status, r.Output = "", "" })},
			planOf(row()),
			Changes{Put: []Registration{row()}},
		},
		{
			"C83_status",
			[]Registration{row()},
			planOf(critical),
			Changes{Put: []Registration{critical}},
		},
		{
			"otherWordsOfTheProbe",
			[]Registration{row(func(r *Registration) { r.Output = "healthy: 12 ms" })},
			planOf(row()),
			Changes{Stale: []Registration{row()}},
		},
		{
			"C81_otherStateOfOneStatus",
			[]Registration{critical},
			planOf(row(func(r *Registration) { r.Status, r.Output = Critical, "stopping" })),
			Changes{Put: []Registration{row(func(r *Registration) { r.Status, r.Output = Critical, "stopping" })}},
		},
		{
			"C78_failedStaysAsCritical",
			[]Registration{row()},
			Plan{Kept: []Kept{kept}},
			Changes{Put: []Registration{critical}},
		},
		{"C78_failedAndWritten", []Registration{critical}, Plan{Kept: []Kept{kept}}, Changes{}},
		{"C78_nothingToKeep", nil, Plan{Kept: []Kept{kept}}, Changes{}},
		{"C91_unreadableStays", []Registration{row()}, Plan{Kept: []Kept{{Container: "0123456789ab"}}}, Changes{}},
		{
			"C91_onlyItsOwn",
			[]Registration{row(), row(func(r *Registration) { r.ID, r.Meta = "x", map[string]string{Owner: "ffff56789abc:80/tcp"} })},
			Plan{Kept: []Kept{{Container: "0123456789ab"}}},
			Changes{Delete: []string{"x"}},
		},
		{
			"C44_keptRowGivesUpItsID",
			[]Registration{row()},
			Plan{
				Registrations: []Registration{row(func(r *Registration) { r.Meta = map[string]string{Owner: "ffff56789abc:80/tcp"} })},
				Kept:          []Kept{kept},
			},
			Changes{Put: []Registration{row(func(r *Registration) { r.Meta = map[string]string{Owner: "ffff56789abc:80/tcp"} })}},
		},
		{
			"tagOverrideKeepsOthersTags",
			[]Registration{row(func(r *Registration) { r.EnableTagOverride, r.Tags = true, []string{"theirs"} })},
			planOf(row(func(r *Registration) { r.EnableTagOverride = true })),
			Changes{Same: []Registration{row(func(r *Registration) { r.EnableTagOverride, r.Tags = true, []string{"theirs"} })}},
		},
		{
			"tagOverrideKeepsOthersTagsInAWrite",
			[]Registration{row(func(r *Registration) { r.EnableTagOverride, r.Tags = true, []string{"theirs"} })},
			planOf(row(func(r *Registration) { r.EnableTagOverride, r.Port = true, 1 })),
			Changes{Put: []Registration{row(func(r *Registration) { r.EnableTagOverride, r.Port, r.Tags = true, 1, []string{"theirs"} })}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := Diff(test.observed, test.plan)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Empty() != (len(got.Put)+len(got.Delete) == 0) {
				t.Error("Empty says something else than Put and Delete")
			}
		})
	}
}

// Every field of a row that Consul holds must be able to cause a write.
func TestDiff_everyFieldCounts(t *testing.T) {
	changes := map[string]func(*Registration){
		"name":         func(r *Registration) { r.Name = "x" },
		"address":      func(r *Registration) { r.Address = "10.0.0.2" },
		"port":         func(r *Registration) { r.Port = 1 },
		"tags":         func(r *Registration) { r.Tags = []string{"b", "a"} },
		"meta":         func(r *Registration) { r.Meta = maps.Clone(r.Meta); r.Meta["fairway-host"] = "b.test" },
		"less meta":    func(r *Registration) { r.Meta = map[string]string{Owner: r.Meta[Owner]} },
		"tagged":       func(r *Registration) { r.Addresses = map[string]Tagged{"lan_ipv6": {Port: 1}} },
		"weight":       func(r *Registration) { r.Weight = 2 },
		"tag override": func(r *Registration) { r.EnableTagOverride = true },
		"status":       func(r *Registration) { r.Status = Warning },
		"state":        func(r *Registration) { r.Output = "running" },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			want := row(change)
			if got := Diff([]Registration{row()}, planOf(want)); len(got.Put) != 1 || !got.Put[0].Equal(want) {
				t.Errorf("a changed %s gives %+v", name, got)
			}
			if want.Equal(row()) {
				t.Errorf("rows with different %s are called equal", name)
			}
		})
	}
}

// C94: what was written is what is wanted. The plan, observed as it was written, needs no write.
func TestDiff_C94_convergesInOneStep(t *testing.T) {
	opt := Defaults()
	opt.Node = Node{Name: "n", IPv4: netip.MustParseAddr("10.0.0.1"), IPv6: netip.MustParseAddr("2001:db8::1")}
	containers := fleet(50)
	plan := Desired(containers, opt)
	written := Diff(nil, plan).Put
	if len(written) < 100 {
		t.Fatalf("%d rows are too few to prove anything", len(written))
	}
	for pass := range 5 {
		if changes := Diff(written, Desired(containers, opt)); !changes.Empty() || len(changes.Stale) > 0 {
			t.Fatalf("pass %d: %+v", pass, changes)
		}
	}
}
