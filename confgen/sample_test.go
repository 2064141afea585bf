package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

const sampleFile = "../examples/confgen.hcl"

// uncomment returns the sample with what stands behind a mark written out.
func uncomment(t *testing.T, text, mark string) string {
	t.Helper()
	line := regexp.MustCompile(`(?m)^( *)` + mark + `([a-z_]+ *=|[a-z_]+ ("[a-z]+" )?\{|  [a-z_]+ *=|\})`)
	if !line.MatchString(text) {
		t.Fatalf("nothing stands behind %q", mark)
	}
	return line.ReplaceAllString(text, "$1$2")
}

// settingsOf returns the settings that a text sets, by the names of their flags, wherever they stand.
func settingsOf(t *testing.T, text string) map[string][]any {
	t.Helper()
	f, err := parseConfigFile("confgen.hcl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	set := make(map[string][]any)
	for _, s := range append([]*section{f.top, f.defaults}, f.proxies...) {
		for flag, v := range s.set {
			if v.v != nil {
				set[flag] = append(set[flag], v.v)
			}
		}
	}
	return set
}

// The sample is the manual: it can be used as it stands, names every setting that there is, and
// what it says of defaults is true.
func TestConfig_sampleIsTheManual(t *testing.T) {
	data, err := os.ReadFile(sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	sample := string(data)
	t.Setenv("TOKEN", "x")
	t.Setenv("STATS_PASSWORD", "x")
	t.Setenv("PATH", "")
	config, err := loadArgs(t, "--config", sampleFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Proxies) != 2 || config.Proxies[1].Render.Timeouts.Server != 2*time.Minute {
		t.Errorf("%+v", config.Proxies)
	}

	defaults := make(map[string]any)
	for _, f := range flags() {
		defaults[f.Names()[0]] = defaultValue(f)
	}
	written := settingsOf(t, sample)
	for flag, values := range written {
		if slices.ContainsFunc(values, func(v any) bool { return reflect.DeepEqual(v, defaults[flag]) }) {
			t.Errorf("%s is written out and says its default: put it behind #", placeOf(flag))
		}
	}
	withDefaults := settingsOf(t, uncomment(t, sample, "# "))
	for flag, values := range withDefaults {
		for _, v := range values {
			isWritten := slices.ContainsFunc(written[flag], func(w any) bool { return reflect.DeepEqual(v, w) })
			if !isWritten && !reflect.DeepEqual(v, defaults[flag]) {
				t.Errorf("%s = %v stands behind # and is not its default, %v", placeOf(flag), v, defaults[flag])
			}
		}
	}
	all := settingsOf(t, uncomment(t, uncomment(t, sample, "# "), "#: "))
	for _, f := range flags() {
		flag := f.Names()[0]
		if !slices.Contains(modes, flag) && all[flag] == nil {
			t.Errorf("%s is missing in %s: write it there, behind \"# \" with its default or behind \"#: \" as an example", placeOf(flag), sampleFile)
		}
	}
	for flag := range all {
		_, isDefault := withDefaults[flag]
		inExample := flag == "stats-entrypoint" // means nothing without its block, which is an example
		if d := defaults[flag]; !isDefault && !inExample && d != nil && !reflect.ValueOf(d).IsZero() {
			t.Errorf("%s stands behind #: though it has a default, %s", placeOf(flag), d)
		}
	}
}

func defaultValue(f cli.Flag) any {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Value
	case *cli.BoolFlag:
		return f.Value
	case *cli.IntFlag:
		return f.Value
	case *cli.DurationFlag:
		return f.Value
	}
	return []string(nil)
}
