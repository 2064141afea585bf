package catalog

import (
	"net"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway/registrator/service"
)

// An agent tells of a check what stands in its notes, and neither how it is made nor how long it
// lasts. So the notes say what is needed to see that something is to be registered anew.
const (
	keptBy  = "kept by registrator of "
	keptFor = ", lasts "
	madeAs  = "registered by registrator as "
)

// expiredOutput begins what an agent says of a check that nobody renewed.
const expiredOutput = "TTL expired"

func expired(check *api.AgentCheck) bool { return strings.HasPrefix(check.Output, expiredOutput) }

// keeperNotes tell whose the container's check is.
func (a *Agent) keeperNotes() string { return keptBy + a.opt.Registry + keptFor + a.opt.TTL.String() }

func keeperIn(notes string) string {
	rest, found := strings.CutPrefix(notes, keptBy)
	if !found {
		return ""
	}
	name, _, _ := strings.Cut(rest, keptFor)
	return name
}

// checkNotes tell how an active check is made.
func checkNotes(k service.Check) string {
	notes := madeAs + k.Fingerprint()
	if since := formatSince(k); since != "" {
		notes += "; " + since
	}
	return notes
}

// readNotes reads what checkNotes wrote. What somebody else wrote is like no fingerprint.
func readNotes(notes string) (fingerprint string, since time.Time) {
	rest, found := strings.CutPrefix(notes, madeAs)
	if !found {
		return "?", time.Time{}
	}
	fingerprint, words, _ := strings.Cut(rest, "; ")
	return fingerprint, parseSince(words)
}

// request is what an agent is asked to register: the service and all its checks at once. The
// statuses given hold for checks that the agent does not have yet.
func (a *Agent) request(row service.Registration) *api.AgentServiceRegistration {
	r := &api.AgentServiceRegistration{
		ID: row.ID, Name: row.Name, Address: row.Address, Port: row.Port, Tags: row.Tags, Meta: row.Meta,
		EnableTagOverride: row.EnableTagOverride, Weights: &api.AgentWeights{Passing: max(row.Weight, 1), Warning: 1},
		Namespace: a.opt.Namespace, Partition: a.opt.Partition,
		Checks: api.AgentServiceChecks{{
			CheckID: checkPrefix + row.ID, Name: checkName, TTL: a.opt.TTL.String(),
			Status: string(row.Status), Notes: a.keeperNotes(),
		}},
	}
	for name, at := range row.Addresses {
		if r.TaggedAddresses == nil {
			r.TaggedAddresses = map[string]api.ServiceAddress{}
		}
		r.TaggedAddresses[name] = api.ServiceAddress{Address: at.IP.String(), Port: at.Port}
	}
	for _, k := range row.Checks {
		r.Checks = append(r.Checks, a.check(row.ID, k))
	}
	return r
}

// check is an active check as an agent wants it: one to run, or one that we run and tell it of.
func (a *Agent) check(id string, k service.Check) *api.AgentServiceCheck {
	c := &api.AgentServiceCheck{
		CheckID: activeID(id, k.Kind), Name: string(k.Kind) + " check", Status: string(k.Status), Notes: checkNotes(k),
	}
	if !a.Runs(k) {
		c.TTL = a.opt.TTL.String()
		return c
	}
	c.Interval, c.Timeout = k.Interval.String(), k.Timeout.String()
	c.TLSSkipVerify, c.Method = k.SkipVerify, k.Method
	c.SuccessBeforePassing, c.FailuresBeforeWarning, c.FailuresBeforeCritical = k.SuccessBeforePassing, k.FailuresBeforeWarning, k.FailuresBeforeCritical
	switch k.Kind {
	case service.HTTP, service.HTTPS:
		c.HTTP = k.Target
		if header, ok := service.ParseHeader(k.Header); ok && len(header) > 0 {
			c.Header = header
			if name := header["Host"]; len(name) > 0 {
				c.TLSServerName = hostOf(name[0])
			}
		}
	case service.TCP:
		c.TCP = k.Target
	case service.GRPC:
		c.GRPC, c.GRPCUseTLS = k.Target, k.UseTLS
	case service.Script, service.Cmd:
	}
	return c
}

func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return hostPort
}
