package ctmpl

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Query is a question to Consul, or for a local file. Equal questions are asked once.
type Query struct {
	kind            kind
	name            string // of the service, node, key, prefix or file
	tag, near       string
	dc              string
	filters         string // statuses, sorted, separated by commas
	namespace, peer string
	partition       string
}

type kind string

const (
	kindService     kind = "service"
	kindServices    kind = "services"
	kindNode        kind = "node"
	kindNodes       kind = "nodes"
	kindDatacenters kind = "datacenters"
	kindKey         kind = "key"  // its value, or none
	kindKeyWait     kind = "key " // its value, which stays when the key goes: the template waits for it
	kindPrefix      kind = "keys below"
	kindFile        kind = "file"
)

// String is the query as people call it.
func (q Query) String() string {
	name := q.name
	if q.tag != "" {
		name = q.tag + "." + name
	}
	for _, part := range []struct{ mark, text string }{
		{"@", q.dc},
		{"~", q.near},
		{"|", q.filters},
		{"?ns=", q.namespace},
		{"?peer=", q.peer},
		{"?partition=", q.partition},
	} {
		if part.text != "" {
			name += part.mark + part.text
		}
	}
	return strings.TrimSpace(strings.TrimSpace(string(q.kind)) + " " + name)
}

// The grammar of queries is consul-template's: "tag.name?ns=x@dc~near|filter".
const (
	reTag    = `((?P<tag>[[:word:]=:.\-]+)\.)?`
	reName   = `(?P<name>[[:word:]\-]+)`
	reNode   = `(?P<name>[[:word:].\-]+)`
	rePath   = `/?(?P<name>[^@?]+)`
	reQuery  = `(\?(?P<query>[[:word:]\-=&]+))?`
	reDC     = `(@(?P<dc>[[:word:].\-]+))?`
	reNear   = `(~(?P<near>[[:word:].\-]+))?`
	reFilter = `(\|(?P<filter>[[:word:],]+))?`
)

var grammar = map[kind]*regexp.Regexp{
	kindService:  regexp.MustCompile(`\A` + reTag + reName + reQuery + reDC + reNear + reFilter + `\z`),
	kindServices: regexp.MustCompile(`\A` + reQuery + reDC + `\z`),
	kindNode:     regexp.MustCompile(`\A(` + reNode + reQuery + reDC + `)?\z`),
	kindNodes:    regexp.MustCompile(`\A` + reQuery + reDC + reNear + `\z`),
	kindKey:      regexp.MustCompile(`\A` + rePath + reQuery + reDC + `\z`),
	kindKeyWait:  regexp.MustCompile(`\A` + rePath + reQuery + reDC + `\z`),
	kindPrefix:   regexp.MustCompile(`\A` + rePath + reQuery + reDC + `\z`),
}

// example shows the form of each kind of query in errors.
var example = map[kind]string{
	kindService: "tag.name@datacenter~near|passing,warning", kindServices: "@datacenter", kindNode: "name@datacenter",
	kindNodes: "@datacenter~near", kindKey: "path@datacenter", kindKeyWait: "path@datacenter", kindPrefix: "path@datacenter",
}

// newQuery reads what a template asks for.
func newQuery(k kind, text string) (Query, error) {
	re := grammar[k]
	m := re.FindStringSubmatch(text)
	if m == nil {
		return Query{}, fmt.Errorf("%q: want %s", text, example[k])
	}
	q := Query{kind: k}
	for i, part := range re.SubexpNames() {
		switch part {
		case "name":
			q.name = m[i]
		case "tag":
			q.tag = m[i]
		case "dc":
			q.dc = m[i]
		case "near":
			q.near = m[i]
		case "filter":
			filters, err := statuses(m[i])
			if err != nil {
				return q, fmt.Errorf("%q: %w", text, err)
			}
			q.filters = filters
		case "query":
			if err := q.where(m[i]); err != nil {
				return q, fmt.Errorf("%q: %w", text, err)
			}
		}
	}
	return q, nil
}

