package ctmpl

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The functions that ask Consul, and those that arrange what it answers.

// answer asks a query and returns its value, or the zero value while there is none.
func answer[T any](t *Template, k kind, text string, must bool) (T, error) {
	var none T
	q, err := newQuery(k, text)
	if err != nil {
		return none, fmt.Errorf("%s: %w", strings.TrimSpace(string(k)), err)
	}
	value, known := t.ask(q, must)
	typed, ok := value.(T)
	if !known || !ok {
		return none, nil
	}
	return typed, nil
}

func (t *Template) service(args ...string) ([]*HealthService, error) {
	if len(args) == 0 || args[0] == "" {
		return []*HealthService{}, nil
	}
	return answer[[]*HealthService](t, kindService, strings.Join(args, "|"), false)
}

func (t *Template) services(args ...string) ([]*CatalogSnippet, error) {
	return answer[[]*CatalogSnippet](t, kindServices, strings.Join(args, ""), false)
}

func (t *Template) nodes(args ...string) ([]*Node, error) {
	return answer[[]*Node](t, kindNodes, strings.Join(args, ""), false)
}

// node returns nil, and not a nil node, while it is not known: {{with node}} skips both.
func (t *Template) node(args ...string) (any, error) {
	n, err := answer[*CatalogNode](t, kindNode, strings.Join(args, ""), false)
	if n == nil {
		return nil, err
	}
	return n, nil
}

func (t *Template) datacenters(ignoreFailing ...bool) ([]string, error) {
	if len(ignoreFailing) > 1 {
		return nil, fmt.Errorf("datacenters: want at most one argument, not %d", len(ignoreFailing))
	}
	q := Query{kind: kindDatacenters}
	if slices.Contains(ignoreFailing, true) {
		q.filters = "answering"
	}
	value, _ := t.ask(q, false)
	list, _ := value.([]string)
	return list, nil
}

// key waits for the key to exist.
func (t *Template) key(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return answer[string](t, kindKeyWait, path, true)
}

func (t *Template) keyExists(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	q, err := newQuery(kindKey, path)
	if err != nil {
		return false, fmt.Errorf("keyExists: %w", err)
	}
	_, known := t.ask(q, false)
	return known, nil
}

func (t *Template) keyOrDefault(path, otherwise string) (string, error) {
	if path == "" {
		return otherwise, nil
	}
	value, err := answer[string](t, kindKey, path, false)
	if value == "" {
		return otherwise, err
	}
	return value, err
}

// keys returns the pairs below a prefix that keep accepts. A safe list is never empty: the
// template waits until there is something.
func (t *Template) keys(prefix string, safe bool, keep func(key string) bool) ([]*KeyPair, error) {
	list := []*KeyPair{}
	if prefix == "" {
		return list, nil
	}
	q, err := newQuery(kindPrefix, prefix)
	if err != nil {
		return list, fmt.Errorf("keys: %w", err)
	}
	value, known := t.ask(q, safe)
	pairs, _ := value.([]*KeyPair)
	for _, p := range pairs {
		if keep(p.Key) {
			list = append(list, p)
		}
	}
	if known && safe && len(list) == 0 {
		t.run.absent[q] = true
	}
	return list, nil
}

func inFolder(key string) bool { return key != "" && !strings.Contains(key, "/") }
func isLeaf(key string) bool   { return key != "" && !strings.HasSuffix(key, "/") }

func (t *Template) ls(prefix string) ([]*KeyPair, error) { return t.keys(prefix, false, inFolder) }

func (t *Template) safeLs(prefix string) ([]*KeyPair, error) { return t.keys(prefix, true, inFolder) }

func (t *Template) tree(prefix string) ([]*KeyPair, error) { return t.keys(prefix, false, isLeaf) }

func (t *Template) safeTree(prefix string) ([]*KeyPair, error) {
	return t.keys(prefix, true, isLeaf)
}

// file is the content of a local file, which is looked at every few seconds.
func (t *Template) file(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	value, _ := t.ask(Query{kind: kindFile, name: path}, true)
	text, _ := value.(string)
	return text, nil
}

// byKey groups pairs by the first folder of their keys.
func byKey(pairs []*KeyPair) map[string]map[string]*KeyPair {
	groups := make(map[string]map[string]*KeyPair)
	for _, p := range pairs {
		top, key, _ := strings.Cut(p.Key, "/")
		if key == "" {
			continue
		}
		if groups[top] == nil {
			groups[top] = make(map[string]*KeyPair)
		}
		pair := *p
		pair.Key = key
		groups[top][key] = &pair
	}
	return groups
}

// byTag groups services or instances by each of their tags.
func byTag(in any) (map[string][]any, error) {
	groups := make(map[string][]any)
	switch list := in.(type) {
	case nil:
	case []*CatalogSnippet:
		for _, s := range list {
			for _, tag := range s.Tags {
				groups[tag] = append(groups[tag], s)
			}
		}
	case []*HealthService:
		for _, s := range list {
			for _, tag := range s.Tags {
				groups[tag] = append(groups[tag], s)
			}
		}
	default:
		return nil, fmt.Errorf("byTag: want what service or services returns, not %T", in)
	}
	return groups, nil
}

// byPort groups instances by their port.
func byPort(in any) (map[int][]any, error) {
	groups := make(map[int][]any)
	switch list := in.(type) {
	case nil:
	case []*HealthService:
		for _, s := range list {
			groups[s.Port] = append(groups[s.Port], s)
		}
	default:
		return nil, fmt.Errorf("byPort: want what service returns, not %T", in)
	}
	return groups, nil
}

var notInName = regexp.MustCompile("[^a-zA-Z0-9_-]")

// byMeta groups instances by the values of metadata keys, separated by commas; "key|int" makes
// the value a number of five digits, so that groups are in the order of their numbers.
func byMeta(keys string, services []*HealthService) (map[string][]*HealthService, error) {
	groups := make(map[string][]*HealthService)
	for _, s := range services {
		var parts []string
		for key := range strings.SplitSeq(keys, ",") {
			key, number := strings.CutSuffix(key, "|int")
			value := s.ServiceMeta[key]
			switch {
			case number:
				if value == "" {
					value = "0"
				}
				n, err := strconv.Atoi(value)
				if err != nil {
					return nil, fmt.Errorf("byMeta: %s of %s: %q is no number", key, s.ID, value)
				}
				value = fmt.Sprintf("%05d", n)
			case value == "":
				value = "_no_" + key + "_"
			}
			parts = append(parts, notInName.ReplaceAllString(value, "_"))
		}
		group := strings.Join(parts, "_")
		groups[group] = append(groups[group], s)
	}
	return groups, nil
}

func mustEnv(name string) (string, error) {
	value := os.Getenv(name)
	if value == "" {
		return "", fmt.Errorf("mustEnv: the environment variable %s is not set", name)
	}
	return value, nil
}

func envOrDefault(name, otherwise string) string {
	if value, set := os.LookupEnv(name); set {
		return value
	}
	return otherwise
}
