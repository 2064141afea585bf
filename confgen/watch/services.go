package watch

import (
	"fmt"
	"slices"
	"time"

	"fairway/confgen/route"
)

// service is what is known of one name in the catalog.
type service struct {
	name      string
	answered  bool             // has been read, or refused, once
	instances []route.Instance // nil unless routed
	unrouted  bool             // has instances, none of which carries a routing key
	dirty     bool             // must be read
	reading   bool             // is being read; what it answers may be from before it became dirty
	err       error
	index     uint64 // of the newest change that instances show
	failures  int
	retryAt   time.Time

	stop   func() // ends following it by itself; nil while that is not done
	silent bool   // followed by itself, and no answer has come yet
}

func (s *service) on(node string) bool {
	return slices.ContainsFunc(s.instances, func(in route.Instance) bool { return in.Node == node })
}

// shows reports whether a change of the service with an index has been read.
func (s *service) shows(index uint64) bool { return s.answered && index <= s.index }

// want has a service read that the catalog lists.
func (k *keeper) want(name string) {
	s := k.services[name]
	if s == nil || s.dirty {
		return
	}
	s.dirty = true
	if !s.reading && !k.waiting[name] { // else queued when the answer or the time has come
		k.queue = append(k.queue, name)
	}
}

// next returns the next question without taking it; dirty services go before the sweep.
func (k *keeper) next(now time.Time) (job, bool) {
	for len(k.queue) > 0 && !k.readable(k.queue[0]) {
		k.queue = k.queue[1:]
	}
	if !k.ready() || !k.pace.allows(now, k.reading+k.sweep.asking) {
		return job{}, false
	}
	if len(k.queue) > 0 {
		s := k.services[k.queue[0]]
		return job{service: s, shown: s.index}, true
	}
	return k.sweep.next(k.nodes)
}

// readable reports whether a queued name is still there, still dirty and not being read.
func (k *keeper) readable(name string) bool {
	s := k.services[name]
	return s != nil && s.dirty && !s.reading
}

// ready reports whether services may be read: only after every poll has answered, since a change
// between a read and the first answer of a poll would otherwise be missed, and only while the
// polls do answer, since a Consul that is away is not asked for a thousand services.
func (k *keeper) ready() bool {
	for _, p := range k.polls {
		if !p.answered || p.err != nil {
			return false
		}
	}
	return true
}

// asked notes that j is on its way.
func (k *keeper) asked(j job) {
	if j.node != "" {
		k.sweep.asked()
		k.counts.Probes++
		return
	}
	k.queue = k.queue[1:]
	j.service.dirty, j.service.reading = false, true
	k.reading++
	k.counts.Reads++
}

// answered takes in what a service looks like.
func (k *keeper) answered(j job, a answer) {
	k.reading--
	k.heard(a.err)
	s := j.service
	if k.services[s.name] != s {
		return // gone meanwhile, and perhaps back under the same name
	}
	s.reading = false
	if k.mode != Aggregate {
		return // asked before the service was followed by itself
	}
	if err := s.believes(a); err != nil {
		k.failed(s, err)
		return
	}
	k.sweep.found(a.index, time.Now())
	k.took(s, a)
	if s.dirty {
		k.queue = append(k.queue, s.name)
	}
}

// believes returns why an answer is not to change anything, if there is a reason.
func (s *service) believes(a answer) error {
	if a.err == nil && a.filtered && len(a.instances) == 0 && len(s.instances) > 0 {
		return errHidden
	}
	return a.err
}

// heard lets the pace know how a question ended.
func (k *keeper) heard(err error) {
	if k.pace.heard(err, time.Now()) {
		k.log.Warn("consul does not keep up, asking less until it does", "err", err)
	}
}

// took stores what was read.
func (k *keeper) took(s *service, a answer) {
	if s.err != nil && !strained(s.err) {
		k.log.Info("service can be read again", "service", s.name)
	}
	s.err, s.failures, s.unrouted, s.index = nil, 0, a.others, a.index
	k.first(s)
	if !same(s.instances, a.instances) {
		s.instances = a.instances
		k.touch()
	}
}

// first notes that a service has answered.
func (k *keeper) first(s *service) {
	if !s.answered {
		s.answered = true
		k.missing--
	}
}

func (k *keeper) touch() {
	k.touchedAt = time.Now()
	if !k.changed {
		k.changed, k.changedAt = true, k.touchedAt
	}
}

// forget drops a service that the catalog lists no more.
func (k *keeper) forget(s *service) {
	if !s.answered {
		k.missing--
	}
	k.unfollow(s)
	delete(k.services, s.name)
	delete(k.waiting, s.name)
	if len(s.instances) > 0 {
		k.touch()
	}
}

// failed notes that a service could not be read, and when to try again.
func (k *keeper) failed(s *service, err error) {
	k.unreadable(s, err)
	s.dirty = true
	s.retryAt = time.Now().Add(backoff(s.failures))
	k.waiting[s.name] = true
}

// unreadable notes why a service could not be read.
func (k *keeper) unreadable(s *service, err error) {
	if (s.err == nil || strained(s.err)) && !strained(err) {
		k.log.Warn("service cannot be read, keeping what was known", "service", s.name, "err", err)
	}
	s.err = fmt.Errorf("read service %s: %w", s.name, err)
	s.failures++
	if refused(err) {
		k.first(s) // the others do not wait for what will not come
	}
}

// retries queues the services whose time has come.
func (k *keeper) retries(now time.Time) {
	for name := range k.waiting {
		s := k.services[name]
		if s != nil && now.Before(s.retryAt) {
			continue
		}
		delete(k.waiting, name)
		if s != nil {
			k.queue = append(k.queue, name)
		}
	}
}

// readAll has everything read again; what Consul says at index is not news then.
func (k *keeper) readAll(index uint64) {
	if k.mode != Aggregate {
		k.followAll()
		return
	}
	for name, s := range k.services {
		s.index = 0
		k.want(name)
	}
	for _, n := range k.nodes {
		n.since = index
	}
}
