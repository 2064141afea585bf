package service

import (
	"encoding/json"
	"regexp"
	"strings"
	"text/template"
)

// tagFunctions are the functions that gliderlabs/registrator offers to -tags, by the names and
// argument orders people already use. httpGet is left out: what a container is called must not
// hang on a server that may be away.
var tagFunctions = template.FuncMap{
	"strSlice": func(s string, from int, to ...int) string {
		end := len(s)
		if len(to) > 0 {
			end = min(end, to[0])
		}
		if from < 0 || from >= end {
			return ""
		}
		return s[from:end]
	},
	"sIndex": func(i int, list []string) string {
		if i < 0 || i >= len(list) {
			return ""
		}
		return list[i]
	},
	"mIndex":  func(key string, m map[string]string) string { return m[key] },
	"toUpper": strings.ToUpper,
	"toLower": strings.ToLower,
	"replace": func(n int, from, to, s string) string { return strings.Replace(s, from, to, n) },
	"join":    func(separator string, list []string) string { return strings.Join(list, separator) },
	"split":   func(separator, s string) []string { return strings.Split(s, separator) },
	"splitIndex": func(i int, separator, s string) string {
		list := strings.Split(s, separator)
		if i < 0 || i >= len(list) {
			return ""
		}
		return list[i]
	},
	"matchFirstElement": func(pattern string, list []string) (string, error) {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return "", err
		}
		for _, s := range list {
			if expression.MatchString(s) {
				return s, nil
			}
		}
		return "", nil
	},
	"matchAllElements": func(pattern string, list []string) ([]string, error) {
		expression, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		var matching []string
		for _, s := range list {
			if expression.MatchString(s) {
				matching = append(matching, s)
			}
		}
		return matching, nil
	},
	"jsonParse": func(s string) (any, error) {
		var v any
		err := json.Unmarshal([]byte(s), &v)
		return v, err
	},
}
