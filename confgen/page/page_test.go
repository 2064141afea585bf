package page_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"fairway/confgen/page"
	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

func shown(t *testing.T, v page.View) string {
	t.Helper()
	var out bytes.Buffer
	if err := page.Write(&out, v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const catalog = `
shop n1 10.0.0.1:80 passing 1 fairway-host=shop.test
shop n2 10.0.0.2:80 critical 2 fairway-host=shop.test
other n1 10.0.0.3:80 passing 3 fairway-host=other.test fairway-hots=x
gone n1 10.0.0.4:80 passing 4 fairway-host=gone.test "fairway-redirect=301 https://shop.test/"
`

func TestPage_F66_showsRoutesServersAndProblems(t *testing.T) {
	var v page.View
	v.Facts = []page.Fact{{Name: "routes", What: "3"}, {Name: "not applied", What: "no <disk>", Bad: true}}
	v.Search(route.Build(routetest.Snapshot(t, catalog), route.Settings{}), "")
	text := shown(t, v)
	for _, want := range []string{
		"not ready", "no &lt;disk&gt;", `class="bad"`, "shop.test /", "n1_10.0.0.1:80",
		`<li class="maint">n2_10.0.0.2:80`, "fairway.hots", "did you mean fairway.host?", "sent on with 301", ">3, in order",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPage_search(t *testing.T) {
	table := route.Build(routetest.Snapshot(t, catalog), route.Settings{})
	for query, want := range map[string]int{"": 3, "shop.te": 1, "10.0.0.3": 1, "other": 1, "nobody": 0} {
		var v page.View
		v.Search(table, query)
		if v.Matched != want || len(v.Routes) != want || v.Total != 3 {
			t.Errorf("%q: %d routes, %d matched of %d; want %d", query, len(v.Routes), v.Matched, v.Total, want)
		}
	}
	var v page.View
	v.Search(table, "shop")
	if len(v.Problems) != 0 {
		t.Errorf("problems of others: %v", v.Problems)
	}
}

func TestPage_limit(t *testing.T) {
	var v page.View
	v.Search(route.Build(routetest.Large(2*page.Limit, 1), route.Settings{}), "")
	text := shown(t, v)
	if len(v.Routes) != page.Limit || !strings.Contains(text, fmt.Sprintf("%d, the first %d of them", 2*page.Limit, page.Limit)) {
		t.Errorf("%d routes", len(v.Routes))
	}
}

// What a label says is text, whatever it looks like.
func TestPage_hostileText(t *testing.T) {
	v := page.View{Query: `"><script>q</script>`}
	snapshot := routetest.Snapshot(t, `web n1 10.0.0.1:80 passing 1 "fairway-host=<script>alert(1)</script>" "fairway-path=/<b>"`)
	v.Search(route.Build(snapshot, route.Settings{}), "")
	v.Query = `"><script>q</script>`
	if text := shown(t, v); strings.Contains(text, "<script>") || strings.Contains(text, "/<b>") {
		t.Error(text)
	}
}
