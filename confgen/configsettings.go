package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fairway/internal/daemon"

	"github.com/urfave/cli/v2"
)

// proxySettings are the settings of one proxy of a file; without a proxy, those of the program.
type proxySettings struct {
	file    *configFile
	proxy   *section // nil for the program alone
	command settings // flags and variables win over the file in what belongs to the program
}

// find returns what the file says of a setting: the proxy, else the defaults of all proxies; the
// top for what all have in common.
func (s proxySettings) find(flag string) (value, bool) {
	if placeOf(flag).all {
		v, ok := s.file.top.set[flag]
		return v, ok
	}
	if s.proxy == nil {
		return value{}, false
	}
	own, isOwn := s.proxy.set[flag]
	inherited, isInherited := s.file.defaults.set[flag]
	switch {
	case isOwn && isInherited && placeOf(flag).labelled != nil:
		return value{mergeNamed(inherited.v, own.v), own.at}, true
	case isOwn:
		return own, true
	}
	return inherited, isInherited
}

// mergeNamed joins lists of NAME=TEXT; of two with one name the proxy's own counts.
func mergeNamed(inherited, own any) []string {
	mine, _ := own.([]string)
	list, _ := inherited.([]string)
	list = slices.DeleteFunc(slices.Clone(list), func(text string) bool {
		return slices.ContainsFunc(mine, func(m string) bool { return nameOf(m) == nameOf(text) })
	})
	return append(list, mine...)
}

// nameOf is the name in NAME=TEXT.
func nameOf(text string) string {
	name, _, _ := strings.Cut(text, "=")
	return name
}

// answer returns a setting from where it is said, else its flag's default.
func answer[T any](s proxySettings, flag string, commanded func(string) T, otherwise func(cli.Flag) T) T {
	if placeOf(flag).all && s.command.IsSet(flag) {
		return commanded(flag)
	}
	if v, ok := s.find(flag); ok {
		if t, ok := v.v.(T); ok {
			return t
		}
	}
	if slices.Contains(modes, flag) {
		return commanded(flag)
	}
	var zero T
	if f := s.file.flags[flag]; f != nil {
		return otherwise(f)
	}
	return zero
}

func (s proxySettings) String(flag string) string {
	return answer(s, flag, s.command.String, func(f cli.Flag) string {
		if t, ok := f.(*cli.StringFlag); ok {
			return t.Value
		}
		return ""
	})
}

func (s proxySettings) StringSlice(flag string) []string {
	return answer(s, flag, s.command.StringSlice, func(cli.Flag) []string { return nil })
}

func (s proxySettings) Bool(flag string) bool {
	return answer(s, flag, s.command.Bool, func(f cli.Flag) bool {
		b, ok := f.(*cli.BoolFlag)
		return ok && b.Value
	})
}

func (s proxySettings) Int(flag string) int {
	return answer(s, flag, s.command.Int, func(f cli.Flag) int {
		if n, ok := f.(*cli.IntFlag); ok {
			return n.Value
		}
		return 0
	})
}

func (s proxySettings) Duration(flag string) time.Duration {
	return answer(s, flag, s.command.Duration, func(f cli.Flag) time.Duration {
		if d, ok := f.(*cli.DurationFlag); ok {
			return d.Value
		}
		return 0
	})
}

// IsSet reports whether the file, or the command line where that counts, says something.
func (s proxySettings) IsSet(flag string) bool {
	_, ok := s.find(flag)
	return ok || (placeOf(flag).all || slices.Contains(modes, flag)) && s.command.IsSet(flag)
}

// refuse names the place in the file: that of the setting where it is set, that of the proxy
// where a default does not do.
func (s proxySettings) refuse(flag, format string, a ...any) error {
	if slices.Contains(modes, flag) || placeOf(flag).all && s.command.IsSet(flag) {
		return s.command.refuse(flag, format, a...)
	}
	at := s.file.path
	if s.proxy != nil {
		at = position(s.proxy.at)
	}
	if v, ok := s.find(flag); ok {
		at = position(v.at)
	}
	for _, named := range a { // one of several blocks
		if text, ok := named.(string); ok {
			if v, ok := s.find(flag + " " + nameOf(text)); ok {
				at = position(v.at)
			}
		}
	}
	return daemon.Usagef("%s: %w", at, fmt.Errorf(placeOf(flag).String()+format, a...))
}
