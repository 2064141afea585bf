package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"fairway/confgen/watch"

	"github.com/urfave/cli/v2"
)

// guardFlags are the flags that say what is not believed at once.
func guardFlags() []cli.Flag {
	return []cli.Flag{
		length(catGuard, "guard-grace", 30*time.Second, "a service that loses its instances at once keeps them for this time, unless they come back or confgen approve says that they are gone; 0 believes it at once"),
		number(catGuard, "guard-share", 100, "`PERCENT` of a service's instances that must be lost at once for that; below 100 servers that are really gone may cost requests"),
		text(catGuard, "guard-mode", string(watch.Accept), "`WHAT` ends it: accept, the time or an operator; approve, an operator alone"),
		texts(catGuard, "guard-service", "`NAME=[PERCENT%][:TIME][:MODE]`, the same for one service, such as shop=50%:2m:approve; may be repeated"),
		number(catGuard, "guard-total", 0, "`PERCENT` of all instances whose loss at once has every service keep what it lost; 0 for no such limit"),
		number(catGuard, "panic-share", 0, "`PERCENT` of a service's instances that must be passing for checks to be believed; below it all but those in maintenance get requests; 0 for the last resort: only when none is passing"),
	}
}

// readGuard reads what is not believed at once.
func (o *Options) readGuard(c settings) error {
	o.Guard = watch.Losses{
		Policy: watch.Policy{
			Share: c.Int("guard-share"), Grace: c.Duration("guard-grace"), Mode: watch.Mode(c.String("guard-mode")),
		},
		Total: c.Int("guard-total"),
	}
	if o.Guard.Share < 1 || o.Guard.Share > 100 {
		return c.refuse("guard-share", " %d: want 1 to 100 percent", o.Guard.Share)
	}
	for _, text := range c.StringSlice("guard-service") {
		name, policy, err := parsePolicy(text, o.Guard.Policy)
		if err != nil {
			return c.refuse("guard-service", " %q: %w", text, err)
		}
		if o.Guard.Services == nil {
			o.Guard.Services = map[string]watch.Policy{}
		}
		if _, twice := o.Guard.Services[name]; twice {
			return c.refuse("guard-service", ": %s is given twice", name)
		}
		o.Guard.Services[name] = policy
	}
	if d := o.Guard.Grace; d < 0 {
		return c.refuse("guard-grace", " %s: want a time that is not negative", d)
	}
	if n := o.Guard.Total; n < 0 || n > 100 {
		return c.refuse("guard-total", " %d: want 0 to 100 percent", n)
	}
	if err := o.Guard.Validate(); err != nil {
		return c.refuse("guard-mode", ": %w", err)
	}
	if n := o.Routing.Panic; n < 0 || n > 100 {
		return c.refuse("panic-share", " %d: want 0 to 100 percent", n)
	}
	return nil
}

// parsePolicy reads NAME=[PERCENT%][:TIME][:MODE]; what is left out is as for every service.
func parsePolicy(text string, policy watch.Policy) (string, watch.Policy, error) {
	const want = "want NAME=[PERCENT%][:TIME][:MODE], such as shop=50%:2m:approve"
	name, rest, found := strings.Cut(text, "=")
	if !found || name == "" || rest == "" {
		return "", policy, fmt.Errorf("%s", want)
	}
	for part := range strings.SplitSeq(rest, ":") {
		part = strings.TrimSpace(part)
		if percent, is := strings.CutSuffix(part, "%"); is {
			n, err := strconv.Atoi(percent)
			if err != nil || n < 1 || n > 100 {
				return "", policy, fmt.Errorf("%q is not from 1%% to 100%%", part)
			}
			policy.Share = n
			continue
		}
		if mode := watch.Mode(part); mode == watch.Accept || mode == watch.Approve {
			policy.Mode = mode
			continue
		}
		d, err := time.ParseDuration(part)
		if err != nil || d < 0 {
			return "", policy, fmt.Errorf("%q is no percentage, time or mode; %s", part, want)
		}
		policy.Grace = d
	}
	return name, policy, nil
}
