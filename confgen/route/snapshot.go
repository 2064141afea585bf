// Package route is confgen's pure heart: it turns one consistent snapshot of Consul's catalog
// into a table of listeners, routes, backends and servers, and names every label it could not
// use. It imports no client and does no I/O.
package route

// Snapshot is the part of the catalog that carries routing keys, at one moment.
// The order of services and instances carries no meaning: Build sorts.
type Snapshot struct {
	Services  []Service  `json:"services"`
	Overrides []Override `json:"overrides,omitempty"`
}

// size is the number of instances.
func (s Snapshot) size() (n int) {
	for i := range s.Services {
		n += len(s.Services[i].Instances)
	}
	return n
}

// Service is a Consul service and all its registered instances, healthy or not.
type Service struct {
	Name      string     `json:"name"`
	Instances []Instance `json:"instances"`
}

// Instance is one registered instance of a service.
type Instance struct {
	Node    string            `json:"node"`
	ID      string            `json:"id"`
	Address string            `json:"address"` // the service's, else its node's
	Port    int               `json:"port"`
	Tags    []string          `json:"tags,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
	Weight  int               `json:"weight,omitempty"` // Consul's weight for the instance's status
	Status  Status            `json:"status"`           // worst of node and service checks
	Created uint64            `json:"created"`          // Consul CreateIndex: age without a clock
	Owner   string            `json:"owner,omitempty"`  // registrator's mark, which is not in Meta: the Owner key's value
	Held    bool              `json:"held,omitempty"`   // vanished from the catalog, which is not believed yet
}

// Status is the aggregated health of an instance.
type Status string

// The statuses an instance may have. Maintenance is Consul's maintenance mode.
const (
	Passing     Status = "passing"
	Warning     Status = "warning"
	Critical    Status = "critical"
	Maintenance Status = "maintenance"
)
