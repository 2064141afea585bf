package docker

import (
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopMargin is how long beyond its stop timeout a container that got its stop signal counts as
// stopping while it still runs. `docker stop -t` and Swarm's grace period do not show in the
// container, so the margin is generous: a container that drains and gets requests again loses
// them, one that ignores its stop signal merely returns later.
const stopMargin = 2 * time.Minute

// killedFor is how long a signal is remembered of a container that is no longer listed.
const killedFor = 10 * time.Minute

// memory holds what events told and no listing tells: which containers changed, and which got a
// signal. Events write it, listings read it.
type memory struct {
	mu      sync.Mutex
	epoch   uint64 // grows when events may have been missed: nothing read before counts
	clock   uint64 // grows with every event
	live    bool   // the event stream stands
	changed map[string]uint64
	killed  map[string]map[int]sent // container → signal, or died → when it was last sent
	hot     map[string]bool         // containers that changed since they were last looked at → whether they started
	gone    bool                    // some container was removed since the last listing
}

// died stands among the signals for the end of a run.
const died = -1

// sent is a signal that a container got.
type sent struct {
	at   time.Time
	over uint64 // what is read from here on, in events, shows a later run; zero for not yet
}

// stamp is the moment a container was read at, in events.
type stamp struct{ epoch, clock uint64 }

func newMemory() *memory {
	return &memory{changed: map[string]uint64{}, killed: map[string]map[int]sent{}, hot: map[string]bool{}}
}

// connected starts a new epoch: what happened while no stream stood is unknown.
func (m *memory) connected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	m.live = true
	clear(m.changed)
}

func (m *memory) disconnected() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live = false
}

// change notes that a container must be read again.
func (m *memory) change(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock++
	m.changed[id] = m.clock
	if _, noted := m.hot[id]; !noted {
		m.hot[id] = false
	}
}

// started notes that a container runs from now on, which the change says that is noted next. What signals
// it got before are of its former run, which is what is known of it until it has been read.
func (m *memory) started(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hot[id] = true
	for signal, s := range m.killed[id] {
		if s.over == 0 {
			m.killed[id][signal] = sent{s.at, m.clock + 1}
		}
	}
}

// list is called before a listing. It returns the containers that changed since they were last
// looked at, and whether they started.
func (m *memory) list() (read stamp, hot map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone = false
	return m.stamp(), m.takeHot()
}

// glance is called before a glance. It returns what list does; sure is false where more may have
// happened since a listing than these containers tell, or they are too many.
func (m *memory) glance(listed stamp) (read stamp, hot map[string]bool, sure bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.live || m.gone || listed.epoch != m.epoch || len(m.hot) > inspectParallel {
		return stamp{}, nil, false
	}
	return m.stamp(), m.takeHot(), true
}

func (m *memory) takeHot() map[string]bool {
	hot := m.hot
	m.hot = map[string]bool{}
	return hot
}

func (m *memory) stamp() stamp { return stamp{m.epoch, m.clock} }

// kill notes a signal sent to a container.
func (m *memory) kill(id string, signal int, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(id, signal, sent{at: at})
}

// ended notes that a run of a container is over, which the change says that is noted next.
func (m *memory) ended(id string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(id, died, sent{at, m.clock + 1})
}

func (m *memory) note(id string, signal int, s sent) {
	if m.killed[id] == nil {
		m.killed[id] = map[int]sent{}
	}
	m.killed[id][signal] = s
}

// forgetKilled drops the signals of containers that are not listed, long after they were sent. Until
// then somebody may still take one that has just ended for one that runs.
func (m *memory) forgetKilled(listed func(id string) bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, signals := range m.killed {
		for signal, s := range signals {
			if now.Sub(s.at) > killedFor && !listed(id) {
				delete(signals, signal)
			}
		}
		if len(signals) == 0 {
			delete(m.killed, id)
		}
	}
}

// removed forgets that a container has changed: it is no more.
func (m *memory) removed(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.changed, id)
	delete(m.hot, id)
	m.gone = true
}

// fresh reports whether nothing is known to have happened to a container since it was read.
func (m *memory) fresh(id string, read stamp) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live && read.epoch == m.epoch && m.changed[id] <= read.clock
}

// now is a stamp for something that begins to be read.
func (m *memory) now() stamp {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stamp()
}

// changedSince reports whether something is known to have happened to a container, or may have, since a
// reading of it began. Without a stream nobody knows, and nothing that is read would ever be taken.
func (m *memory) changedSince(id string, read stamp) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return read.epoch != m.epoch || m.changed[id] > read.clock
}

// run is what is known of a container's present run.
type run struct {
	read        stamp
	started     time.Time
	stopSignal  int
	stopTimeout time.Duration
}

// stopping reports whether a container got its stop signal or SIGKILL, and until when that is
// believed of it while it still runs; or whether it has ended, which is believed until it has been read
// again, with no until. What was sent before it started, by the clock or in the order of events, ended its
// run before.
func (m *memory) stopping(id string, r run, now time.Time) (until time.Time, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for signal, s := range m.killed[id] {
		switch {
		case s.at.Before(r.started) || s.over > 0 && s.over <= r.read.clock:
		case signal == died:
			return time.Time{}, true
		case signal == r.stopSignal || signal == int(syscall.SIGKILL):
			if end := s.at.Add(r.stopTimeout + stopMargin); end.After(now) && end.After(until) {
				until, yes = end, true
			}
		}
	}
	return until, yes
}

// signals are the names a Dockerfile's STOPSIGNAL may use besides numbers and real-time ones.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8,
	"KILL": 9, "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
	"STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22,
	"URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29,
	"POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}

// signalNumber reads "SIGTERM", "TERM", "15" and "SIGRTMIN+3" as Docker does on Linux; ok is
// false for what is no signal.
func signalNumber(s string) (number int, ok bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return n, n > 0
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n, ok := signals[name]; ok {
		return n, true
	}
	for base, sign := range map[string]int{"RTMIN+": 1, "RTMAX-": -1} {
		rest, found := strings.CutPrefix(name, base)
		if !found {
			continue
		}
		n, err := strconv.Atoi(rest)
		return signals[base[:5]] + sign*n, err == nil
	}
	return 0, false
}
