package ctmpl

import (
	"cmp"
	"maps"
	"slices"

	"github.com/hashicorp/consul/api"
)

// The types that templates see. Their fields, and the order in which toJSON prints them, are
// consul-template's.

// HealthService is an instance of a service, as service returns it.
type HealthService struct {
	Node                   string
	NodeID                 string
	NodeAddress            string
	NodeTaggedAddresses    map[string]string
	NodeMeta               map[string]string
	ServiceMeta            map[string]string
	Address                string // the service's, else its node's
	ServiceTaggedAddresses map[string]api.ServiceAddress
	ID                     string
	Name                   string
	Tags                   ServiceTags // sorted
	Checks                 api.HealthChecks
	Status                 string // the worst of its checks
	Port                   int
	Weights                api.AgentWeights
}

// ServiceTags are sorted.
type ServiceTags []string

// CatalogSnippet is a service's name and its tags, as services returns them.
type CatalogSnippet struct {
	Name string
	Tags ServiceTags
}

// Node is a node, as nodes returns it.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
}

// CatalogNode is a node with its services, as node returns it.
type CatalogNode struct {
	Node     *Node
	Services []*CatalogNodeService
}

// CatalogNodeService is a service of a CatalogNode.
type CatalogNodeService struct {
	ID                string
	Service           string
	Tags              ServiceTags
	Meta              map[string]string
	Port              int
	Address           string
	EnableTagOverride bool
}

// KeyPair is a key in KV, as ls and tree return it.
type KeyPair struct {
	Path  string // from the root
	Key   string // below the prefix that was asked for
	Value string

	CreateIndex uint64
	ModifyIndex uint64
	LockIndex   uint64
	Flags       uint64
	Session     string
}

func newHealthService(e *api.ServiceEntry) *HealthService {
	return &HealthService{
		Node: e.Node.Node, NodeID: e.Node.ID, NodeAddress: e.Node.Address,
		NodeTaggedAddresses: e.Node.TaggedAddresses, NodeMeta: e.Node.Meta, ServiceMeta: e.Service.Meta,
		Address: cmp.Or(e.Service.Address, e.Node.Address), ServiceTaggedAddresses: e.Service.TaggedAddresses,
		ID: e.Service.ID, Name: e.Service.Service, Tags: sortedTags(e.Service.Tags),
		Checks: e.Checks, Status: e.Checks.AggregatedStatus(), Port: e.Service.Port, Weights: e.Service.Weights,
	}
}

func sortedTags(tags []string) ServiceTags {
	list := append(make(ServiceTags, 0, len(tags)), tags...)
	slices.Sort(list)
	return list
}

func snippets(entries map[string][]string) []*CatalogSnippet {
	var list []*CatalogSnippet
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		list = append(list, &CatalogSnippet{Name: name, Tags: sortedTags(entries[name])})
	}
	return list
}

func newNode(n *api.Node) *Node {
	return &Node{
		ID: n.ID, Node: n.Node, Address: n.Address, Datacenter: n.Datacenter,
		TaggedAddresses: n.TaggedAddresses, Meta: n.Meta,
	}
}

func newCatalogNode(n *api.CatalogNode) *CatalogNode {
	services := make([]*CatalogNodeService, 0, len(n.Services))
	for _, s := range n.Services {
		services = append(services, &CatalogNodeService{
			ID: s.ID, Service: s.Service, Tags: sortedTags(s.Tags), Meta: s.Meta,
			Port: s.Port, Address: s.Address, EnableTagOverride: s.EnableTagOverride,
		})
	}
	slices.SortFunc(services, func(a, b *CatalogNodeService) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	return &CatalogNode{Node: newNode(n.Node), Services: services}
}
