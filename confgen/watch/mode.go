package watch

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http/httptrace"
)

// Way is how changes of services are noticed.
type Way string

// The modes. Which one is used follows from the number of services, the connections that may be
// open, and whether they carry many queries each.
const (
	// Aggregate follows three lists and reads what they name: any number of services.
	Aggregate Way = "aggregate"
	// Direct asks a blocking query for each service: a few services, and the quickest way.
	Direct Way = "direct"
	// HTTP2 is Direct where one connection carries many queries: hundreds of services.
	HTTP2 Way = "http2"
)

const (
	// streams is how many queries a connection carries in HTTP/2; Consul allows 250.
	streams = 200
	// http2Most bounds the services followed one by one: each costs Consul a waiting query.
	http2Most = 1000
)

// directMost is how many services can be followed one by one: two connections are taken by the
// list of services and by what operators set live, and one stays free for what comes new.
func directMost(connections int, multiplexed bool) int {
	if multiplexed {
		return min(http2Most, (connections-1)*streams)
	}
	return connections - 3
}

// choose says how to follow so many services, given how they are followed now: what has been
// left for being too many is taken up again only when there are clearly fewer.
func choose(services, connections int, multiplexed bool, now Way) (Way, string) {
	most := directMost(connections, multiplexed)
	enter := most
	if now == Aggregate {
		enter = most * 3 / 4
	}
	switch {
	case services > enter && multiplexed:
		return Aggregate, fmt.Sprintf("%d services are more than the %d that %d connections of HTTP/2 follow one by one", services, enter, connections)
	case services > enter:
		return Aggregate, fmt.Sprintf("%d services are more than the %d that %d connections follow one by one", services, enter, connections)
	case multiplexed:
		return HTTP2, fmt.Sprintf("a query for each of %d services: Consul speaks HTTP/2, where a connection carries many", services)
	}
	return Direct, fmt.Sprintf("a query for each of %d services: %d connections are enough", services, connections)
}

// chooseMode follows services in the way that is best for so many.
func (k *keeper) chooseMode(services int) {
	w := k.watcher
	mode, reason := choose(services, w.opt.Connections, w.multiplexed.Load(), k.mode)
	if w.opt.mode != "" {
		mode, reason = w.opt.mode, "the test wants it"
	}
	k.reason = reason
	if mode == k.mode {
		return
	}
	k.log.Debug("following consul", "mode", string(mode), "reason", reason)
	k.enter(mode)
}

// enter leaves the mode of before and follows in another. What is known stays; all of it is read
// again, since nobody has watched in between.
func (k *keeper) enter(mode Way) {
	for _, stop := range k.stops {
		stop()
	}
	k.mode, k.stops, k.queue = mode, nil, nil
	k.checks, k.checksRead, k.nodes, k.hints = map[checkID]check{}, false, nil, hints{}
	k.sweep = sweep{asking: k.sweep.asking, count: k.sweep.count}
	clear(k.waiting)
	for _, s := range k.services {
		s.dirty = false
		k.unfollow(s)
	}
	if mode != Aggregate {
		delete(k.polls, pollChecks)
		delete(k.polls, pollNodes)
		k.pollErr = k.firstPollErr()
		k.followAll()
		return
	}
	if k.inCatalog > k.watcher.opt.narrowAbove {
		k.watcher.narrow.Store(true)
	}
	k.polls[pollChecks], k.polls[pollNodes] = &pollState{}, &pollState{}
	k.stops = []func(){k.spawn(k.watcher.pollChecks), k.spawn(k.watcher.pollNodes), k.spawn(k.watcher.pollHints)}
	for name := range k.services {
		k.want(name)
	}
}

// noticing returns a context for queries that shows whether connections carry many of them, which
// Consul's HTTPS listener does and what stands in front of it may not.
func (w *Watcher) noticing(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		secure, ok := info.Conn.(*tls.Conn)
		multiplexed := ok && secure.ConnectionState().NegotiatedProtocol == "h2"
		if w.multiplexed.Swap(multiplexed) == multiplexed {
			return
		}
		w.tell(ctx, func(k *keeper) {
			if k.mode != "" {
				k.chooseMode(k.inCatalog)
			}
		})
	}})
}
