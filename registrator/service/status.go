package service

import (
	"fmt"
	"strings"
)

// fate is what becomes of a container's rows.
type fate int

const (
	drop  fate = iota // no rows: it is not up
	keep              // the rows that exist stay; their ports cannot be read from the container now
	serve             // rows as its ports and metadata ask for
)

// life is what a container's state means for its rows.
type life struct {
	fate   fate
	status Status // empty with keep: as it was
	output string
	reason string // why nothing is registered, or why rows are kept
}

// Stopping is the output of a container that was told to stop and has not ended yet.
const Stopping = "stopping"

// lifeOf reads a container's state.
//
//	unknown                          keep as it is
//	created, removing, dead          drop
//	running, stopping                serve  critical  "stopping"
//	running, no health or healthy    serve  passing   "running", "healthy: …"
//	running, starting, unhealthy     serve  critical  "starting", "unhealthy: …"
//	paused                           serve  critical  "paused"
//	restarting                       keep   critical  "restarting after exit code 1"
//	exited, --deregister always      drop
//	exited, on-success, clean        drop             exit code 0 or from 128 on, or --rm
//	exited, on-success, failed       keep   critical  "exited with code 1"
//
// A container that is not running has no bound ports and no addresses: what is known of them is
// in its rows only, which is why they are kept and not computed.
func lifeOf(c *Container, deregister Deregister) life {
	switch c.State {
	case Running:
		status, output := healthOf(c)
		return life{fate: serve, status: status, output: output}
	case Paused:
		if c.Stopping {
			return life{fate: serve, status: Critical, output: Stopping}
		}
		return life{fate: serve, status: Critical, output: "paused"}
	case Restarting:
		output := fmt.Sprintf("restarting after exit code %d", c.ExitCode)
		return life{fate: keep, status: Critical, output: output, reason: output}
	case Exited:
		output := fmt.Sprintf("exited with code %d", c.ExitCode)
		if deregister == OnSuccess && !c.AutoRemove && failed(c.ExitCode) {
			return life{fate: keep, status: Critical, output: output, reason: output}
		}
		return life{reason: output}
	case Unknown:
		return life{fate: keep, reason: "it could not be read just now"}
	case Created, Removing, Dead:
	}
	return life{reason: "its state is " + string(c.State)}
}

// failed tells a failure from an end that was asked for. From 128 on, a signal ended it.
func failed(code int) bool { return code != 0 && code < 128 }

func healthOf(c *Container) (Status, string) {
	if c.Stopping {
		return Critical, Stopping
	}
	switch c.Health {
	case Starting:
		return Critical, "starting"
	case Healthy:
		return Passing, joinOutput("healthy", c.HealthOutput)
	case Unhealthy:
		return Critical, joinOutput("unhealthy", c.HealthOutput)
	case NoHealth:
	}
	if c.Mesh {
		return Passing, "published by the routing mesh"
	}
	return Passing, "running"
}

// maxOutput bounds what a probe may write into the catalog, in bytes.
const maxOutput = 256

// joinOutput is the state and what the probe said, as one line that Consul returns unchanged.
func joinOutput(state, said string) string {
	said = strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(said, "?"))
	said = strings.TrimSpace(said)
	if said == "" {
		return state
	}
	if len(said) > maxOutput {
		said = strings.ToValidUTF8(said[:maxOutput], "") + "…"
	}
	return state + ": " + said
}

// state is the part of a check's output that says in which state the container is.
func state(output string) string {
	state, _, _ := strings.Cut(output, ":")
	return state
}
