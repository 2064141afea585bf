package ctmpl

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	yaml "gopkg.in/yaml.v2"
)

var parseInt = parsed("parseInt", func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })

// funcs are the dialect's functions for a template.
func (t *Template) funcs() template.FuncMap {
	funcs := template.FuncMap{
		"datacenters": t.datacenters, "file": t.file, "key": t.key, "keyExists": t.keyExists,
		"keyOrDefault": t.keyOrDefault, "ls": t.ls, "safeLs": t.safeLs, "tree": t.tree, "safeTree": t.safeTree,
		"node": t.node, "nodes": t.nodes, "service": t.service, "services": t.services,
		"executeTemplate": t.executeTemplate, "scratch": func() *Scratch { return &t.run.scratch },

		"byKey": byKey, "byPort": byPort, "byTag": byTag, "byMeta": byMeta,
		"env": os.Getenv, "mustEnv": mustEnv, "envOrDefault": envOrDefault,

		"contains":    func(element, list any) bool { return in(list, element) },
		"containsAll": containsSome(true, true), "containsAny": containsSome(false, false),
		"containsNone": containsSome(true, false), "containsNotAll": containsSome(false, true),
		"in": in, "explode": explode, "explodeMap": explodeMap, "loop": loop,
		"mergeMap": mergeMap, "mergeMapWithOverride": mergeMapWithOverride,

		"base64Decode": decode("base64Decode", base64.StdEncoding), "base64Encode": encode(base64.StdEncoding),
		"base64URLDecode": decode("base64URLDecode", base64.URLEncoding), "base64URLEncode": encode(base64.URLEncoding),
		"parseBool":  parsed("parseBool", strconv.ParseBool),
		"parseFloat": parsed("parseFloat", func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }),
		"parseInt":   parseInt,
		"parseUint":  parsed("parseUint", func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }),
		"parseJSON":  document("parseJSON", json.Unmarshal),
		"parseYAML":  document("parseYAML", yaml.Unmarshal),
		"toJSON":     jsonText("toJSON", "", true), "toJSONPretty": jsonText("toJSONPretty", "  ", true),
		"toUnescapedJSON":       jsonText("toUnescapedJSON", "", false),
		"toUnescapedJSONPretty": jsonText("toUnescapedJSONPretty", "  ", false),
		"toYAML":                toYAML, "toTOML": toTOML,

		"indent": indent, "join": func(sep string, list []string) string { return strings.Join(list, sep) },
		"regexMatch": regexMatch, "regexReplaceAll": regexReplaceAll,
		"replaceAll": func(from, to, s string) string { return strings.ReplaceAll(s, from, to) },
		"split":      split, "splitToMap": splitToMap,
		"toLower": strings.ToLower, "toUpper": strings.ToUpper, "toTitle": toTitle,
		"trim":       func(cutset, s string) string { return strings.Trim(s, cutset) },
		"trimPrefix": func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"trimSpace":  strings.TrimSpace,
		"timestamp":  timestamp, "sockaddr": sockaddr,
		"sha256Hex": sha256Hex, "md5sum": md5sum, "hmacSHA256Hex": hmacSHA256Hex,
		"spew_sdump": spewSdump, "spew_sprintf": spewSprintf,

		"minimum": extreme("minimum", false), "maximum": extreme("maximum", true),
	}
	for _, o := range arithmetics {
		funcs[o.name] = o.apply
	}
	for name, f := range sprig.HermeticTxtFuncMap() {
		funcs["sprig_"+name] = f
	}
	for name := range refused {
		funcs[name] = func(...any) (string, error) { return "", errRefused }
	}
	return funcs
}
