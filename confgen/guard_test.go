package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"fairway/confgen/watch"
)

func TestOptions_guard(t *testing.T) {
	o, err := parse(t)
	if want := (watch.Losses{Policy: watch.Policy{Share: 100, Grace: 30 * time.Second, Mode: watch.Accept}}); err != nil || !reflect.DeepEqual(o.Guard, want) {
		t.Errorf("%+v, %v", o.Guard, err)
	}
	o, err = parse(t, "--guard-grace", "0", "--guard-share", "40", "--guard-total", "60", "--panic-share", "50",
		"--guard-service", "shop=50%:2m:approve", "--guard-service", "brief=1s")
	want := watch.Losses{
		Policy: watch.Policy{Share: 40, Mode: watch.Accept}, Total: 60,
		Services: map[string]watch.Policy{
			"shop":  {Share: 50, Grace: 2 * time.Minute, Mode: watch.Approve},
			"brief": {Share: 40, Grace: time.Second, Mode: watch.Accept},
		},
	}
	if err != nil || !reflect.DeepEqual(o.Guard, want) || o.Routing.Panic != 50 {
		t.Errorf("%+v, panic %d, %v", o.Guard, o.Routing.Panic, err)
	}
	for args, why := range map[string]string{
		"--guard-share 0":                           "--guard-share 0: want 1 to 100",
		"--guard-share 101":                         "--guard-share 101: want 1 to 100",
		"--guard-grace -1s":                         "--guard-grace -1s: want a time",
		"--guard-total 101":                         "--guard-total 101: want 0 to 100",
		"--guard-mode ask":                          `--guard-mode: mode "ask": want accept or approve`,
		"--guard-service shop":                      "want NAME=[PERCENT%][:TIME][:MODE]",
		"--guard-service shop=soon":                 `"soon" is no percentage, time or mode`,
		"--guard-service shop=0%":                   `"0%" is not from 1% to 100%`,
		"--guard-service a=1s --guard-service a=1%": "a is given twice",
		"--panic-share -1":                          "--panic-share -1: want 0 to 100",
	} {
		if _, err := parse(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v; want %s", args, err, why)
		}
	}
}
