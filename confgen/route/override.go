package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// OverridePrefix is where in Consul's KV store the values stand that operators set live.
const OverridePrefix = "fairway/override/"

// Override is one value that an operator set live, in place of what labels say: the KV pair
// fairway/override/<service>/<key>, or fairway/override/<service>/<instance id>/<key> for one
// instance. The key is that of a label, dots or hyphens: weight, api.timeout.server.
type Override struct {
	Path  string `json:"path"` // behind OverridePrefix
	Value string `json:"value"`
}

// setting is an override that has found its service.
type setting struct {
	instance string // "" for every instance
	rest     string // of the label behind the prefix, hyphened and in lower case
	value    string
	path     string
}

// overrides sorts what operators set by service. An instance's settings stand behind those for
// all, so that the last one counts. What belongs to nobody is a problem: it is most likely a slip.
func (b *builder) overrides(s Snapshot) map[string][]setting {
	if len(s.Overrides) == 0 {
		return nil
	}
	services := make(map[string]*Service, len(s.Services))
	for i := range s.Services {
		services[s.Services[i].Name] = &s.Services[i]
	}
	list := slices.Clone(s.Overrides)
	slices.SortFunc(list, func(x, y Override) int { return cmp.Compare(x.Path, y.Path) })
	found := make(map[string][]setting)
	for _, o := range list {
		service, set, fault := resolve(o, services)
		if fault != "" {
			b.problem(Problem{Service: service, Key: OverridePrefix + o.Path, Reason: fault})
			continue
		}
		found[service] = append(found[service], set)
	}
	for _, settings := range found {
		slices.SortStableFunc(settings, func(x, y setting) int { return cmp.Compare(x.instance, y.instance) })
	}
	return found
}

// resolve finds whom an override is for. Names of services may hold slashes, so the longest that
// exists counts.
func resolve(o Override, services map[string]*Service) (string, setting, string) {
	end := strings.LastIndexByte(o.Path, '/')
	if end < 0 {
		return "", setting{}, "names no service; want " + OverridePrefix + "<service>/<key>"
	}
	owner, key := o.Path[:end], o.Path[end+1:]
	set := setting{rest: strings.ReplaceAll(strings.ToLower(key), ".", "-"), value: o.Value, path: o.Path}
	for cut := len(owner); cut > 0; cut = strings.LastIndexByte(owner[:cut], '/') {
		service := services[owner[:cut]]
		if service == nil {
			continue
		}
		if cut < len(owner) {
			set.instance = owner[cut+1:]
		}
		if set.instance != "" && !slices.ContainsFunc(service.Instances, func(in Instance) bool { return in.ID == set.instance }) {
			return service.Name, set, fmt.Sprintf("the service has no instance %s now", quote(set.instance))
		}
		return service.Name, set, ""
	}
	first, _, _ := strings.Cut(owner, "/")
	return first, setting{}, "no service of that name carries routing labels"
}

// forInstance returns the settings that count for an instance.
func forInstance(settings []setting, id string) []setting {
	if !slices.ContainsFunc(settings, func(s setting) bool { return s.instance != "" }) {
		return settings
	}
	var list []setting
	for _, s := range settings {
		if s.instance == "" || s.instance == id {
			list = append(list, s)
		}
	}
	return list
}

// override puts what operators set in the place of what labels say. A setting of one instance
// counts more than one of the service.
func (p *parser) override(out *parsed, raw map[string]map[string]string) {
	for _, s := range out.settings {
		name, key, ok := splitKey(s.rest)
		if !ok {
			reason := "unknown key"
			if near := nearest(p.name, s.rest); near != "" {
				reason += "; did you mean " + strings.TrimPrefix(near, p.name+".") + "?"
			}
			out.problems = append(out.problems, Problem{Key: OverridePrefix + s.path, Reason: reason})
			continue
		}
		if raw[name] == nil {
			raw[name] = make(map[string]string)
		}
		at := [2]string{name, key}
		if before := out.set[at]; before != "" && strings.Count(before, "/") == strings.Count(s.path, "/") {
			p.problem(out, name, key, "set twice: "+OverridePrefix+s.path+" counts")
		}
		raw[name][key] = strings.TrimSpace(s.value)
		if out.set == nil {
			out.set = make(map[[2]string]string)
		}
		out.set[at] = s.path
	}
}

// OverrideKey returns the one spelling of a key that may be written with dots or hyphens.
func OverrideKey(key string) (string, error) {
	rest := strings.ReplaceAll(strings.ToLower(key), ".", "-")
	name, known, ok := splitKey(rest)
	if ok {
		return strings.TrimPrefix(label("", name, known), "."), nil
	}
	if near := nearest("", rest); near != "" {
		return "", fmt.Errorf("unknown key %s; did you mean %s?", quote(key), strings.TrimPrefix(near, "."))
	}
	return "", fmt.Errorf("unknown key %s", quote(key))
}

// CheckOverride reports what would be wrong with a value before it is set: an unknown key, or a
// value that the key does not take. set may be the zero value where the operator's settings are
// not known; then what depends on them is not found.
func CheckOverride(set Settings, key, value string) error {
	if _, err := OverrideKey(key); err != nil {
		return err
	}
	prefix := strings.ReplaceAll(strings.ToLower(cmp.Or(set.Prefix, DefaultPrefix)), ".", "-") + "-"
	meta := map[string]string{prefix + "host": "check.invalid", prefix + "group": "check"}
	if route, _, _ := splitKey(strings.ReplaceAll(strings.ToLower(key), ".", "-")); route != "" {
		meta[prefix+route+"-host"], meta[prefix+route+"-path"] = "check.invalid", "/check"
	}
	in := Instance{ID: "i", Node: "n", Address: "192.0.2.1", Port: 80, Status: Passing, Meta: meta}
	table := Build(Snapshot{
		Services:  []Service{{Name: "s", Instances: []Instance{in}}},
		Overrides: []Override{{Path: "s/" + key, Value: value}},
	}, set)
	for _, p := range table.Problems {
		if reason, ours := strings.CutPrefix(p.Reason, overridden("s/"+key)); ours {
			return fmt.Errorf("%s: %s", key, reason)
		}
	}
	return nil
}

// overridden begins a problem of a value that no label holds.
func overridden(path string) string { return "set in " + OverridePrefix + path + ": " }
