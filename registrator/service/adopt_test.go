package service

import (
	"strings"
	"testing"
)

func TestLegacy(t *testing.T) {
	hosts := []string{"app-1", "db.example"}
	for id, want := range map[string]string{
		"app-1:web:80":             "web 80/tcp",
		"app-1:web:53:udp":         "web 53/udp",
		"db.example:my_web.1-a:80": "my_web.1-a 80/tcp",
		"app-2:web:80":             "",
		"app-1:web":                "",
		"app-1:web:80:tcp":         "",
		"app-1:web:80:cache":       "",
		"app-1:web:0":              "",
		"app-1:web:70000":          "",
		"app-1:a:b:80":             "",
		"app-1:-web:80":            "",
		"xapp-1:web:80":            "",
		"web":                      "",
		"":                         "",
	} {
		name, port, ok := Legacy(id, hosts)
		got := ""
		if ok {
			got = name + " " + strings.TrimSuffix(Mark(name, port), "")[len(name)+1:]
		}
		if got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
	if _, _, ok := Legacy(":web:80", []string{""}); ok {
		t.Error("a host without a name has rows")
	}
}

func TestAdopt(t *testing.T) {
	const cid = "0123456789ab"
	web := Container{ID: cid, Name: "web", State: Running}
	ours := func(id string, status Status) Registration {
		return Registration{ID: id, Name: "web", Status: status, Meta: map[string]string{Owner: Mark(cid, Port{Number: 80, Protocol: "tcp"})}}
	}
	old := Registration{ID: "app-1:web:80", Name: "web", Status: Passing}
	tests := map[string]struct {
		old        Registration
		plan       []Registration
		containers []Container
		observed   []Registration
		inPlace    bool
		want       Verdict
	}{
		"sameID":               {old, []Registration{ours("app-1:web:80", Passing)}, []Container{web}, []Registration{old}, true, Take},
		"gone":                 {old, nil, nil, nil, true, Remove},
		"goneElsewhere":        {old, nil, nil, nil, false, Remove},
		"ended":                {old, nil, []Container{{ID: cid, Name: "web", State: Exited}}, nil, true, Remove},
		"unreadable":           {old, nil, []Container{{ID: cid, Name: "web", State: Unknown}}, nil, true, Leave},
		"notRegistered":        {old, nil, []Container{web}, nil, true, Leave},
		"elsewhereNotYet":      {old, []Registration{ours("app-1:web:80", Passing)}, []Container{web}, nil, false, Wait},
		"elsewhereNotOurs":     {old, []Registration{ours("app-1:web:80", Passing)}, []Container{web}, []Registration{old}, false, Wait},
		"elsewhereNotPassing":  {old, []Registration{ours("app-1:web:80", Passing)}, []Container{web}, []Registration{ours("app-1:web:80", Critical)}, false, Wait},
		"elsewhereWritten":     {old, []Registration{ours("app-1:web:80", Passing)}, []Container{web}, []Registration{ours("app-1:web:80", Passing)}, false, Remove},
		"otherNodeName":        {old, []Registration{ours("n:web:80", Passing)}, []Container{web}, []Registration{ours("n:web:80", Passing)}, true, Remove},
		"otherNodeNameNotYet":  {old, []Registration{ours("n:web:80", Passing)}, []Container{web}, nil, true, Wait},
		"bothCritical":         {Registration{ID: "app-1:web:80", Status: Critical}, []Registration{ours("n:web:80", Critical)}, []Container{web}, []Registration{ours("n:web:80", Critical)}, false, Remove},
		"ofAnotherHost":        {Registration{ID: "app-2:web:80"}, nil, nil, nil, true, ""},
		"ofAnotherForm":        {Registration{ID: "web"}, nil, nil, nil, true, ""},
		"ofOurOwn":             {ours("app-1:web:80", Passing), nil, nil, nil, true, ""},
		"sameIDOtherContainer": {old, []Registration{{ID: "app-1:web:80", Meta: map[string]string{Owner: "ffff:80/tcp"}}}, []Container{web}, nil, true, Take},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := Adopt([]Registration{test.old}, Plan{Registrations: test.plan}, test.containers, []string{"app-1"}, test.observed, test.inPlace)
			switch {
			case test.want == "" && len(got) == 0:
			case len(got) != 1 || got[0].Verdict != test.want || got[0].Reason == "":
				t.Errorf("%+v, want %s", got, test.want)
			}
			claimed := Claim([]Registration{test.old}, got)
			if mine := test.want == Take || test.want == Remove; mine != (claimed[0].Meta[Owner] == Adopted) {
				t.Errorf("claimed %v", claimed[0].Meta)
			}
			if test.old.Meta[Owner] == Adopted {
				t.Error("the row that was given is changed")
			}
		})
	}
}