// statuses reads the statuses that an instance may have to be in the answer.
func statuses(text string) (string, error) {
	if text == "" {
		return api.HealthPassing, nil
	}
	var list []string
	for status := range strings.SplitSeq(text, ",") {
		switch status = strings.TrimSpace(status); status {
		case api.HealthAny, api.HealthPassing, api.HealthWarning, api.HealthCritical, api.HealthMaint:
			list = append(list, status)
		case "":
		default:
			return "", fmt.Errorf("status %q: want any, passing, warning, critical or maintenance", status)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ","), nil
}

// where reads ns=…&partition=….
func (q *Query) where(text string) error {
	values, err := url.ParseQuery(text)
	if err != nil {
		return err
	}
	into := map[string]*string{"ns": &q.namespace, "peer": &q.peer, "partition": &q.partition}
	for key := range values {
		if into[key] == nil {
			return fmt.Errorf("?%s: want ns, partition or peer", key)
		}
		*into[key] = values.Get(key)
	}
	return nil
}

// fetch asks Consul. A value of nil means that what is asked for does not exist.
func (q Query) fetch(c *api.Client, opt *api.QueryOptions) (any, *api.QueryMeta, error) {
	opt.Datacenter, opt.Near, opt.Namespace = q.dc, q.near, q.namespace
	opt.Partition, opt.Peer = q.partition, q.peer
	switch q.kind {
	case kindService:
		return q.service(c, opt)
	case kindServices:
		entries, meta, err := c.Catalog().Services(opt)
		return snippets(entries), meta, err
	case kindNode:
		return q.node(c, opt)
	case kindNodes:
		nodes, meta, err := c.Catalog().Nodes(opt)
		list := make([]*Node, 0, len(nodes))
		for _, n := range nodes {
			list = append(list, newNode(n))
		}
		if q.near == "" {
			slices.SortStableFunc(list, func(a, b *Node) int {
				return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Address, b.Address))
			})
		}
		return list, meta, err
	case kindKey, kindKeyWait:
		pair, meta, err := c.KV().Get(q.name, opt)
		if pair == nil {
			return nil, meta, err
		}
		return string(pair.Value), meta, err
	case kindPrefix:
		pairs, meta, err := c.KV().List(q.name, opt)
		return q.pairs(pairs), meta, err
	case kindDatacenters:
		return q.datacenters(c, opt)
	}
	data, err := os.ReadFile(q.name)
	return string(data), &api.QueryMeta{}, err
}

func (q Query) service(c *api.Client, opt *api.QueryOptions) (any, *api.QueryMeta, error) {
	entries, meta, err := c.Health().Service(q.name, q.tag, q.filters == api.HealthPassing, opt)
	list := make([]*HealthService, 0, len(entries))
	for _, e := range entries {
		if s := newHealthService(e); q.accepts(s.Status) {
			list = append(list, s)
		}
	}
	if q.near == "" {
		slices.SortStableFunc(list, func(a, b *HealthService) int {
			return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
		})
	}
	return list, meta, err
}

func (q Query) accepts(status string) bool {
	for want := range strings.SplitSeq(q.filters, ",") {
		if want == status || want == api.HealthAny {
			return true
		}
	}
	return false
}

func (q Query) node(c *api.Client, opt *api.QueryOptions) (any, *api.QueryMeta, error) {
	name := q.name
	if name == "" {
		var self map[string]map[string]any
		if _, err := c.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(opt.Context())); err != nil {
			return nil, nil, err
		}
		name, _ = self["Config"]["NodeName"].(string)
	}
	found, meta, err := c.Catalog().Node(name, opt)
	if err != nil || found == nil { // a node that is not there is one without anything, as it is there
		return &CatalogNode{}, meta, err
	}
	return newCatalogNode(found), meta, nil
}

func (q Query) datacenters(c *api.Client, opt *api.QueryOptions) (any, *api.QueryMeta, error) {
	var names []string
	if _, err := c.Raw().Query("/v1/catalog/datacenters", &names, opt); err != nil {
		return nil, nil, err
	}
	if q.filters != "" { // only those that answer
		names = slices.DeleteFunc(names, func(dc string) bool {
			_, _, err := c.Catalog().Services((&api.QueryOptions{Datacenter: dc, RequireConsistent: true}).WithContext(opt.Context()))
			return err != nil
		})
		if err := context.Cause(opt.Context()); err != nil {
			return nil, nil, err
		}
	}
	slices.Sort(names)
	return names, &api.QueryMeta{}, nil
}

// pairs cuts the prefix off.
func (q Query) pairs(list api.KVPairs) []*KeyPair {
	out := make([]*KeyPair, 0, len(list))
	for _, p := range list {
		out = append(out, &KeyPair{
			Path: p.Key, Key: strings.TrimLeft(strings.TrimPrefix(p.Key, q.name), "/"), Value: string(p.Value),
			CreateIndex: p.CreateIndex, ModifyIndex: p.ModifyIndex, LockIndex: p.LockIndex, Flags: p.Flags, Session: p.Session,
		})
	}
	return out
}
