package swarm

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"fairway/registrator/service"
)

// patience is how long a new task waits for the labels of its service. A manager shares them before
// the first task starts, so the wait is for one that is just being replaced or slow.
const patience = 10 * time.Second

// Directory is what this node knows of the services of its tasks. Its methods may be called by
// several goroutines.
type Directory struct {
	mu sync.Mutex

	alone    bool                             // this node is in no Swarm
	local    map[string]*service.SwarmService // from this node's engine; nil unless a manager answers
	shared   map[string]*service.SwarmService // from Consul; nil before the first answer
	answered time.Time                        // when it came
	last     map[string]*service.SwarmService // removed, while tasks still run here
	since    map[string]time.Time             // container → when its service was first found unknown
	asked    bool                             // the engine said the next
	ingress  string                           // id of the routing mesh's network; empty for none
}

// NewDirectory knows nothing yet.
func NewDirectory() *Directory {
	return &Directory{last: map[string]*service.SwarmService{}, since: map[string]time.Time{}}
}

// SetLocal takes the services that this node's engine tells, as a manager; nil while it does not.
// It reports whether that is news.
func (d *Directory) SetLocal(services []service.SwarmService) bool {
	var local map[string]*service.SwarmService
	if services != nil {
		local = make(map[string]*service.SwarmService, len(services))
		for i := range services {
			local[services[i].ID] = &services[i]
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.replace(&d.local, local)
}

// SetShared takes what Consul holds, now. It reports whether that is news.
func (d *Directory) SetShared(services map[string]*service.SwarmService, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answered.IsZero() {
		d.answered = now
	}
	return d.replace(&d.shared, services)
}

// SetNode takes whether this node is in no Swarm at all, and the network of the Swarm's routing mesh.
// It reports whether that is news.
func (d *Directory) SetNode(alone bool, ingress string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	news := !d.asked || d.alone != alone || d.ingress != ingress
	d.asked, d.alone, d.ingress = true, alone, ingress
	return news
}

// replace keeps what is gone: the tasks of a service that was just removed are still stopping.
func (d *Directory) replace(old *map[string]*service.SwarmService, now map[string]*service.SwarmService) bool {
	if (*old == nil) == (now == nil) && reflect.DeepEqual(*old, now) {
		return false
	}
	for id, s := range *old {
		if now[id] == nil {
			d.last[id] = s
		}
	}
	*old = now
	return true
}

// Mesh adds to some containers what stands for the routing mesh, where every node is to.
func (d *Directory) Mesh(containers []service.Container, opt service.Options) []service.Container {
	if opt.Ingress != service.ByNode {
		return containers
	}
	return slices.Concat(containers, service.Mesh(d.services()))
}

// services are those that the routing mesh of this node publishes ports for; known is false as long
// as nothing was read.
func (d *Directory) services() (list []service.SwarmService, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	from := d.local
	if from == nil {
		from = d.shared
	}
	switch {
	case d.asked && (d.alone || d.ingress == ""):
		return nil, true
	case !d.asked || from == nil:
		return nil, false
	}
	for _, s := range from {
		onMesh := func(v service.VIP) bool { return v.Network == d.ingress } // of this Swarm, not another
		if slices.ContainsFunc(s.VIPs, onMesh) {
			list = append(list, *s)
		}
	}
	slices.SortFunc(list, func(a, b service.SwarmService) int { return cmp.Compare(a.ID, b.ID) })
	return list, true
}

// Fill says of the tasks among some containers what their services say. Of a service that nothing is
// known of, a task gets nothing for a while, and then a guess: that it says nothing. again is when
// the next of them has waited enough; zero for none.
func (d *Directory) Fill(containers []service.Container, now time.Time) (again time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	needed, waiting := map[string]bool{}, map[string]bool{}
	for i := range containers {
		c := &containers[i]
		if c.Task.ServiceID == "" || c.Mesh {
			continue
		}
		needed[c.Task.ServiceID] = true
		if c.Task.Service = d.find(c.Task.ServiceID); c.Task.Service != nil {
			continue
		}
		if waiting[c.ID] = true; d.since[c.ID].IsZero() {
			d.since[c.ID] = now
		}
		left := patience - now.Sub(d.since[c.ID])
		why := guess
		if d.nobody() {
			left, why = patience-now.Sub(d.answered), ""
		}
		if left > 0 {
			again = cmp.Or(min(again, left), left)
			continue
		}
		c.Task.Service = &service.SwarmService{ID: c.Task.ServiceID, Name: c.Task.ServiceName, Guess: why}
		if why == "" {
			c.Task.Service.Source = "no registrator on a manager shares its labels, so only the container's count"
		}
	}
	maps.DeleteFunc(d.last, func(id string, _ *service.SwarmService) bool { return !needed[id] })
	maps.DeleteFunc(d.since, func(id string, _ time.Time) bool { return !waiting[id] })
	return again
}

const guess = "the labels of the Swarm service are not known: no registrator on a manager has shared them. " +
	"The container's own count until one does"

// find is what is known of a service, by the best source; nil for nothing.
func (d *Directory) find(id string) *service.SwarmService {
	if d.alone { // somebody gave a container the labels of a task
		return &service.SwarmService{ID: id}
	}
	return cmp.Or(d.local[id], d.shared[id], d.last[id])
}

// nobody reports whether no manager shares anything: then there is nothing to wait for, save right
// after the start.
func (d *Directory) nobody() bool { return d.local == nil && d.shared != nil && len(d.shared) == 0 }
